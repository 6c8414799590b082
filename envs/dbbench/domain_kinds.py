"""What a domain of generated DB Bench tasks is made of: entities with a name, columns, and links to other entities."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

__all__ = ["Category", "Day", "Domain", "Entity", "Link", "Name", "Number", "vocabulary"]

_VOCABULARY = Path(__file__).parent / "data" / "vocabulary.json.gz"


@dataclass(frozen=True, slots=True)
class Name:
    """The column that names a row, every value once. A pattern's ``{field}`` is drawn from ``parts``, else from the
    vocabulary's list of that name.
    """

    column: str
    header: str
    patterns: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Category:
    """A column with few values: its own, or some of a list of the vocabulary."""

    column: str
    header: str
    values: tuple[str, ...] | str


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers with ``places`` decimals. ``additive``: a sum means something. ``code``: it numbers things,
    so that a person might order it as text.
    """

    column: str
    header: str
    low: int
    high: int
    places: int = 0
    additive: bool = True
    code: bool = False


@dataclass(frozen=True, slots=True)
class Day:
    """A column of dates, from the first year to the last."""

    column: str
    header: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Link:
    """A row names one of another entity, ``to``, by its id; where there is one table only, by its name."""

    column: str
    header: str
    said: str
    to: str


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of row: how one and many are called, names of a table of them alone, the columns, the links."""

    row: str
    rows: str
    titles: tuple[str, ...]
    name: Name | None
    columns: tuple[Category | Number | Day, ...]
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """Entities that belong together, each after those that it links to. Questions are about ``main``."""

    name: str
    main: str
    entities: tuple[Entity, ...]

    def entity(self, row: str) -> Entity:
        """The entity whose row is called so."""
        return next(entity for entity in self.entities if entity.row == row)


@cache
def vocabulary() -> Mapping[str, tuple[str, ...]]:
    """Lists of names, by the list's name (``scripts/extract_vocabulary.py``)."""
    return {name: tuple(values) for name, values in json.loads(gzip.decompress(_VOCABULARY.read_bytes())).items()}
