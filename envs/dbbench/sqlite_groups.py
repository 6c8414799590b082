"""What MySQL asks of a query with groups: ONLY_FULL_GROUP_BY, and the order in which the groups come."""

from __future__ import annotations

import re

from sqlglot import exp

from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_scope import Output, Typed
from envs.dbbench.sqlite_sources import Sources

__all__ = ["Groups"]


class Groups(Sources):
    """Looks at grouped queries."""

    def appearance(self, columns: list[tuple[Output, Typed]]) -> str:
        """Groups in the order in which MySQL meets them, where the rows of the first table tell it."""
        if not self.scope.sources or self.scope.sorts:
            return ""
        source = self.scope.sources[0]
        if source.table is None:
            return ""
        key = source.table.row_key
        if key == ("rowid",) or (len(key) == 1 and source.table.column(source.table.primary[0]).type.kind == "int"):
            return f" ORDER BY min({source.inner}.{key[0]})"
        return ""

    def check_groups(
        self,
        node: exp.Select,
        groups: list[Typed],
        columns: list[tuple[Output, Typed]],
        frees: list[list[Typed]],
        ordered: list[Typed],
    ) -> None:
        """ONLY_FULL_GROUP_BY: what is shown must be grouped by, or hang on what is."""
        known = {group.sql for group in groups} | self._constants(node)
        whole = {
            source.inner
            for source in self.scope.sources
            if source.table is not None
            and source.table.primary
            and all(f"{source.inner}.{key}" in known for key in source.table.row_key)
        }
        spelled = [group.sql for group in groups if not group.column]
        for place, ((_, typed), free) in enumerate(zip(columns, frees, strict=True), start=1):
            rest = typed.sql
            for text in spelled:
                rest = rest.replace(text, "")
            for column in free:
                if column.sql in known or column.sql.partition(".")[0] in whole:
                    continue
                if re.search(rf"\b{re.escape(column.sql)}\b", rest):
                    raise _not_grouped(f"Expression #{place} of SELECT list", column, bool(groups))
        for column in ordered:
            if groups and column.sql not in known and column.sql.partition(".")[0] not in whole and not spelled:
                raise _not_grouped("Expression #1 of ORDER BY clause", column, True)

    def _constants(self, node: exp.Select) -> set[str]:
        """Columns that WHERE ties to a value."""
        where = node.args.get("where")
        found = set()
        for part in where.this.flatten() if where is not None and isinstance(where.this, exp.And) else []:
            found |= self._constant(part)
        if where is not None and isinstance(where.this, exp.EQ):
            found |= self._constant(where.this)
        return found

    def _constant(self, part: exp.Expr) -> set[str]:
        while isinstance(part, exp.Paren):
            part = part.this
        if isinstance(part, exp.EQ):
            for one, two in ((part.this, part.expression), (part.expression, part.this)):
                if isinstance(one, exp.Column) and isinstance(two, exp.Literal):
                    return {self.scope.column(one.name, one.table, "where clause").sql}
        return set()


def _not_grouped(where: str, column: Typed, grouped: bool) -> Exception:
    if not grouped:
        place = where[0].lower() + where[1:]
        return failed(1140, f"In aggregated query without GROUP BY, {place} contains nonaggregated column "
                      f"'{column.column}'; this is incompatible with sql_mode=only_full_group_by")  # fmt: skip
    return failed(1055, f"{where} is not in GROUP BY clause and contains nonaggregated column '{column.column}' "
                  "which is not functionally dependent on columns in GROUP BY clause; this is incompatible with "
                  "sql_mode=only_full_group_by")  # fmt: skip
