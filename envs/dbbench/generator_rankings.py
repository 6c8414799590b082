"""Intents of questions that rank, and those that add up."""

from __future__ import annotations

from functools import partial

from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected
from envs.dbbench.generator_material import (
    Offer,
    a_category,
    a_number,
    children,
    known,
    names,
    parents,
    row_filters,
    via_parent,
)
from envs.dbbench.generator_query import Agg, Condition, Query, Ref
from envs.dbbench.generator_words import Speech

__all__ = ["AGGREGATIONS", "RANKINGS"]

_EASY, _MEDIUM, _HARD = Level.EASY, Level.MEDIUM, Level.HARD
_ORDINALS = ("", "second ", "third ", "fourth ")
_COUNTS = ("", "", "two", "three", "four", "five")
_NULL = frozenset({"null"})
_MISSING = ("A missing value is not known and is left out.", "Rows where it is NULL do not count.")


def _extreme(speech: Speech, number: Ref, *, most: bool) -> str:
    if speech.scene.tables[number.table].fields[number.column].kind == "date":
        return "latest" if most else "earliest"
    return speech.pick("highest", "largest", "greatest") if most else speech.pick("lowest", "smallest")


def _top(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech, dates=True)
    most = speech.draw.chance(0.6)
    own = (
        ()
        if speech.level is _EASY
        else speech.filters(name.table, 2 if speech.scene.flat else 1, 2, avoid=(number.column,))
    )
    clause = speech.clause(own, name.table)
    word, what, row, rows = _extreme(speech, number, most=most), speech.said(number), speech.main.row, speech.main.rows
    among = f" {clause}" if clause else ""
    question = speech.pick(
        f"Which {row}{among} has the {word} {what}?",
        f"Of all the {rows}{among}, which one has the {word} {what}?",
        f"what {row}{among} is the one with the {word} {what}?",
        f"Name the {row}{among} that has the {word} {what}.",
        f"{word} {what}{among}: which {row}?",
    )
    query = Query(name.table, (name,), where=(*own, *known(speech, number)), order=number, descending=most, limit=1)
    return Draft("top", speech.ask(question), query)


def _value_of_top(speech: Speech) -> Draft:
    """Another column of the row at the top."""
    number = a_number(speech, dates=True)
    others = [i for i in speech.main.of_kind("category", "number", "date") if i != number.column]
    if not others:
        raise Rejected(Reason.NO_MATERIAL)
    wanted = Ref(number.table, speech.draw.choice(others))
    most = speech.draw.chance(0.6)
    fewest = 2 if speech.scene.flat else 1
    own = () if speech.level is _EASY else speech.filters(number.table, fewest, 2, avoid=(number.column, wanted.column))
    clause = speech.clause(own, number.table)
    among = f" {clause}" if clause else ""
    word, what, row = _extreme(speech, number, most=most), speech.said(number), speech.main.row
    question = speech.pick(
        f"What is the {speech.said(wanted)} of the {row}{among} with the {word} {what}?",
        f"Find the {row}{among} that has the {word} {what}. What is its {speech.said(wanted)}?",
        f"For the {row}{among} with the {word} {what}, name the {speech.said(wanted)}.",
        f"{speech.said(wanted)} of the {row}{among} with the {word} {what}?",
    )
    query = Query(number.table, (wanted,), where=(*own, *known(speech, number)), order=number, descending=most, limit=1)
    return Draft("value of top", speech.ask(question), query)


def _nth(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech, dates=True)
    most, place = speech.draw.chance(0.6), speech.draw.between(1, 3)
    own = () if speech.level is _EASY else speech.filters(name.table, 0, 2, avoid=(number.column,))
    clause = speech.clause(own, name.table)
    word, what, row = _extreme(speech, number, most=most), speech.said(number), speech.main.row
    among = f" {clause}" if clause else ""
    nth = _ORDINALS[place] + word
    question = speech.pick(
        f"Which {row}{among} has the {nth} {what}?",
        f"Name the {row}{among} with the {nth} {what}.",
        f"Order the {speech.main.rows}{among} by {what}. Which one has the {nth}?",
        f"Who or what comes with the {nth} {what} among the {speech.main.rows}{among}?",
    )
    where = (*own, *known(speech, number))
    query = Query(name.table, (name,), where=where, order=number, descending=most, limit=1, offset=place)
    return Draft("nth", speech.ask(question), query)


