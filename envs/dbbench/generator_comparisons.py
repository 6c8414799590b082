"""Intents of questions that compare."""

from __future__ import annotations

from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected
from envs.dbbench.generator_material import (
    Offer,
    a_category,
    a_number,
    a_row,
    known,
    names,
    via_parent,
)
from envs.dbbench.generator_query import Agg, Condition, Difference, Query
from envs.dbbench.generator_words import Speech

__all__ = ["COMPARISONS"]

_EASY, _MEDIUM, _HARD = Level.EASY, Level.MEDIUM, Level.HARD


def _two_rows(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech, dates=speech.level is not _EASY)
    texts = [row[name.column] or "" for row in speech.draw.sample(speech.main.table.rows, 2)]
    is_date = speech.main.fields[number.column].kind == "date"
    more = speech.draw.chance(0.5)
    word = ("later" if more else "earlier") if is_date else ("higher" if more else "lower")
    one, two = (speech.value(name, text) for text in texts)
    what, row = speech.said(number), speech.main.row
    question = speech.pick(
        f"Which {row} has the {word} {what}, {one} or {two}?",
        f"{one} or {two}: which of the two has {speech.one(number, word)}?",
        f"Compare {one} with {two}. Whose {what} is {word}?",
        f"Between {one} and {two}, which {row} has the {word} {what}?",
    )
    where = (Condition(name, "in", tuple(texts), named=False), *known(speech, number))
    query = Query(name.table, (name,), where=where, order=number, descending=more, limit=1)
    return Draft("two rows", speech.ask(question), query)


def _beyond_row(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech)
    _, text = a_row(speech)
    more = speech.draw.chance(0.5)
    own = speech.filters(name.table, 1, 2, avoid=(number.column,)) if speech.level is _HARD else ()
    clause = speech.clause(own, name.table)
    among = f" {clause}" if clause else ""
    word, what, rows, key = (
        "higher" if more else "lower",
        speech.said(number),
        speech.main.rows,
        speech.value(name, text),
    )
    question = speech.pick(
        f"Which {rows}{among} have {speech.one(number, word)} than {key}?",
        f"Name the {rows}{among} with {speech.one(number)} {word} than that of {key}.",
        f"Take the {what} of {key}. Which {rows}{among} have a {word} one?",
        f"List every {speech.main.row}{among} that has {speech.one(number, word)} than {key}.",
    )
    inner = Query(name.table, (number,), where=(Condition(name, "=", text, named=False),))
    where = (*own, Condition(number, ">" if more else "<", inner, strict=True))
    return Draft("beyond a row", speech.ask(question), Query(name.table, (name,), where=where))


def _beyond_average(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech)
    own = speech.filters(name.table, 1, 2, avoid=(number.column,))
    clause, rows, what = speech.clause(own, name.table), speech.main.rows, speech.said(number)
    above = speech.draw.chance(0.6)
    word = "above" if above else "below"
    whole = f"the average {what} of all {rows}"
    question = speech.pick(
        f"Which {rows} {clause} have {speech.one(number)} {word} {whole}?",
        f"Name the {rows} {clause} with {speech.one(number)} {word} {whole}.",
        f"Compare the {rows} {clause} with {whole}: which lie {word} it?",
        f"List each {speech.main.row} {clause} that has {speech.one(number)} {word} {whole}.",
    )
    where = (*own, Condition(number, ">" if above else "<", Query(name.table, (Agg("AVG", number),))))
    return Draft("beyond average", speech.ask(question), Query(name.table, (name,), where=where))


def _difference(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech)
    texts = [row[name.column] or "" for row in speech.draw.sample(speech.main.table.rows, 2)]
    one, two = (speech.value(name, text) for text in texts)
    what = speech.said(number)
    question = speech.pick(
        f"What is the difference in {what} between {one} and {two}?",
        f"By how much do {one} and {two} differ in {what}?",
        f"How far apart are {one} and {two} in {what}?",
        f"{what}: difference between {one} and {two}?",
    )
    parts = [Query(name.table, (number,), where=(Condition(name, "=", text, named=False),)) for text in texts]
    return Draft("difference", speech.ask(question), Difference(*parts))


