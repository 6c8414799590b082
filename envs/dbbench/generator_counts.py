"""Intents of questions that count."""

from __future__ import annotations

from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected
from envs.dbbench.generator_material import (
    Offer,
    a_category,
    a_number,
    children,
    row_filters,
    via_parent,
)
from envs.dbbench.generator_query import Agg, Condition, Query
from envs.dbbench.generator_words import Speech

__all__ = ["COUNTS"]

_EASY, _MEDIUM, _HARD = Level.EASY, Level.MEDIUM, Level.HARD
_DIFFERENT = frozenset({"different"})
_NOTABLE = ("notable", "priority", "flagged", "outstanding", "exceptional")


def _count(speech: Speech) -> Draft:
    base = speech.scene.main
    where = row_filters(speech)
    clause, rows = speech.clause(where, base), speech.main.rows
    question = speech.pick(
        f"How many {rows} are there {clause}?",
        f"Count the {rows} {clause}.",
        f"What is the total number of {rows} {clause}?",
        f"number of {rows} {clause}?",
        f"I wonder how many {rows} we have {clause}. Can you tell me?",
    )
    evidence, extra = "", 0
    if speech.draw.chance(0.2) and speech.level is not _EASY:
        word = speech.draw.choice(_NOTABLE)
        evidence, extra = f"A {word} {speech.main.row} is one {speech.clause(where, base, 'whose')}.", 1
        question = speech.pick(f"How many {word} {rows} are there?", f"What is the number of {word} {rows}?")
    query = Query(base, (Agg("COUNT"),), where=where)
    return Draft("count", speech.ask(question), query, evidence=evidence, extra=extra)


def _count_distinct(speech: Speech) -> Draft:
    ref = a_category(speech)
    where = speech.filters(ref.table, 1, 3 if speech.level is _HARD else 2, avoid=(ref.column,))
    clause, rows, said = speech.clause(where, ref.table), speech.main.rows, speech.said(ref)
    question = speech.pick(
        f"How many different {said} values are there among the {rows} {clause}?",
        f"Count the distinct {said} values of the {rows} {clause}.",
        f"How many different values of {said} do the {rows} {clause} have?",
        f"number of values of {said} for the {rows} {clause}?",
    )
    said_so = _DIFFERENT if "different" in question or "distinct" in question else frozenset()
    query = Query(ref.table, (Agg("COUNT", ref, distinct=True),), where=where)
    return Draft("count distinct", speech.ask(question), query, said=said_so)


def _count_joined(speech: Speech) -> Draft:
    base = speech.scene.main
    join, there, said = via_parent(speech)
    own = speech.filters(base, 1, 2) if speech.level is _HARD else ()
    where = (*own, *there)
    clause, rows = speech.clause(where, base), speech.main.rows
    question = speech.pick(
        f"How many {rows} are there {clause}?",
        f"Count all {rows} {clause}.",
        f"What is the number of {rows} {clause}?",
        f"Tell me how many {rows} exist {clause}.",
    )
    return Draft("join count", speech.ask(question), Query(base, (Agg("COUNT"),), (join,), where), said=said)


def _count_beyond_average(speech: Speech) -> Draft:
    number = a_number(speech)
    own = speech.filters(number.table, 0 if speech.level is _MEDIUM else 1, 2, avoid=(number.column,))
    clause, rows, what = speech.clause(own, number.table), speech.main.rows, speech.said(number)
    above = speech.draw.chance(0.6)
    inner = Query(number.table, (Agg("AVG", number),))
    word = "above" if above else "below"
    whole = f"the average {what} of all {rows}"
    among = f" {clause}" if clause else ""
    question = speech.pick(
        f"How many {rows}{among} have {speech.one(number)} {word} {whole}?",
        f"Count the {rows}{among} with {speech.one(number)} that lies {word} {whole}.",
        f"Take {whole}. How many {rows}{among} are {word} it?",
        f"number of {rows}{among} with {speech.one(number)} {word} {whole}?",
    )
    where = (*own, Condition(number, ">" if above else "<", inner))
    return Draft("count nested", speech.ask(question), Query(number.table, (Agg("COUNT"),), where=where))


def _count_groups(speech: Speech) -> Draft:
    """How many of the main rows some parent has."""
    join, where, said = via_parent(speech)
    links = children(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    down = speech.draw.choice(links)
    child = speech.scene.tables[down.child]
    own = speech.filters(down.child, 1, 1)
    more = speech.clause(own, down.child, "whose")
    parent = speech.clause(where, speech.scene.main, "whose")
    rows = speech.main.rows
    question = speech.pick(
        f"How many {child.rows} {more} belong to {rows} {parent}?",
        f"Count the {child.rows} {more} of {rows} {parent}.",
        f"Look at the {rows} {parent}. How many {child.rows} {more} do they have in all?",
        f"What is the number of {child.rows} {more} that concern {rows} {parent}?",
    )
    query = Query(down.child, (Agg("COUNT"),), (down, join), (*own, *where))
    return Draft("three tables", speech.ask(question), query, said=said)


COUNTS: tuple[Offer, ...] = (
    Offer(_count, (_EASY, _MEDIUM)),
    Offer(_count, (_HARD,), "typed"),
    Offer(_count_distinct, (_MEDIUM, _HARD)),
    Offer(_count_joined, (_MEDIUM, _HARD), "parent"),
    Offer(_count_beyond_average, (_MEDIUM, _HARD)),
    Offer(_count_groups, (_HARD,), "both"),
)