def _top_k(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech, dates=True)
    most, count = speech.draw.chance(0.6), speech.draw.between(2, 5)
    own = () if speech.level is _EASY else speech.filters(name.table, 0, 2, avoid=(number.column,))
    clause = speech.clause(own, name.table)
    word, what, rows = _extreme(speech, number, most=most), speech.said(number), speech.main.rows
    among = f" {clause}" if clause else ""
    number_word = speech.pick(_COUNTS[count], str(count))
    question = speech.pick(
        f"List the {number_word} {rows}{among} with the {word} {what}.",
        f"Which {number_word} {rows}{among} have the {word} {what}?",
        f"Give me the {number_word} {rows}{among} that have the {word} {what}.",
        f"{rows}{among}: the {number_word} with the {word} {what}?",
    )
    where = (*own, *known(speech, number))
    query = Query(name.table, (name,), where=where, order=number, descending=most, limit=count)
    return Draft("top k", speech.ask(question), query)


def _top_group(speech: Speech) -> Draft:
    ref, number = a_category(speech), a_number(speech, additive=True)
    function = speech.draw.choice(("SUM", "AVG", "MAX"))
    own = speech.filters(ref.table, 0, 2, avoid=(ref.column, number.column))
    clause, rows, said, what = speech.clause(own, ref.table), speech.main.rows, speech.said(ref), speech.said(number)
    most, place = speech.draw.chance(0.6), speech.draw.choice((0, 0, 1))
    word = _ORDINALS[place] + ("highest" if most else "lowest")
    called = {"SUM": "total", "AVG": "average", "MAX": "maximum"}[function]
    among = f" over the {rows} {clause}" if clause else f" over all {rows}"
    question = speech.pick(
        f"Which {said} has the {word} {called} {what}{among}?",
        f"Group by {said}: which one has the {word} {called} {what}{among}?",
        f"Compute the {called} {what} for each {said}{among}. Which {said} has the {word}?",
        f"Name the {said} with the {word} {called} {what}{among}.",
    )
    where = (*own, *known(speech, ref))
    agg = Agg(function, number)
    query = Query(ref.table, (ref,), where=where, group=ref, order=agg, descending=most, limit=1, offset=place)
    return Draft("rank groups", speech.ask(question), query)


def _top_joined(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech, dates=True)
    join, there, said = via_parent(speech)
    own = speech.filters(name.table, 0, 1, avoid=(number.column,)) if speech.level is _HARD else ()
    clause = speech.clause((*there, *own), name.table)
    most = speech.draw.chance(0.6)
    count = speech.draw.choice((1, 1, 2, 3))
    word, what, row, rows = _extreme(speech, number, most=most), speech.said(number), speech.main.row, speech.main.rows
    if count == 1:
        question = speech.pick(
            f"Which {row} {clause} has the {word} {what}?",
            f"Among the {rows} {clause}, which one has the {word} {what}?",
            f"Name the {row} {clause} that has the {word} {what}.",
            f"Look at the {rows} {clause}: which has the {word} {what}?",
        )
    else:
        question = speech.pick(
            f"Which {_COUNTS[count]} {rows} {clause} have the {word} {what}?",
            f"Name the {_COUNTS[count]} {rows} {clause} with the {word} {what}.",
        )
    where = (*there, *own, *known(speech, number))
    query = Query(name.table, (name,), (join,), where, order=number, descending=most, limit=count)
    return Draft("rank joined", speech.ask(question), query, said=said)


