"""Changes that a task asks for, before any SQL, and what they make of the rows, computed in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from envs.dbbench.generator_query import Condition, Query, evaluate, matches
from envs.dbbench.generator_scene import Scene
from envs.dbbench.scoring import TableHasher, combine_hashes

__all__ = ["Arithmetic", "Change", "Delete", "Insert", "Update", "apply_changes", "scene_hash"]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The column's own number, changed: by ``amount`` (``+``, ``-``) or times it (``*``)."""

    op: Literal["+", "-", "*"]
    amount: str


@dataclass(frozen=True, slots=True)
class Insert:
    """New rows; columns that are not named become NULL. A query as a value finds it in another table."""

    table: int
    columns: tuple[int, ...]
    rows: tuple[tuple[str | Query | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Update:
    """New values in the rows for which the conditions hold."""

    table: int
    sets: tuple[tuple[int, str | Arithmetic | None], ...]
    where: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """The rows for which the conditions hold go."""

    table: int
    where: tuple[Condition, ...]


type Change = Insert | Update | Delete


def apply_changes(scene: Scene, changes: Sequence[Change]) -> Scene:
    """The scene afterwards."""
    for change in changes:
        rows = list(scene.tables[change.table].table.rows)
        match change:
            case Insert(columns=columns, rows=new):
                width = len(scene.tables[change.table].fields)
                for values in new:
                    made: list[str | None] = [None] * width
                    for column, value in zip(columns, values, strict=True):
                        made[column] = evaluate(scene, value)[0][0] if isinstance(value, Query) else value
                    rows.append(tuple(made))
            case Update(sets=sets, where=where):
                for i in matches(scene, change.table, where):
                    cells = list(rows[i])
                    for column, new_value in sets:
                        cells[column] = _set(scene, change.table, i, column, new_value)
                    rows[i] = tuple(cells)
            case Delete(where=where):
                gone = set(matches(scene, change.table, where))
                rows = [row for i, row in enumerate(rows) if i not in gone]
        scene = scene.with_rows(change.table, rows)
    return scene


def _set(scene: Scene, table: int, row: int, column: int, value: str | Arithmetic | None) -> str | None:
    if not isinstance(value, Arithmetic):
        return value
    old = scene.tables[table].values[row][column]
    if not isinstance(old, Decimal):
        return None
    amount = Decimal(value.amount)
    new = old + amount if value.op == "+" else old - amount if value.op == "-" else old * amount
    places = scene.tables[table].fields[column].places
    return f"{new.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):f}"


def scene_hash(scene: Scene) -> str:
    """The hash of all tables: of each row, what CONCAT_WS(',', …) gives of its columns in order, NULL left out."""
    hashes = []
    for table in scene.tables:
        hasher = TableHasher()
        for row in table.table.rows:
            hasher.add(",".join(cell for cell in row if cell is not None))
        hashes.append(hasher.digest())
    return combine_hashes(hashes)
