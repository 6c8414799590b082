"""Scenes drawn from domains: in AgentBench's manner, one table of TEXT columns, or as typed tables with keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Literal

from envs.dbbench.domain_kinds import Category, Day, Domain, Entity, Link, Name, Number, vocabulary
from envs.dbbench.domains import DOMAINS
from envs.dbbench.generator_draw import Draw
from envs.dbbench.generator_scene import Field, Join, Scene, SceneTable, long_date, parse_cells
from envs.dbbench.tables import ForeignKey, Table

__all__ = ["Need", "draw_scene", "number_text", "set_flat", "set_typed"]

_FEW = 5  # values of a category that are drawn from a long list
_SPARE = 4
_NULLABLE, _NULL = 0.3, 0.12  # the share of typed columns that may be NULL, and of their cells that are
_BLANKABLE = 0.15  # the share of TEXT columns that have empty cells


type Need = Literal["", "typed", "parent", "child", "both", "leaf", "typed leaf"]
"""What a scene must hold beside the main table: one that it names, one that names it, both; or none that names it.
``typed``: not one of AgentBench's manner. All but ``leaf`` ask for typed tables.
"""


def draw_scene(draw: Draw, *, flat: bool, tables: int = 1, columns: int = 5, need: Need = "") -> Scene:
    """A scene of a random domain; with typed tables, at most ``tables`` of them, or as many as it needs. ``columns``:
    the least of the main table, so far as the domain has them.
    """
    domain = draw.choice(_domains(need))
    return set_flat(draw, domain, columns) if flat else set_typed(draw, domain, tables, columns, need)


@cache
def _domains(need: Need) -> tuple[Domain, ...]:
    return tuple(domain for domain in DOMAINS if need not in ("child", "both") or _children(domain))


def _children(domain: Domain) -> list[Entity]:
    return [entity for entity in domain.entities if any(link.to == domain.main for link in entity.links)]


def set_flat(draw: Draw, domain: Domain, columns: int) -> Scene:
    """One table, every column TEXT, names and cells as people write them; a link holds the other row's name."""
    entity = domain.entity(domain.main)
    assert entity.name is not None
    chosen = _columns(draw, entity, columns - 1)
    links = [link for link in entity.links if columns > len(entity.columns) or draw.chance(0.6)]
    count = draw.between(8, 45)
    names = _names(draw, entity.name, count + _SPARE)
    count = len(names) - _SPARE
    made: list[tuple[Field, list[str]]] = []
    for column in chosen:
        field = _flat_field(draw, column)
        made.append((field, _cells(draw, column, field, count)))
    for link in links:
        to = domain.entity(link.to).name
        assert to is not None
        pool = _names(draw, to, draw.between(3, 6))
        field = Field(link.header, _said(draw, link.header, link.said), "category")
        made.append((field, [draw.choice(pool) for _ in range(count)]))
    made.insert(draw.below(2), (Field(entity.name.header, entity.name.column, "name"), names[:count]))
    fields = tuple(field for field, _ in made)
    rows = tuple(zip(*(cells for _, cells in made), strict=True))
    table = Table(draw.choice(entity.titles), tuple(field.name for field in fields), rows)
    filled = SceneTable(entity.row, entity.rows, table, fields, parse_cells(fields, rows))
    return Scene(draw, domain.name, (filled,), (), 0, tuple(names[count:]))


def set_typed(draw: Draw, domain: Domain, tables: int, columns: int, need: Need = "") -> Scene:
    """Typed tables with keys: the main one, and others that it links to or that link to it, ``tables`` in all."""
    main, children = domain.entity(domain.main), _children(domain)
    parents = [entity for entity in domain.entities if entity is not main and entity not in children]
    chosen = [main]
    if need in ("parent", "both"):
        chosen.append(draw.choice(parents))
    if need in ("child", "both"):
        chosen.append(draw.choice(children))
    rest = [entity for entity in (*parents, *(children if "leaf" not in need else ())) if entity not in chosen]
    chosen += draw.sample(rest, max(0, tables - len(chosen)))
    entities = [entity for entity in domain.entities if entity in chosen]
    built: list[SceneTable] = []
    joins: list[Join] = []
    spare: tuple[str, ...] = ()
    plain = draw.chance(0.5)  # whether keys are called id, and tables by the plural
    places = {entity.row: i for i, entity in enumerate(entities)}
    for entity in entities:
        least = columns if entity is main else 2
        links = [link for link in entity.links if link.to in places]
        others = {row: built[i] for row, i in places.items() if i < len(built)}
        made, names = _typed(draw, entity, links, others, least, plain=plain, main=entity is main)
        for link in links:
            column = made.table.columns.index(link.column)
            joins.append(Join(len(built), column, places[link.to], link.said))
        if entity is main:
            spare = names
        built.append(made)
    return Scene(draw, domain.name, tuple(built), tuple(joins), places[main.row], spare)


