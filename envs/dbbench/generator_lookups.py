"""Intents of questions that look something up."""

from __future__ import annotations

from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected
from envs.dbbench.generator_material import (
    Offer,
    a_category,
    a_number,
    a_row,
    children,
    known,
    names,
    parents,
    row_filters,
    via_parent,
)
from envs.dbbench.generator_query import Agg, Condition, Having, Query, Ref
from envs.dbbench.generator_words import Speech, join_words

__all__ = ["LOOKUPS"]

_EASY, _MEDIUM, _HARD = Level.EASY, Level.MEDIUM, Level.HARD


def _lookup(speech: Speech) -> Draft:
    name, text = a_row(speech)
    others = [i for i in speech.main.of_kind("category", "number", "date") if i != name.column]
    wanted = speech.draw.sample(others, 2 if speech.level is not _EASY and speech.draw.chance(0.5) else 1)
    said = join_words([speech.said(Ref(name.table, i)) for i in wanted])
    row, key = speech.main.row, speech.value(name, text)
    named = speech.draw.chance(0.3)
    question = (
        speech.pick(
            f"What is the {said} when the {speech.said(name)} is {key}?",
            f"Name the {said} for {speech.said(name)} of {key}.",
            f"Which {said} has {speech.one(name)} of {key}?",
        )
        if named
        else speech.pick(
            f"What is the {said} of the {row} {key}?",
            f"Find the {said} for {key}.",
            f"I need the {said} of {key}. What is it?",
            f"{said} of {key}?",
            f"Name the {said} for {key}",
            f"Could you look up the {said} of the {row} called {key}?",
        )
    )
    where = (Condition(name, "=", text, named=named),)
    return Draft(
        "lookup", speech.ask(question), Query(name.table, tuple(Ref(name.table, i) for i in wanted), where=where)
    )


def _reverse(speech: Speech) -> Draft:
    name = names(speech)
    where = row_filters(speech)
    rows, row, clause = speech.main.rows, speech.main.row, speech.clause(where, name.table)
    question = speech.pick(
        f"Which {rows} are there {clause}?",
        f"Name every {row} {clause}.",
        f"List the {speech.said(name)} of all {rows} {clause}.",
        f"which {row} can be found {clause}?",
        f"Give me the {rows} {clause}; their {speech.said(name)} is enough.",
    )
    return Draft("filter", speech.ask(question), Query(name.table, (name,), where=where))


def _contains(speech: Speech) -> Draft:
    name, text = a_row(speech)
    words = [word for word in text.split(" ") if len(word) > 3 and word.isalpha()]
    if not words:
        raise Rejected(Reason.NO_MATERIAL)
    word = speech.quoted(speech.draw.choice(words))
    where = (Condition(name, "contains", word[1:-1]), *(row_filters(speech) if speech.level is not _EASY else ()))
    rows, said = speech.main.rows, speech.said(name)
    more = speech.clause(where[1:], name.table, "whose")
    more = f" and {more}" if more else ""
    question = speech.pick(
        f"Which {rows} have {word} in their {said}{more}?",
        f"List all {rows} whose {said} contains {word}{more}.",
        f"Find every {speech.main.row} with {word} somewhere in the {said}{more}.",
        f"{rows} whose {said} includes {word}{more}?",
    )
    return Draft("text match", speech.ask(question), Query(name.table, (name,), where=where))


