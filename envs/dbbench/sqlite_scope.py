"""Names while a statement is compiled: which sources a query has, and what a name in it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from envs.dbbench.sqlite_catalog import TableDef
from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_types import NULL, SqlType

__all__ = ["Output", "Scope", "Source", "Typed", "literal", "quoted"]


@dataclass(frozen=True, slots=True)
class Typed:
    """A compiled expression: SQLite's text of it, and its type.

    ``text``: the value of a text literal. ``column``: the public name of a plain column.
    """

    sql: str
    type: SqlType
    text: str | None = None
    column: str = ""

    @property
    def collated(self) -> str:
        """With its collation, for ORDER BY, GROUP BY, DISTINCT."""
        return self.sql + self.type.collation


@dataclass(frozen=True, slots=True)
class Output:
    """A column of a query's result: its name and type, and the table's column that it is, if any."""

    name: str
    type: SqlType


@dataclass(slots=True)
class Source:
    """Something in FROM: SQLite calls it ``inner`` and its columns by ``inners``; ``hidden`` ones USING has merged."""

    name: str
    inner: str
    outputs: tuple[Output, ...]
    inners: tuple[str, ...]
    table: TableDef | None = None
    hidden: set[str] = field(default_factory=set)
    public: str = ""
    # Where the table's own key tells the rows apart; of a JOIN's outer side it may be NULL.
    unique: bool = True

    def find(self, name: str) -> Typed | None:
        """Its column of this name, whatever the case."""
        wanted = name.casefold()
        for output, inner in zip(self.outputs, self.inners, strict=True):
            if output.name.casefold() == wanted:
                return self._typed(output, inner)
        return None

    def all(self) -> Iterator[tuple[Output, Typed]]:
        """All its columns."""
        for output, inner in zip(self.outputs, self.inners, strict=True):
            yield output, self._typed(output, inner)

    def _typed(self, output: Output, inner: str) -> Typed:
        shown = self.name if not self.public else self.public
        return Typed(f"{self.inner}.{inner}", output.type, column=f"dbbench.{shown}.{output.name}")


@dataclass(slots=True)
class Scope:
    """The names of one query; those of the query around it lie in ``parent``."""

    parent: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    aliases: dict[str, Typed] = field(default_factory=dict)
    use_aliases: bool = False  # in HAVING and ORDER BY an alias comes before a column
    grouped: dict[str, Typed] = field(default_factory=dict)
    aggregates: int = 0
    sorts: bool = False  # an aggregate for which MySQL sorts by the groups
    inside: int = 0  # how deep in arguments of aggregates
    free: list[Typed] = field(default_factory=list)  # columns outside of aggregates

    def column(self, name: str, table: str, clause: str) -> Typed:
        """What a name means here. Raises StatementFailed (1052, 1054)."""
        shown = f"{table}.{name}" if table else name
        scope: Scope | None = self
        while scope is not None:
            found = scope._own(name, table, clause, shown)
            if found is not None:
                return found
            scope = scope.parent
        raise failed(1054, f"Unknown column '{shown}' in '{clause}'")

    def _own(self, name: str, table: str, clause: str, shown: str) -> Typed | None:
        alias = self.aliases.get(name.casefold()) if self.use_aliases and not table else None
        if alias is not None:
            return alias
        found = [
            (source, column)
            for source in self.sources
            if (not table or source.name == table)
            and (column := source.find(name)) is not None
            and (table or name.casefold() not in source.hidden)
        ]
        if not found:
            return None
        if len(found) > 1:
            raise failed(1052, f"Column '{shown}' in {clause} is ambiguous")
        typed = found[0][1]
        if not self.inside:
            self.free.append(typed)
        return typed

    def source(self, name: str) -> Source:
        """The source of this name. Raises StatementFailed (1051)."""
        for source in self.sources:
            if source.name == name:
                return source
        raise failed(1051, f"Unknown table '{name}'")

    def stars(self, table: str = "") -> list[tuple[Output, Typed]]:
        """What ``*`` or ``table.*`` stands for: columns that USING merged come first and once."""
        if table:
            return list(self.source(table).all())
        merged = {name for source in self.sources for name in source.hidden}
        first = [
            (output, typed)
            for output, typed in (self.sources[0].all() if self.sources else ())
            if output.name.casefold() in merged
        ]
        rest = [
            (output, typed)
            for number, source in enumerate(self.sources)
            for output, typed in source.all()
            if output.name.casefold() not in source.hidden and not (number == 0 and output.name.casefold() in merged)
        ]
        return first + rest


def literal(value: str | bytes | int | float | None) -> str:
    """A value as SQLite's literal."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if value - value == 0 else "NULL"
    if "\0" in value:  # ends a statement's text for SQLite
        return f"CAST(X'{value.encode('utf-8').hex()}' AS TEXT)"
    return "'" + value.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQLite's identifier."""
    return '"' + name.replace('"', '""') + '"'


NOTHING = Typed("NULL", NULL)