def _typed(
    draw: Draw,
    entity: Entity,
    links: list[Link],
    others: Mapping[str, SceneTable],
    columns: int,
    *,
    plain: bool,
    main: bool,
) -> tuple[SceneTable, tuple[str, ...]]:
    count = draw.between(10, 40) if main else draw.between(12, 60) if entity.name is None else draw.between(5, 12)
    names: list[str] = []
    if entity.name is not None:
        names = _names(draw, entity.name, count + (_SPARE if main else 0))
        count = min(count, len(names) - (_SPARE if main else 0))
    first = draw.choice((1, 1, 101, 2001))
    made: list[tuple[Field, list[str | None]]] = []
    identity = "id" if plain else f"{entity.row}_id"
    made.append((Field(identity, "id", "id", "INT"), [str(first + i) for i in range(count)]))
    if entity.name is not None:
        said = entity.name.column
        width = 20 * (max(map(len, names)) // 20 + 2)
        made.append((Field(said, said.replace("_", " "), "name", f"VARCHAR({width})"), list(names[:count])))
    for column in _columns(draw, entity, columns - 2):
        field = _typed_field(draw, column)
        cells: list[str | None] = list(_cells(draw, column, field, count))
        if field.nullable:
            cells = [None if draw.chance(_NULL) else cell for cell in cells]
        made.append((field, cells))
    for link in links:
        ids = [row[0] for row in others[link.to].table.rows]
        made.append((Field(link.column, link.said, "link", "INT"), [draw.choice(ids) for _ in range(count)]))
    fields = tuple(field for field, _ in made)
    rows = tuple(zip(*(cells for _, cells in made), strict=True))
    name = (entity.rows if plain else entity.row).replace(" ", "_")
    keys = tuple(
        ForeignKey((link.column,), others[link.to].table.name, (others[link.to].table.columns[0],)) for link in links
    )
    table = Table(
        name, tuple(field.name for field in fields), rows, tuple(field.type for field in fields), (identity,), keys
    )
    return SceneTable(entity.row, entity.rows, table, fields, parse_cells(fields, rows)), tuple(names[count:])


def _columns(draw: Draw, entity: Entity, least: int) -> list[Category | Number | Day]:
    """Some of an entity's columns, in its order, with a number and a category where it has them."""
    chosen = draw.sample(entity.columns, draw.between(min(max(least, 2), len(entity.columns)), len(entity.columns)))
    for needed in (Number, Category):
        if not any(isinstance(column, needed) for column in chosen):
            chosen += [column for column in entity.columns if isinstance(column, needed)][:1]
    return [column for column in entity.columns if column in chosen]


def _flat_field(draw: Draw, column: Category | Number | Day) -> Field:
    said = _said(draw, column.header, column.column.replace("_", " "))
    match column:
        case Number(places=0, high=high, code=False, additive=True) if high >= 10_000 and draw.chance(0.35):
            return Field(column.header, said, "number", additive=True, thousands=True)
        case Number():
            return Field(column.header, said, "number", "TEXT", column.places, column.additive, column.code)
        case Day():
            return Field(column.header, said, "date", long=draw.chance(0.5))
    return Field(column.header, said, "category", blank=draw.chance(_BLANKABLE))


def _typed_field(draw: Draw, column: Category | Number | Day) -> Field:
    said = column.column.replace("_", " ")
    nullable = draw.chance(_NULLABLE)
    match column:
        case Number(places=0):
            kind = "INT"
        case Number():
            kind = f"DECIMAL({draw.choice((8, 10, 12))},{column.places})"
        case Day():
            return Field(column.column, said, "date", "DATE", nullable=nullable)
        case Category():
            kind = draw.choice(("VARCHAR(60)", "VARCHAR(100)", "TEXT"))
            return Field(column.column, said, "category", kind, nullable=nullable)
    unit = _UNIT.search(column.header)
    return Field(
        column.column, said, "number", kind, column.places, column.additive, column.code,
        nullable=nullable, unit=unit[1] if unit else "",
    )  # fmt: skip


def _said(draw: Draw, header: str, words: str) -> str:
    return header if draw.chance(0.5) else words


def _cells(draw: Draw, column: Category | Number | Day, field: Field, count: int) -> list[str]:
    match column:
        case Category(values=values):
            source = vocabulary()[values] if isinstance(values, str) else values
            pool = draw.sample(source, draw.between(3, _FEW))
            cells = [draw.choice(pool) for _ in range(count)]
            return ["" if draw.chance(_NULL) else cell for cell in cells] if field.blank else cells
        case Number():
            texts = [number_text(draw, column.low, column.high, column.places) for _ in range(count)]
            return [f"{int(text):,}" for text in texts] if field.thousands else texts
    days = [
        f"{draw.between(column.first, column.last)}-{draw.between(1, 12):02d}-{draw.between(1, 28):02d}"
        for _ in range(count)
    ]
    return [long_date(day) for day in days] if field.long else days


def number_text(draw: Draw, low: int, high: int, places: int) -> str:
    """A number from ``low`` to ``high`` with so many decimals."""
    if not places:
        return str(draw.between(low, high))
    scale = 10**places
    return f"{Decimal(draw.between(low * scale, high * scale)).scaleb(-places):f}"


_UNIT = re.compile(r"\( ?(?!of )([^()]+?) ?\)$")
_FIELD = re.compile(r"\{(\w+)\}")


def _names(draw: Draw, name: Name, count: int) -> list[str]:
    """Different names, in the order drawn; fewer where there are no more."""
    found: dict[str, str] = {}
    for _ in range(6 * count):
        text = draw.choice(name.patterns)
        text = _FIELD.sub(lambda match: draw.choice(_source(name, match[1])), text)
        found.setdefault(text.casefold(), text)
        if len(found) == count:
            break
    return list(found.values())


def _source(name: Name, part: str) -> tuple[str, ...]:
    return name.parts[part] if part in name.parts else vocabulary()[part]
