"""Which draws are not taken: those whose words can be read in two ways, and those that a guess without a query hits.

Another reading is another query, evaluated on the same rows: where it answers otherwise, the draw goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from envs.dbbench.generator_change import Delete, Insert, Update, apply_changes, scene_hash
from envs.dbbench.generator_draft import Draft, Reason, Rejected
from envs.dbbench.generator_query import (
    Agg,
    Condition,
    Difference,
    Op,
    Query,
    Ref,
    Term,
    evaluate,
    fold,
    matches,
    rank_keys,
)
from envs.dbbench.generator_scene import Scene
from envs.dbbench.scoring import answer_matches
from envs.dbbench.tables import Table

__all__ = ["MAX_ANSWERS", "check_change", "check_question", "flatten", "readings", "trivial_guesses"]

MAX_ANSWERS = 10
_NOTHING = frozenset({"", "none", "null", "undefined", "nan", "inf", "infinity", "-inf", "-infinity"})
_GARBLED = frozenset(",'\"[]()`\\;\n\t")
# Where a bound is left open, the same comparison with and without the bound itself.
_TOGGLED: dict[Op, Op] = {">": ">=", ">=": ">", "<": "<=", "<=": "<", "between": "within"}


def flatten(rows: Sequence[Sequence[str | None]]) -> tuple[str | None, ...]:
    """The values of an answer's rows, in one list."""
    return tuple(value for row in rows for value in row)


def check_question(scene: Scene, draft: Draft) -> tuple[str, ...]:
    """The answers to a question. Raises Rejected."""
    query = draft.query
    assert query is not None
    _check_ties(scene, query)
    _check_groups(scene, query)
    found = evaluate(scene, query)
    answers = _usable(flatten(found))
    if len(answers) > 1 and len(set(map(fold, answers))) < len(answers) and (len(found[0]) == 1 or _numbers(answers)):
        raise Rejected(Reason.DUPLICATES)
    if any(answer_matches(guess, answers) for guess in trivial_guesses([table.table for table in scene.tables])):
        raise Rejected(Reason.TRIVIAL)
    for reason, other in readings(scene, query, draft.said):
        if not _same(flatten(evaluate(scene, other)), answers):
            raise Rejected(reason)
    return answers


def _usable(values: Sequence[str | None]) -> tuple[str, ...]:
    if not values or any(value is None for value in values):
        raise Rejected(Reason.NO_ANSWER)
    answers = tuple(value for value in values if value is not None)
    if len(answers) > MAX_ANSWERS:
        raise Rejected(Reason.TOO_MANY)
    if any(_garbled(answer) for answer in answers):
        raise Rejected(Reason.GARBLED)
    # Beside text, numbers are compared as text: 12.50 would not be 12.5.
    if not _numbers(answers) and any(_number(answer) is not None and "." in answer for answer in answers):
        raise Rejected(Reason.GARBLED)
    return answers


def _garbled(answer: str) -> bool:
    """Whether the rules of either kind would change the value or read it as something else."""
    odd = _GARBLED & set(answer) or answer != answer.strip() or answer.endswith("%") or answer.lower() in _NOTHING
    return bool(odd) or (_number(answer) is not None and not answer.replace(".", "", 1).removeprefix("-").isdecimal())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _numbers(answers: Sequence[str]) -> bool:
    return all(_number(answer) is not None for answer in answers)


def trivial_guesses(tables: Sequence[Table]) -> list[tuple[str, ...]]:
    """Answers that need no query: nothing, 0, 1, none, how many rows there are, a cell of a first row, a column whole.

    The first rows stand for what a look at the table shows; the columns for all that a table has.
    """
    guesses: list[tuple[str, ...]] = [(), ("",), ("0",), ("1",), ("none",)]
    for table in tables:
        guesses.append((str(len(table.rows)),))
        if table.rows:
            guesses += [(cell,) for cell in table.rows[0] if cell is not None]
        if len(table.rows) <= MAX_ANSWERS:
            guesses += [tuple(cell or "" for cell in column) for column in zip(*table.rows, strict=True)]
    return guesses