def _smaller_than(speech: Speech) -> Draft:
    """AgentBench's own comparison: a value by conditions, one of them with an order."""
    number = a_number(speech)
    wanted = names(speech)
    bound = speech.filter(number)
    own = speech.filters(
        number.table, 0 if speech.level is _EASY else 1, 0 if speech.level is _EASY else 2, avoid=(number.column,)
    )
    where = (*own, bound)
    listed = ", and ".join(speech.condition(condition, number.table, "with") for condition in where)
    clause, said = speech.clause(where, number.table), speech.said(wanted)
    question = speech.pick(
        f"Which {said} has {listed}?",
        f"What {said} has {listed}?",
        f"Name the {said} for {speech.main.rows} {clause}",
        f"Which {speech.main.rows} are there {clause}?",
        f"{speech.main.rows} with {listed}: which?",
    )
    return Draft("comparison filter", speech.ask(question), Query(number.table, (wanted,), where=where))


def _compare_groups(speech: Speech) -> Draft:
    ref = a_category(speech)
    texts = list(dict.fromkeys(row[ref.column] for row in speech.main.table.rows if row[ref.column]))
    if len(texts) < 2:
        raise Rejected(Reason.NO_MATERIAL)
    pair = tuple(text or "" for text in speech.draw.sample(texts, 2))
    count = speech.draw.chance(0.3)
    number = None if count else a_number(speech, additive=True)
    function = "COUNT" if number is None else speech.draw.choice(("SUM", "AVG"))
    most = 2 if speech.level is _HARD else 1
    own = speech.filters(ref.table, most - 1, most, avoid=(ref.column, *(() if number is None else (number.column,))))
    clause, said, rows = speech.clause(own, ref.table), speech.said(ref), speech.main.rows
    those = f"{rows} {clause}" if clause else rows
    what = {"COUNT": f"number of {rows}", "SUM": "total ", "AVG": "average "}[function]
    what = what if number is None else what + speech.said(number)
    one, two = (speech.value(ref, text) for text in pair)
    more = speech.draw.chance(0.6)
    word = "higher" if more else "lower"
    question = speech.pick(
        f"Among the {those}, which {said} has the {word} {what}: {one} or {two}?",
        f"Compare {said} {one} and {two}, counting only {those}. Which has the {word} {what}?",
        f"Which of the {said} values {one} and {two} has a {word} {what} over the {those}?",
        f"{one} or {two}: which {said} has the {word} {what} for {those}?",
    )
    agg = Agg(function, number)
    where = (*own, Condition(ref, "in", pair))
    query = Query(ref.table, (ref,), where=where, group=ref, order=agg, descending=more, limit=1)
    return Draft("compare groups", speech.ask(question), query)


def _joined_comparison(speech: Speech) -> Draft:
    name, number = names(speech), a_number(speech)
    join, there, said = via_parent(speech)
    own = (
        speech.filter(number),
        *(speech.filters(name.table, 1, 1, avoid=(number.column,)) if speech.level is _HARD else ()),
    )
    clause, rows = speech.clause((*there, *own), name.table), speech.main.rows
    question = speech.pick(
        f"Which {rows} are there {clause}?",
        f"Find the {rows} {clause}.",
        f"What {rows} do we have {clause}?",
        f"Name each {speech.main.row} {clause}.",
    )
    query = Query(name.table, (name,), (join,), (*there, *own))
    return Draft("join comparison", speech.ask(question), query, said=said)


COMPARISONS: tuple[Offer, ...] = (
    Offer(_two_rows, (_EASY,)),
    Offer(_two_rows, (_MEDIUM,), "typed"),
    Offer(_smaller_than, (_EASY, _MEDIUM)),
    Offer(_smaller_than, (_HARD,), "typed"),
    Offer(_beyond_row, (_MEDIUM, _HARD)),
    Offer(_beyond_average, (_MEDIUM, _HARD)),
    Offer(_difference, (_EASY, _MEDIUM)),
    Offer(_compare_groups, (_MEDIUM, _HARD)),
    Offer(_joined_comparison, (_MEDIUM, _HARD), "parent"),
)