def _lookup_parent(speech: Speech) -> Draft:
    links = parents(speech)
    name, text = a_row(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    join = speech.draw.choice(links)
    parent = speech.scene.tables[join.parent]
    column = speech.draw.choice(parent.of_kind("name", "category", "number", "date"))
    wanted = Ref(join.parent, column)
    said, key, role = speech.said(wanted), speech.value(name, text), join.said
    question = speech.pick(
        f"What is the {said} of the {role} of {key}?",
        f"The {speech.main.row} {key} has {speech.a(role)}. What is its {said}?",
        f"Look up the {role} of the {speech.main.row} {key} and tell me its {said}.",
        f"{said} of {key}'s {role}?",
    )
    where = (Condition(name, "=", text, named=False),)
    more: tuple[Ref, ...] = ()
    if speech.level is _HARD and speech.draw.chance(0.6):
        other = speech.draw.choice(
            [i for i in speech.main.of_kind("category", "number") if i != name.column] or [name.column]
        )
        more = (Ref(name.table, other),)
        question = f"What is the {said} of the {role} of {key}, and what is the {speech.said(more[0])} of {key} itself?"
    query = Query(name.table, (wanted, *more), (join,), where)
    return Draft("join lookup", speech.ask(question), query, said=frozenset({"role"}))


def _by_parent(speech: Speech) -> Draft:
    name = names(speech)
    join, where, said = via_parent(speech)
    own = speech.filters(name.table, 1, 2) if speech.level is _HARD or speech.draw.chance(0.4) else ()
    clause = speech.clause((*own, *where), name.table, "whose")
    rows = speech.main.rows
    question = speech.pick(
        f"Which {rows} are there {clause}?",
        f"Name the {rows} {clause}.",
        f"I am looking for {rows} {clause}. Which are they?",
        f"List every {speech.main.row} {clause}.",
    )
    return Draft("join filter", speech.ask(question), Query(name.table, (name,), (join,), (*own, *where)), said=said)


def _by_child(speech: Speech) -> Draft:
    name, links = names(speech), children(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    join = speech.draw.choice(links)
    child = speech.scene.tables[join.child]
    where = speech.filters(join.child, 1, 2)
    clause = speech.clause(where, join.child)
    rows = speech.main.rows
    question = speech.pick(
        f"Which {rows} have at least one {child.row} {clause}?",
        f"Name all {rows} that have any {child.row} {clause}.",
        f"There are {child.rows} {clause}. To which {rows} do they belong?",
        f"List, each once, the {rows} with some {child.row} {clause}.",
    )
    query = Query(name.table, (name,), (join,), where, distinct=True)
    return Draft("join children", speech.ask(question), query)


def _distinct(speech: Speech) -> Draft:
    ref = a_category(speech)
    where = speech.filters(ref.table, 1, 3 if speech.level is _HARD else 2, avoid=(ref.column,))
    clause, rows, said = speech.clause(where, ref.table), speech.main.rows, speech.said(ref)
    question = speech.pick(
        f"Which different values of {said} occur among the {rows} {clause}?",
        f"List each {said} once that occurs for the {rows} {clause}.",
        f"What distinct {said} values do the {rows} {clause} have?",
        f"For the {rows} {clause}: every {said}, without repeats?",
    )
    query = Query(ref.table, (ref,), where=(*where, *known(speech, ref)), distinct=True)
    return Draft("distinct", speech.ask(question), query)


def _most_frequent(speech: Speech) -> Draft:
    ref = a_category(speech)
    rare = speech.draw.chance(0.3)
    own = speech.filters(ref.table, 0, 2, avoid=(ref.column,))
    clause, rows, said = speech.clause(own, ref.table), speech.main.rows, speech.said(ref)
    among = f" among the {rows} {clause}" if clause else f" among all {rows}"
    most, common = ("fewest", "least") if rare else ("most", "most")
    question = speech.pick(
        f"Which {said} is the {common} common{among}?",
        f"What {said} occurs {'least' if rare else 'most'} often{among}?",
        f"Group the {rows}{' ' + clause if clause else ''} by {said}: which group has the {most} {rows}?",
        f"{common} frequent {said}{among}?",
    )
    query = Query(
        ref.table,
        (ref,),
        where=(*own, *known(speech, ref)),
        group=ref,
        order=Agg("COUNT"),
        descending=not rare,
        limit=1,
    )
    return Draft("most frequent", speech.ask(question), query)


def _groups_having(speech: Speech) -> Draft:
    ref = a_category(speech)
    own = speech.filters(ref.table, 0, 2, avoid=(ref.column,))
    clause, rows, said = speech.clause(own, ref.table), speech.main.rows, speech.said(ref)
    among = f"{rows} {clause}" if clause else rows
    if speech.draw.chance(0.5):
        bound = speech.draw.between(1, max(1, len(speech.main.values) // 5))
        having = Having(Agg("COUNT"), ">", str(bound))
        what = speech.pick(f"more than {bound} {among}", f"over {bound} {among}")
        question = speech.pick(
            f"Which {said} values have {what}?",
            f"For which {said} are there {what}?",
            f"Name each {said} that stands for {what}.",
            f"Group by {said}. Which groups hold {what}?",
        )
    else:
        number = a_number(speech, additive=True)
        numbers = [row[number.column] for row in speech.main.values if row[number.column] is not None]
        total = sum(int(value) for value in numbers if value is not None)
        bound = max(1, total // speech.draw.between(3, 9))
        bound = (
            int(f"{bound:.1e}".split("e")[0].replace(".", "")) * 10 ** max(0, len(str(bound)) - 2)
            if bound > 99
            else bound
        )
        having = Having(Agg("SUM", number), ">", str(bound))
        what = speech.said(number)
        question = speech.pick(
            f"For which {said} is the total {what} of the {among} greater than {bound}?",
            f"Which {said} values reach a total {what} above {bound}, counting the {among}?",
            f"Sum the {what} of the {among} by {said}: which sums are over {bound}? Give the {said}.",
            f"Name each {said} whose {among} have a combined {what} of more than {bound}.",
        )
    query = Query(ref.table, (ref,), where=(*own, *known(speech, ref)), group=ref, having=having)
    return Draft("group having", speech.ask(question), query)


LOOKUPS: tuple[Offer, ...] = (
    Offer(_lookup, (_EASY,)),
    Offer(_lookup, (_MEDIUM,), "typed"),
    Offer(_reverse, (_EASY, _MEDIUM)),
    Offer(_reverse, (_HARD,), "typed"),
    Offer(_contains, (_EASY, _MEDIUM)),
    Offer(_lookup_parent, (_MEDIUM, _HARD), "parent"),
    Offer(_by_parent, (_MEDIUM, _HARD), "parent"),
    Offer(_by_child, (_HARD,), "child"),
    Offer(_distinct, (_MEDIUM, _HARD)),
    Offer(_most_frequent, (_MEDIUM, _HARD)),
    Offer(_groups_having, (_HARD,)),
)