def _same(values: Sequence[str | None], answers: tuple[str, ...]) -> bool:
    return answer_matches([value if value is not None else "" for value in values], answers)


def _check_ties(scene: Scene, query: Query | Difference) -> None:
    for part in _parts(query):
        if part.order is None or part.limit is None:
            continue
        keys = rank_keys(scene, part)
        for cut in (part.offset, part.offset + part.limit):
            if 0 < cut < len(keys) and keys[cut - 1] == keys[cut]:
                raise Rejected(Reason.TIE)


def _check_groups(scene: Scene, query: Query | Difference) -> None:
    """Where the fewest or the lowest total is asked for, a group that the conditions leave empty might be meant."""
    for part in _parts(query):
        if part.group is None or part.descending or not isinstance(part.order, Agg):
            continue
        if part.order.function in ("COUNT", "SUM") and part.where:
            kept = tuple(condition for condition in part.where if condition.op in ("not null", "in"))
            counts = [
                len(evaluate(scene, Query(part.base, (part.group,), part.joins, where, distinct=True)))
                for where in (part.where, kept)
            ]
            if counts[0] != counts[1]:
                raise Rejected(Reason.EMPTY_GROUP)


def _parts(query: Query | Difference) -> Iterator[Query]:
    """The query and those within it."""
    if isinstance(query, Difference):
        yield from _parts(query.first)
        yield from _parts(query.second)
        return
    yield query
    for condition in query.where:
        if isinstance(condition.value, Query):
            yield from _parts(condition.value)


def readings(
    scene: Scene, query: Query | Difference, said: frozenset[str] = frozenset()
) -> Iterator[tuple[Reason, Query | Difference]]:
    """Other queries that the same words could mean, each with what they leave open. Raises Rejected."""
    if isinstance(query, Difference):
        yield from ((reason, replace(query, first=other)) for reason, other in _readings(scene, query.first, said))
        yield from ((reason, replace(query, second=other)) for reason, other in _readings(scene, query.second, said))
        return
    yield from _readings(scene, query, said)


def _readings(scene: Scene, query: Query, said: frozenset[str]) -> Iterator[tuple[Reason, Query]]:
    for i, condition in enumerate(query.where):
        for reason, other in _other_conditions(scene, condition, said):
            yield reason, replace(query, where=(*query.where[:i], other, *query.where[i + 1 :]))
    if query.having is not None and query.having.op in _TOGGLED:
        yield Reason.INCLUSIVE, replace(query, having=replace(query.having, op=_TOGGLED[query.having.op]))
    for i, term in enumerate(query.select):
        for reason, changed in _other_terms(scene, term, said):
            yield reason, replace(query, select=(*query.select[:i], changed, *query.select[i + 1 :]))
    if query.group is not None and scene.tables[query.group.table].fields[query.group.column].blank:
        yield Reason.NULLS, replace(query, where=(*query.where, Condition(query.group, "<>", "")))
    if query.order is not None:
        if isinstance(query.order, Ref) and _field_is_code(scene, query.order):
            yield Reason.TEXT_ORDER, replace(query, lexical=True)
        if isinstance(query.order, Agg):
            for reason, ordered in _other_terms(scene, query.order, said):
                yield reason, replace(query, order=ordered)
    if "role" not in said:
        for i, join in enumerate(query.joins):
            for other_join in scene.joins:
                if other_join != join and (other_join.child, other_join.parent) == (join.child, join.parent):
                    yield Reason.JOIN_PATH, replace(query, joins=(*query.joins[:i], other_join, *query.joins[i + 1 :]))