def _top_parent(speech: Speech) -> Draft:
    """Which parent has the most rows, or the highest total of them."""
    links = parents(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    join = speech.draw.choice(links)
    parent = speech.scene.tables[join.parent]
    wanted = Ref(join.parent, parent.key)
    own = speech.filters(speech.scene.main, 0, 1)
    clause, rows, role = speech.clause(own, speech.scene.main, "whose"), speech.main.rows, join.said
    those = f"{rows} {clause}" if clause else rows
    most = speech.draw.chance(0.7)
    if speech.draw.chance(0.5):
        agg, what = Agg("COUNT"), f"{'most' if most else 'fewest'} {those}"
    else:
        number = a_number(speech, additive=True)
        agg = Agg("SUM", number)
        what = f"{'highest' if most else 'lowest'} total {speech.said(number)} of {those}"
    question = speech.pick(
        f"Which {role} has the {what}?",
        f"Name the {role} with the {what}.",
        f"Group the {rows} by {role}. Which {role} comes out with the {what}?",
        f"{role} with the {what}?",
    ) + ("" if most else f" Leave out those without any {rows}.")
    query = Query(speech.scene.main, (wanted,), (join,), own, group=wanted, order=agg, descending=most, limit=1)
    return Draft("rank parents", speech.ask(question), query, said=frozenset({"role"}))


RANKINGS: tuple[Offer, ...] = (
    Offer(_top, (_EASY, _MEDIUM)),
    Offer(_value_of_top, (_EASY, _MEDIUM)),
    Offer(_value_of_top, (_HARD,), "typed"),
    Offer(_nth, (_EASY, _MEDIUM)),
    Offer(_top_k, (_EASY, _MEDIUM)),
    Offer(_top_group, (_MEDIUM, _HARD)),
    Offer(_top_joined, (_MEDIUM, _HARD), "parent"),
    Offer(_top_parent, (_HARD,), "parent"),
)


# Add up.

_CALLED = {
    "SUM": ("total", "sum of the", "combined"),
    "MIN": ("minimum", "lowest", "smallest"),
    "MAX": ("maximum", "highest", "largest"),
    "AVG": ("average", "mean"),
}
_CALLED_OF_DATES = {"MIN": "earliest", "MAX": "latest"}


def _measure(speech: Speech, function: str) -> tuple[Ref, str]:
    """A column that may be aggregated so, and how that is called."""
    number = a_number(speech, additive=function in ("SUM", "AVG"), dates=function in ("MIN", "MAX"))
    field = speech.scene.tables[number.table].fields[number.column]
    word = _CALLED_OF_DATES[function] if field.kind == "date" else speech.draw.choice(_CALLED[function])
    return number, f"{word} {field.said}"


def _hint(speech: Speech, function: str, number: Ref) -> tuple[str, frozenset[str]]:
    """What NULL means, where an average would tell it apart."""
    if function == "AVG" and speech.scene.tables[number.table].fields[number.column].nullable:
        return speech.draw.choice(_MISSING), _NULL
    return "", frozenset()


def _aggregate(speech: Speech, function: str) -> Draft:
    number, what = _measure(speech, function)
    whole = speech.level is _EASY and speech.draw.chance(0.3)
    own = () if whole else row_filters(speech, avoid=(number.column,))
    clause = speech.clause(own, number.table)
    among = f" {clause}" if clause else ""
    rows = speech.main.rows
    question = speech.pick(
        f"What is the {what} of {'all ' if whole else 'the '}{rows}{among}?",
        f"Calculate the {what} over the {rows}{among}.",
        f"{what} of the {rows}{among}?",
        f"I would like to know the {what} for {rows}{among}. What is it?",
        f"Tell me the {what} among the {rows}{among}.",
    )
    if own and speech.draw.chance(0.3):  # as in AgentBench: with the condition in front
        when = speech.clause(own, number.table, "where").removeprefix("where ")
        question = speech.pick(f"When {when}, what is the {what}?", f"What is the {what}, when {when}?")
    evidence, said = _hint(speech, function, number)
    query = Query(number.table, (Agg(function, number),), where=own)
    return Draft("aggregate", speech.ask(question), query, evidence=evidence, said=said)


def _aggregate_joined(speech: Speech, function: str) -> Draft:
    number, what = _measure(speech, function)
    join, there, said = via_parent(speech)
    own = speech.filters(number.table, 0 if speech.level is _MEDIUM else 1, 2, avoid=(number.column,))
    if speech.level is _MEDIUM:
        own = ()
    clause, rows = speech.clause((*there, *own), number.table), speech.main.rows
    question = speech.pick(
        f"What is the {what} of the {rows} {clause}?",
        f"Calculate the {what} for all {rows} {clause}.",
        f"Take the {rows} {clause}. What is their {what}?",
        f"Work out the {what} over {rows} {clause}.",
    )
    evidence, more = _hint(speech, function, number)
    query = Query(number.table, (Agg(function, number),), (join,), (*there, *own))
    return Draft("aggregate joined", speech.ask(question), query, evidence=evidence, said=said | more)


def _aggregate_children(speech: Speech, function: str) -> Draft:
    links = children(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    join = speech.draw.choice(links)
    child = speech.scene.tables[join.child]
    number = a_number(speech, join.child, additive=function in ("SUM", "AVG"))
    own = speech.filters(speech.scene.main, 1, 1)
    there = speech.filters(join.child, 0, 1, avoid=(number.column,))
    clause, more = speech.clause(own, speech.scene.main, "whose"), speech.clause(there, join.child, "whose")
    which = f"{child.rows} {more}" if more else child.rows
    what = f"{speech.draw.choice(_CALLED[function])} {speech.said(number)}"
    rows = speech.main.rows
    question = speech.pick(
        f"What is the {what} of all {which} of {rows} {clause}?",
        f"Take the {rows} {clause} and their {which}. What is the {what} of these {child.rows}?",
        f"Calculate the {what} over the {which} that belong to {rows} {clause}.",
        f"{what} of the {which} of {rows} {clause}?",
    )
    evidence, said = _hint(speech, function, number)
    query = Query(join.child, (Agg(function, number),), (join,), (*there, *own))
    return Draft("aggregate children", speech.ask(question), query, evidence=evidence, said=said)


def _aggregate_nested(speech: Speech, function: str) -> Draft:
    """Over the rows beyond the average of another column."""
    number, what = _measure(speech, function)
    other = a_number(speech)
    if other == number:
        raise Rejected(Reason.NO_MATERIAL)
    own = speech.filters(number.table, 0, 2, avoid=(number.column, other.column))
    clause, rows = speech.clause(own, number.table, "whose"), speech.main.rows
    those = f"{rows} {clause}" if clause else rows
    above = speech.draw.chance(0.6)
    word, measure = "above" if above else "below", speech.said(other)
    beyond = f"with {speech.one(other)} {word} the average {measure} of all {rows}"
    question = speech.pick(
        f"What is the {what} of the {those}, counting only those {beyond}?",
        f"Consider the {rows} {beyond}. What is the {what} of the {those} among them?",
        f"Calculate the {what} over {those}, but only {beyond}.",
        f"Only for {rows} {beyond}: the {what} of the {those}?",
    )
    evidence, said = _hint(speech, function, number)
    said |= _NULL if speech.main.fields[other.column].nullable and evidence else frozenset()
    where = (*own, Condition(other, ">" if above else "<", Query(other.table, (Agg("AVG", other),))))
    query = Query(number.table, (Agg(function, number),), where=where)
    return Draft("aggregate nested", speech.ask(question), query, evidence=evidence, said=said)


def _aggregations(function: str) -> tuple[Offer, ...]:
    return (
        Offer(partial(_aggregate, function=function), (_EASY, _MEDIUM, _HARD)),
        Offer(partial(_aggregate_joined, function=function), (_MEDIUM, _HARD), "parent"),
        Offer(partial(_aggregate_children, function=function), (_HARD,), "child"),
        Offer(partial(_aggregate_nested, function=function), (_MEDIUM, _HARD)),
    )


AGGREGATIONS = {function: _aggregations(function) for function in ("SUM", "MIN", "MAX", "AVG")}
"""Intents by function."""
