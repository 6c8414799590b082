"""What questions are made of: columns, rows, joins and conditions drawn from a scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected
from envs.dbbench.generator_query import Condition, Ref
from envs.dbbench.generator_scene import Join
from envs.dbbench.generator_setting import Need
from envs.dbbench.generator_words import Speech

__all__ = [
    "Intent", "Offer", "a_category", "a_number", "a_row", "children", "known", "names", "parents", "row_filters",
    "via_parent",
]  # fmt: skip

type Intent = Callable[[Speech], Draft]
"""Makes a draft of a scene, or raises Rejected."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An intent, the levels that it can be of, and what the scene needs for it (``generator_setting.Need``)."""

    intent: Intent
    levels: tuple[Level, ...]
    need: Need = ""


def known(speech: Speech, ref: Ref) -> tuple[Condition, ...]:
    """That the column is not NULL, where it may be."""
    return (Condition(ref, "not null"),) if speech.scene.tables[ref.table].fields[ref.column].nullable else ()


def a_number(speech: Speech, table: int | None = None, *, additive: bool = False, dates: bool = False) -> Ref:
    """A column of numbers, of the main table where none is named. Raises Rejected."""
    table = speech.scene.main if table is None else table
    fields = speech.scene.tables[table].fields
    able = [
        i
        for i, field in enumerate(fields)
        if (field.kind == "number" and (field.additive or not additive))
        or (dates and field.kind == "date" and not field.long)
    ]
    if not able:
        raise Rejected(Reason.NO_MATERIAL)
    return Ref(table, speech.draw.choice(able))


def a_category(speech: Speech, table: int | None = None) -> Ref:
    """A column with few values. Raises Rejected."""
    table = speech.scene.main if table is None else table
    able = speech.scene.tables[table].of_kind("category")
    if not able:
        raise Rejected(Reason.NO_MATERIAL)
    return Ref(table, speech.draw.choice(able))


def parents(speech: Speech) -> list[Join]:
    """The joins from the main table to those that it names."""
    return [join for join in speech.scene.joins if join.child == speech.scene.main]


def children(speech: Speech) -> list[Join]:
    """The joins from tables that name the main one."""
    return [join for join in speech.scene.joins if join.parent == speech.scene.main]


def row_filters(speech: Speech, *, avoid: Sequence[int] = ()) -> tuple[Condition, ...]:
    """As many conditions on the main table as the level is hard."""
    most = {Level.EASY: 1, Level.MEDIUM: 2, Level.HARD: 3}[speech.level]
    fewest = most if speech.scene.flat else max(1, most - 1)  # typed tables are hard enough by themselves
    return speech.filters(speech.scene.main, fewest, most, avoid=avoid)


def via_parent(speech: Speech) -> tuple[Join, tuple[Condition, ...], frozenset[str]]:
    """A join to a parent with a condition there, and whether the words say which role it has. Raises Rejected."""
    links = parents(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    join = speech.draw.choice(links)
    speech.role_said = speech.draw.chance(0.8)
    if speech.draw.chance(0.4):
        name = Ref(join.parent, speech.scene.tables[join.parent].key)
        text = speech.draw.choice(speech.scene.tables[join.parent].table.rows)[name.column]
        where: tuple[Condition, ...] = (Condition(name, "=", text or ""),)
    else:
        where = speech.filters(join.parent, 1, 1)
    return join, where, frozenset({"role"}) if speech.role_said else frozenset()


def a_row(speech: Speech, table: int | None = None) -> tuple[Ref, str]:
    """The name of some row. Raises Rejected where rows have none."""
    table = speech.scene.main if table is None else table
    found = speech.scene.tables[table]
    text = speech.draw.choice(found.table.rows)[found.key]
    if found.fields[found.key].kind != "name" or text is None:
        raise Rejected(Reason.NO_MATERIAL)
    return Ref(table, found.key), text


def names(speech: Speech) -> Ref:
    """The column that names the main table's rows."""
    return Ref(speech.scene.main, speech.main.key)