def _other_conditions(scene: Scene, condition: Condition, said: frozenset[str]) -> Iterator[tuple[Reason, Condition]]:
    op, value, ref = condition.op, condition.value, condition.ref
    if op in _TOGGLED and not condition.strict:
        yield Reason.INCLUSIVE, replace(condition, op=_TOGGLED[op])
    if isinstance(value, Query):
        for reason, other in _readings(scene, value, said):
            yield reason, replace(condition, value=other)
        return
    field = scene.tables[ref.table].fields[ref.column]
    cells = [row[ref.column] for row in scene.tables[ref.table].table.rows]
    if op == "<>" and (None in cells or "" in cells):
        raise Rejected(Reason.NULLS)
    if field.numeric or field.kind == "date" or op in ("null", "not null"):
        return
    texts = value if isinstance(value, tuple) else (value,)
    for text in texts:
        _check_elsewhere(scene, condition, text)
        if op == "contains":
            if any(cell is not None and (text in cell) != (fold(text) in fold(cell)) for cell in cells):
                raise Rejected(Reason.FOLDING)
        elif any(cell is not None and cell != text and fold(cell) == fold(text) for cell in cells):
            raise Rejected(Reason.FOLDING)
    if op == "=" and isinstance(value, str):
        yield Reason.SUBSTRING, replace(condition, op="contains")
    elif op in ("in", "<>") and any(
        cell is not None and cell != text and fold(text) in fold(cell) for cell in cells for text in texts
    ):
        raise Rejected(Reason.SUBSTRING)


def _check_elsewhere(scene: Scene, condition: Condition, text: str) -> None:
    """A value whose column goes unnamed must stand in that column alone."""
    if condition.named:
        return
    for t, table in enumerate(scene.tables):
        for c, field in enumerate(table.fields):
            if Ref(t, c) == condition.ref or field.numeric or field.kind == "date":
                continue
            if any(fold(row[c] or "") == fold(text) for row in table.table.rows):
                raise Rejected(Reason.TWO_COLUMNS)


def _other_terms(scene: Scene, term: Term, said: frozenset[str]) -> Iterator[tuple[Reason, Term]]:
    if isinstance(term, Ref) or term.ref is None:
        return
    if term.function == "COUNT":
        if term.distinct and any(row[term.ref.column] == "" for row in scene.tables[term.ref.table].table.rows):
            raise Rejected(Reason.NULLS)  # whether an empty cell is a value is left open
        if term.distinct and "different" not in said:
            yield Reason.DISTINCT, replace(term, distinct=False)
        if not term.distinct and "null" not in said:  # of a column: rows without a value may be meant, too
            yield Reason.NULLS, Agg("COUNT")
    if term.function == "AVG" and "null" not in said:
        yield Reason.NULLS, replace(term, zero=True)
    if term.function in ("MIN", "MAX") and _field_is_code(scene, term.ref):
        yield Reason.TEXT_ORDER, replace(term, lexical=True)


def _field_is_code(scene: Scene, ref: Ref) -> bool:
    return scene.tables[ref.table].fields[ref.column].code


def check_change(scene: Scene, draft: Draft) -> Scene:
    """The scene after the changes. Raises Rejected."""
    before = scene
    for change in draft.changes:
        if not isinstance(change, Insert):
            _check_rows(scene, change, draft.said)
        after = apply_changes(scene, [change])
        if after.tables[change.table].table.rows == scene.tables[change.table].table.rows:
            raise Rejected(Reason.NO_CHANGE)
        scene = after
    wanted = scene_hash(scene)
    if wanted == scene_hash(before):  # also where it lies beyond what GROUP_CONCAT shows
        raise Rejected(Reason.NO_CHANGE)
    if len(draft.changes) > 1:
        for i in range(len(draft.changes)):  # a step that a later one undoes need not be done
            if scene_hash(apply_changes(before, (*draft.changes[:i], *draft.changes[i + 1 :]))) == wanted:
                raise Rejected(Reason.NO_CHANGE)
    return scene


def _check_rows(scene: Scene, change: Update | Delete, said: frozenset[str]) -> None:
    chosen = matches(scene, change.table, change.where)
    if not chosen:
        raise Rejected(Reason.NO_CHANGE)
    if change.where and len(chosen) == len(scene.tables[change.table].table.rows):
        raise Rejected(Reason.TRIVIAL)
    for condition in change.where:
        if isinstance(condition.value, Query):
            _check_ties(scene, condition.value)
    for reason, other in _readings(scene, Query(change.table, (), where=change.where), said):
        if matches(scene, change.table, other.where) != chosen:
            raise Rejected(reason)
