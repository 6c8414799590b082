"""Endless DB Bench tasks for training, so that AgentBench's own stay for evaluation.

A task is a pure function of (split, index): the same on every machine and Python, without a server. Every 25 tasks
hold 8 INSERT, 8 UPDATE, one of each kind of question, the balance of AgentBench's standard split, and a DELETE.

A draw makes a scene (tables), then a draft (words with a query or changes). The gold statement is written from the
query and run on SQLite; the same query is evaluated in Python; both must agree. Draws that can be read in two ways, or
that a guess hits, are not taken (``generator_checks``).
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from envs.dbbench.generator_basic import BASIC_OFFERS, draw_basic_scene
from envs.dbbench.generator_change import scene_hash
from envs.dbbench.generator_checks import check_change, check_question
from envs.dbbench.generator_comparisons import COMPARISONS
from envs.dbbench.generator_counts import COUNTS
from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected, level_of
from envs.dbbench.generator_draw import Draw
from envs.dbbench.generator_inserts import INSERTS
from envs.dbbench.generator_lookups import LOOKUPS
from envs.dbbench.generator_material import Offer
from envs.dbbench.generator_rankings import AGGREGATIONS, RANKINGS
from envs.dbbench.generator_scene import Scene
from envs.dbbench.generator_setting import Need, draw_scene
from envs.dbbench.generator_updates import DELETES, UPDATES
from envs.dbbench.generator_words import Speech
from envs.dbbench.scoring import MUTATION_TYPES
from envs.dbbench.tables import Table
from envs.dbbench.tasks import DbTask
from envs.errors import UnknownSplit
from envs.registry import DBBENCH
from envs.types import SplitRole

__all__ = [
    "GENERATED_SPLITS", "MAX_INDEX", "GeneratedSplit", "Made", "generate", "index_of_type", "make_task",
    "type_of_index",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class GeneratedSplit:
    """An endless split. ``level`` None: all of them. ``basic``: the basic tasks among the easy ones."""

    name: str
    role: SplitRole
    level: Level | None
    description: str
    basic: bool = False


GENERATED_SPLITS = {
    split.name: split
    for split in (
        GeneratedSplit("generated", SplitRole.TRAIN, None, "generated tasks of all levels, endless"),
        GeneratedSplit("generated_eval", SplitRole.EVALUATION, None, "generated tasks of other seeds, endless"),
        GeneratedSplit(
            "generated_basic", SplitRole.TRAIN, Level.EASY, "basic generated tasks, of few words, endless", basic=True
        ),
        GeneratedSplit(
            "generated_basic_eval", SplitRole.EVALUATION, Level.EASY, "basic tasks of other seeds, endless", basic=True
        ),
        GeneratedSplit("generated_easy", SplitRole.TRAIN, Level.EASY, "easy generated tasks, endless"),
        GeneratedSplit("generated_medium", SplitRole.TRAIN, Level.MEDIUM, "medium generated tasks, endless"),
        GeneratedSplit("generated_hard", SplitRole.TRAIN, Level.HARD, "hard generated tasks, endless"),
    )
}
MAX_INDEX = 2**48
_VERSION = 2  # part of the seed: another generator makes other tasks, under the same ids
_QUESTIONS = (
    "other", "counting", "comparison", "ranking",
    "aggregation-SUM", "aggregation-MIN", "aggregation-MAX", "aggregation-AVG",
)  # fmt: skip
_CYCLE = (*(kind for question in _QUESTIONS for kind in ("INSERT", question, "UPDATE")), "DELETE")
_OFFERS: dict[str, tuple[Offer, ...]] = {
    "other": LOOKUPS,
    "counting": COUNTS,
    "comparison": COMPARISONS,
    "ranking": RANKINGS,
    **{f"aggregation-{function}": offers for function, offers in AGGREGATIONS.items()},
    "INSERT": INSERTS,
    "UPDATE": UPDATES,
    "DELETE": DELETES,
}
# The share of AgentBench's manner, one table of TEXT columns, by level: about half of all tasks.
_FLAT = {Level.EASY: 1.0, Level.MEDIUM: 0.35, Level.HARD: 0.2}
_TRIES = 6  # drafts of one scene, before another is drawn
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FAITHFUL = 8  # scenes for which one intent is kept, so that those which are often rejected are not crowded out


@dataclass(frozen=True, slots=True)
class Made:
    """A task with what it is made of: the names of its domain and intent."""

    task: DbTask
    domain: str
    intent: str


def type_of_index(index: int) -> str:
    """The type of the task at ``index``."""
    return _CYCLE[index % len(_CYCLE)]


def index_of_type(type: str, position: int) -> int:
    """The index of the ``position``-th task of a type."""
    places = [i for i, kind in enumerate(_CYCLE) if kind == type]
    return position // len(places) * len(_CYCLE) + places[position % len(places)]


@lru_cache(maxsize=512)
def generate(split: str, index: int) -> DbTask:
    """The task ``split/index``; any index from 0 on."""
    return make_task(split, index).task


def make_task(split: str, index: int, rejected: Counter[str] | None = None) -> Made:
    """The task with its making. ``rejected`` counts the draws that were not taken, by reason. Raises UnknownSplit."""
    if split not in GENERATED_SPLITS:
        raise UnknownSplit(f"dbbench generates no split {split!r:.80}", hint=f"known: {', '.join(GENERATED_SPLITS)}")
    kind = type_of_index(index)
    counts: Counter[str] = Counter() if rejected is None else rejected
    first = Draw(_VERSION, split, index)
    chosen = GENERATED_SPLITS[split]
    level = chosen.level or first.choice((Level.EASY,) * 3 + (Level.MEDIUM,) * 4 + (Level.HARD,) * 3)
    flat = first.chance(_FLAT[level])
    offers = BASIC_OFFERS[kind] if chosen.basic else _able(kind, level, flat)
    attempt = 0
    while True:  # a scene may lack what a question needs, or make it ambiguous: draw another
        if attempt % _FAITHFUL == 0:
            offer = first.choice(offers)
        draw = Draw(_VERSION, split, index, attempt)
        scene = draw_basic_scene(draw) if chosen.basic else _scene(draw, level, flat=flat, need=offer.need)
        for _ in range(_TRIES):
            try:
                return _finished(split, index, scene, _drafted(scene, offer, level))
            except Rejected as refusal:
                counts[refusal.reason.value] += 1
        attempt += 1


@cache
def _able(kind: str, level: Level, flat: bool) -> tuple[Offer, ...]:
    return tuple(
        offer for offer in _OFFERS[kind] if level in offer.levels and not (flat and offer.need not in ("", "leaf"))
    )


def _scene(draw: Draw, level: Level, *, flat: bool, need: Need) -> Scene:
    if flat:
        return draw_scene(draw, flat=True, columns={Level.EASY: 3, Level.MEDIUM: 4, Level.HARD: 20}[level])
    tables = draw.between(2, 4) if level is Level.HARD else draw.between(1, 2)
    return draw_scene(draw, flat=False, tables=tables, columns=draw.between(4, 7), need=need)


def _drafted(scene: Scene, offer: Offer, level: Level) -> Draft:
    draft = offer.intent(Speech(scene, level))
    if level_of(scene, draft) is not level:
        raise Rejected(Reason.OTHER_DIFFICULTY)
    return draft


def _finished(split: str, index: int, scene: Scene, draft: Draft) -> Made:
    answers: tuple[str, ...] = ()
    digest = ""
    if draft.query is not None:
        answers = check_question(scene, draft)
        statements = _ask(scene, draft, answers)
    else:
        after = check_change(scene, draft)
        statements = _carry_out(scene, draft, after)
        digest = scene_hash(after)
    kind = type_of_index(index)
    assert (kind in MUTATION_TYPES) == bool(draft.changes)
    task = DbTask(
        env=DBBENCH.name,
        split=split,
        index=index,
        type=kind,
        tables=tuple(table.table for table in scene.tables),
        description=draft.question,
        add_description=_described([table.table for table in scene.tables], basic=GENERATED_SPLITS[split].basic),
        evidence=_evidence(scene, draft, answers),
        gold_answers=answers,
        gold_sql=statements,
        gold_hash=digest,
        difficulty=level_of(scene, draft).value,
    )
    return Made(task, scene.domain, draft.intent)


def _ask(scene: Scene, draft: Draft, answers: tuple[str, ...]) -> tuple[str, ...]:
    """The gold statement of a question. Raises Rejected where it finds something else than Python."""
    from envs.dbbench.generator_run import rows_found
    from envs.dbbench.generator_sql import query_expression, write

    assert draft.query is not None
    tree = query_expression(scene, draft.query)
    try:
        found = rows_found(scene, draft.query, write(tree, "sqlite"))
    except sqlite3.Error as error:
        raise Rejected(Reason.SECOND_READING) from error
    if sorted(map(str, (value for row in found for value in row))) != sorted(answers):
        raise Rejected(Reason.SECOND_READING)
    return (write(tree, "mysql"),)


def _carry_out(scene: Scene, draft: Draft, after: Scene) -> tuple[str, ...]:
    """The gold statements of a change. Raises Rejected where they make other tables than Python."""
    from envs.dbbench.generator_run import rows_after
    from envs.dbbench.generator_sql import change_expression, write

    trees = [change_expression(scene, change) for change in draft.changes]
    try:
        found = rows_after(scene, [write(tree, "sqlite") for tree in trees])
    except sqlite3.Error as error:
        raise Rejected(Reason.SECOND_READING) from error
    for rows, table in zip(found, after.tables, strict=True):
        if Counter(rows) != Counter(table.table.rows):
            raise Rejected(Reason.SECOND_READING)
    return tuple(write(tree, "mysql") for tree in trees)


def _described(tables: Sequence[Table], *, basic: bool) -> str:
    """The tables' names and headers, in AgentBench's words; in fewer for a basic task."""
    if len(tables) == 1:
        headers = ",".join(tables[0].columns)
        if basic:
            return f"Table {tables[0].name}: {headers}."
        return f"The name of this table is {tables[0].name}, and the headers of this table are {headers}."
    parts = [
        f"The name of table {i} is {table.name}, and the headers of this table are {','.join(table.columns)}."
        for i, table in enumerate(tables, start=1)
    ]
    return " ".join(parts)


def _evidence(scene: Scene, draft: Draft, answers: tuple[str, ...]) -> str:
    """What the draft needs, how a DATE is to be written, or now and then a unit."""
    parts = [draft.evidence]
    if not scene.flat and any(_DATE.fullmatch(answer) for answer in answers):
        parts.append("A date is answered as in 2020-01-31.")
    return " ".join(filter(None, parts)) or _hint(scene)


def _hint(scene: Scene) -> str:
    """Now and then, the unit of a column that does not tell it."""
    told = [field for field in scene.tables[scene.main].fields if field.unit]
    if not told or not scene.draw.chance(0.2):
        return ""
    field = scene.draw.choice(told)
    return scene.draw.choice((f"{field.name} is given in {field.unit}.", f"The unit of {field.name} is {field.unit}."))
