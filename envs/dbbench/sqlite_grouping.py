"""Aggregates and window functions as SQLite's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import exp

from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.sqlite_errors import failed, syntax_error
from envs.dbbench.sqlite_expressions import Expressions
from envs.dbbench.sqlite_scope import Typed, literal
from envs.dbbench.sqlite_types import (
    BIGINT,
    DOUBLE,
    TEXT,
    SqlType,
    decimal_type,
)

__all__ = ["AGGREGATES", "ALIASES", "WINDOW_ONLY", "Grouping"]

ALIASES = {
    "CEILING": "CEIL", "SUBSTR": "SUBSTRING", "MID": "SUBSTRING", "UCASE": "UPPER", "LCASE": "LOWER", "LN": "LOG",
    "CHARACTER_LENGTH": "CHAR_LENGTH", "OCTET_LENGTH": "LENGTH", "POWER": "POW", "SHA": "SHA1", "DAYOFMONTH": "DAY",
    "CURRENT_TIMESTAMP": "NOW", "LOCALTIME": "NOW", "LOCALTIMESTAMP": "NOW", "SYSDATE": "NOW", "UTC_TIMESTAMP": "NOW",
    "CURRENT_DATE": "CURDATE", "UTC_DATE": "CURDATE", "CURRENT_TIME": "CURTIME", "UTC_TIME": "CURTIME",
    "SCHEMA": "DATABASE", "ADDDATE": "DATE_ADD", "SUBDATE": "DATE_SUB", "SESSION_USER": "USER", "SYSTEM_USER": "USER",
    "STD": "STDDEV_POP", "STDDEV": "STDDEV_POP", "VARIANCE": "VAR_POP",
}  # fmt: skip
_SPREADS = {"STDDEV_POP": "std_pop", "STDDEV_SAMP": "std_samp", "VAR_POP": "var_pop", "VAR_SAMP": "var_samp"}
_BIT_AGGREGATES = {"BIT_AND": "agg_bit_and", "BIT_OR": "agg_bit_or", "BIT_XOR": "agg_bit_xor"}
AGGREGATES = frozenset({"COUNT", "SUM", "AVG", "MIN", "MAX", "ANY_VALUE", *_SPREADS, *_BIT_AGGREGATES})
_RANKS = frozenset({"ROW_NUMBER", "RANK", "DENSE_RANK", "NTILE", "PERCENT_RANK", "CUME_DIST"})
_NEIGHBOURS = frozenset({"LAG", "LEAD", "FIRST_VALUE", "LAST_VALUE", "NTH_VALUE"})
WINDOW_ONLY = _RANKS | _NEIGHBOURS


class Grouping(Expressions):
    """Compiles aggregates, alone and over windows."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.named_windows: dict[str, exp.Window] = {}
        self.window_order: list[str] = []

    def aggregate(self, name: str, nodes: list[exp.Expr], windowed: bool = False) -> Typed:
        """An aggregate. Raises StatementFailed (1111) where none may stand."""
        if name != "COUNT" and len(nodes) != 1:
            raise syntax_error(name)
        scope = self.scope
        if not windowed:
            if self.clause in ("where clause", "group statement", "on clause") or scope.inside:
                raise failed(1111, "Invalid use of group function")
            scope.inside += 1
            scope.aggregates += 1
        try:
            distinct = ""
            if len(nodes) == 1 and isinstance(nodes[0], exp.Distinct):
                distinct, nodes = "DISTINCT ", nodes[0].expressions
                scope.sorts = True
            if name == "COUNT" and (not nodes or isinstance(nodes[0], exp.Star)):
                return Typed("count(*)", BIGINT)
            values = [self.compile(node) for node in nodes]
        finally:
            if not windowed:
                scope.inside -= 1
        return self._aggregated(name, values, distinct)

    def _aggregated(self, name: str, values: list[Typed], distinct: str) -> Typed:
        value = values[0]
        if name == "COUNT":
            if len(values) > 1:
                if not distinct:
                    raise syntax_error("COUNT")
                return Typed(f"count(DISTINCT f_row_key({', '.join(item.sql for item in values)}))", BIGINT)
            return Typed(f"count({distinct}{value.collated if distinct else value.sql})", BIGINT)
        if name == "ANY_VALUE":
            return value
        if name in ("MIN", "MAX"):
            return Typed(f"{name.lower()}({value.collated})", replace(value.type, loose=False))
        if name in _SPREADS:
            return Typed(f"f_{_SPREADS[name]}({distinct}{self.number(value).sql})", DOUBLE)
        if name in _BIT_AGGREGATES:
            return Typed(f"f_{_BIT_AGGREGATES[name]}({value.sql})", SqlType("int", "bigint", unsigned=True))
        if not value.type.numeric:
            value = self.number(value)
        if not value.type.exact:
            return Typed(f"f_{name.lower()}_real({distinct}{value.sql})", DOUBLE)
        scale = value.type.scale + (4 if name == "AVG" else 0)
        collated = value.collated if distinct else value.sql
        return Typed(f"f_{name.lower()}_exact({distinct}{collated})", decimal_type(scale))

    def group_concat(self, node: exp.GroupConcat) -> Typed:
        """GROUP_CONCAT with its DISTINCT, ORDER BY and SEPARATOR."""
        scope = self.scope
        if self.clause in ("where clause", "group statement") or scope.inside:
            raise failed(1111, "Invalid use of group function")
        scope.inside += 1
        scope.aggregates += 1
        scope.sorts = True
        try:
            inner, order = node.this, []
            if isinstance(inner, exp.Order):
                inner, order = inner.this, inner.expressions
            distinct = isinstance(inner, exp.Distinct)
            parts = inner.expressions if isinstance(inner, (exp.Distinct, exp.Concat)) else [inner]
            if len(parts) == 1:
                text = self.text(self.compile(parts[0]))
            else:
                text = f"f_concat({', '.join(self.text(self.compile(part)) for part in parts)})"
            keys = []
            for ordered in order:
                key = self.compile(ordered.this)
                keys.append(self.real(key) if key.type.numeric else key.sql)
                keys.append("1" if ordered.args.get("desc") else "0")
        finally:
            scope.inside -= 1
        separator = node.args.get("separator")
        shown = separator.name if isinstance(separator, exp.Expr) else ","
        return Typed(f"f_concat_group({', '.join([text, literal(shown), str(int(distinct)), *keys])})", TEXT)

    def window(self, node: exp.Window) -> Typed:
        """``function OVER (…)``."""
        inner = node.this
        if not isinstance(inner, exp.Anonymous):
            raise failed(1235, "This version of MySQL doesn't yet support 'this function as a window'")
        name = str(inner.this).upper()
        name = ALIASES.get(name, name)
        if name in AGGREGATES:
            found = self.aggregate(name, inner.expressions, windowed=True)
        elif name in _RANKS:
            arguments = ", ".join(self.compile(part).sql for part in inner.expressions)
            found = Typed(f"{name.lower()}({arguments})", DOUBLE if name in ("PERCENT_RANK", "CUME_DIST") else BIGINT)
        elif name in _NEIGHBOURS and inner.expressions:
            values = [self.compile(part) for part in inner.expressions]
            found = Typed(f"{name.lower()}({', '.join(value.sql for value in values)})", values[0].type)
        else:
            raise failed(1305, f"FUNCTION {PUBLIC_NAME}.{inner.this} does not exist")
        keys, frame = self._frame(node)
        # The rows come in the order of the last window, unless the query orders them.
        self.window_order = keys or self.window_order
        return Typed(f"{found.sql} OVER ({frame})", found.type)

    def _frame(self, node: exp.Window, depth: int = 0) -> tuple[list[str], str]:
        """The keys of a window, and all that stands in its brackets."""
        base = node.args.get("alias")
        parts: list[str] = []
        order_keys: list[str] = []
        if base is not None:
            named = self.named_windows.get(base.name.lower())
            if named is None or depth > 10:
                raise failed(3579, f"Window name '{base.name}' is not defined.")
            order_keys, text = self._frame(named, depth + 1)
            parts.append(text)
        if node.args.get("partition_by"):
            keys = [self.compile(part).collated for part in node.args["partition_by"]]
            parts.append(f"PARTITION BY {', '.join(keys)}")
            order_keys = order_keys + keys
        order = node.args.get("order")
        if order is not None:
            keys = [
                self.compile(part.this).collated + (" DESC" if part.args.get("desc") else "")
                for part in order.expressions
            ]
            parts.append(f"ORDER BY {', '.join(keys)}")
            order_keys = order_keys + keys
        spec = node.args.get("spec")
        if spec is not None:
            parts.append(_frame_text(self, spec))
        return order_keys, " ".join(part for part in parts if part)


def _frame_text(calls: Grouping, spec: exp.Expr) -> str:
    def bound(value: Any, side: Any) -> str:
        text = calls.compile(value).sql if isinstance(value, exp.Expr) else str(value)
        return f"{text} {side}" if side else text

    kind = str(spec.args.get("kind") or "ROWS").upper()
    if kind not in ("ROWS", "RANGE"):
        return ""
    start = bound(spec.args.get("start"), spec.args.get("start_side"))
    if spec.args.get("end") is None:
        return f"{kind} {start}"
    return f"{kind} BETWEEN {start} AND {bound(spec.args['end'], spec.args.get('end_side'))}"
