"""MySQL's functions by name: those whose result's type hangs on their arguments, aggregates and windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from sqlglot import exp

from envs.dbbench.backend import PUBLIC_NAME
from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_functions import FUNCTIONS
from envs.dbbench.sqlite_grouping import AGGREGATES, ALIASES, WINDOW_ONLY, Grouping
from envs.dbbench.sqlite_scope import Typed, literal
from envs.dbbench.sqlite_types import (
    BIGINT,
    BINARY,
    DATE,
    DATETIME,
    DOUBLE,
    INT,
    TEXT,
    TIME,
    SqlType,
    decimal_type,
    merged,
)
from envs.dbbench.sqlite_values import CLOCK, format_moment

__all__ = ["Calls"]

_GIVES = {
    "text": TEXT, "int": BIGINT, "double": DOUBLE, "date": DATE, "datetime": DATETIME, "time": TIME, "binary": BINARY,
}  # fmt: skip
_TIME_LETTERS = frozenset("HhIiklprSsTf")


class Calls(Grouping):
    """Compiles calls of functions."""

    def call(self, name: str, nodes: list[exp.Expr]) -> Typed:
        """A function by its name. Raises StatementFailed (1305 for an unknown one, 1582 for a wrong count)."""
        upper = name.upper()
        upper = ALIASES.get(upper, upper)
        if upper in AGGREGATES:
            return self.aggregate(upper, nodes)
        special = self._SPECIAL.get(upper)
        if special is not None:
            least, most, method = special
            _count(name, nodes, least, most)
            return method(self, upper, nodes)
        if upper in WINDOW_ONLY:
            raise failed(3593, f"You cannot use the window function '{upper.lower()}' in this context.'")
        known = FUNCTIONS.get(upper.lower())
        if known is None or known.inner:
            raise failed(1305, f"FUNCTION {PUBLIC_NAME}.{name} does not exist")
        _count(name, nodes, known.least, known.most)
        return self.inner(upper.lower(), nodes)

    def inner(self, name: str, nodes: list[exp.Expr]) -> Typed:
        """A function that SQLite was taught."""
        known = FUNCTIONS[name]
        texts = []
        for at, node in enumerate(nodes):
            letter = known.takes[min(at, len(known.takes) - 1)] if known.takes else "v"
            texts.append(self._argument(letter, self.compile(node)))
        return Typed(f"f_{name}({', '.join(texts)})", _GIVES[known.gives])

    def _argument(self, letter: str, value: Typed) -> str:
        if letter == "n":
            return self.number(value).sql
        if value.type.kind == "decimal" or (letter == "t" and value.type.kind not in ("int", "null", "binary")):
            return self.text(value)
        if letter == "i" and value.type.temporal:
            return self.number(value).sql
        return value.sql

    # Functions of their arguments' types.

    def _if(self, name: str, nodes: list[exp.Expr]) -> Typed:
        return self.choice([self.truth(nodes[0])], [self.compile(nodes[1]), self.compile(nodes[2])])

    def _coalesce(self, name: str, nodes: list[exp.Expr]) -> Typed:
        values = [self.compile(node) for node in nodes]
        kind = merged([value.type for value in values])
        if len(values) == 1:
            return values[0]
        return Typed(f"coalesce({', '.join(self.cast(value, kind) for value in values)})", kind)

    def _nullif(self, name: str, nodes: list[exp.Expr]) -> Typed:
        one, two = self.compile(nodes[0]), self.compile(nodes[1])
        return Typed(f"(CASE WHEN {self.compared('=', one, two)} THEN NULL ELSE {one.sql} END)", one.type)

    def _isnull(self, name: str, nodes: list[exp.Expr]) -> Typed:
        return Typed(f"({self.compile(nodes[0]).sql} IS NULL)", INT)

    def _numeric(self, node: exp.Expr) -> Typed:
        value = self.compile(node)
        return value if value.type.numeric else self.number(value)

    def _round(self, name: str, nodes: list[exp.Expr]) -> Typed:
        value = self._numeric(nodes[0])
        digits = self.compile(nodes[1]).sql if len(nodes) > 1 else "0"
        call = f"f_{name.lower()}2({value.sql}, {digits})"
        if value.type.kind == "decimal":
            plain = digits.strip("()")
            known = int(plain) if plain.lstrip("-").isdigit() else value.type.scale
            return Typed(call, decimal_type(min(max(known, 0), value.type.scale)))
        return Typed(call, BIGINT if value.type.exact else DOUBLE)

    def _whole(self, name: str, nodes: list[exp.Expr]) -> Typed:
        value = self._numeric(nodes[0])
        return Typed(f"f_{name.lower()}1({value.sql})", BIGINT if value.type.exact else DOUBLE)

    def _abs(self, name: str, nodes: list[exp.Expr]) -> Typed:
        value = self._numeric(nodes[0])
        if value.type.kind == "decimal":
            return Typed(f"f_dec_{name.lower()}({value.sql})", value.type if name == "ABS" else BIGINT)
        if name == "SIGN":
            return Typed(f"(({value.sql} > 0) - ({value.sql} < 0))", BIGINT)
        return Typed(f"abs({value.sql})", value.type)

    def _mod(self, name: str, nodes: list[exp.Expr]) -> Typed:
        return self.computed("%", self.compile(nodes[0]), self.compile(nodes[1]))

    def _extreme(self, name: str, nodes: list[exp.Expr]) -> Typed:
        values = [self.compile(node) for node in nodes]
        kind = merged([value.type for value in values])
        texts = ", ".join(self.cast(value, kind) for value in values)
        if kind.kind in ("int", "double", "float", "year", "null"):
            return Typed(f"{'max' if name == 'GREATEST' else 'min'}({texts})", kind)
        how = "exact" if kind.kind == "decimal" else "text"
        return Typed(f"f_{name.lower()}_{how}({texts})", kind)

    # Dates.

    def _date_add(self, name: str, nodes: list[exp.Expr]) -> Typed:
        value, interval = self.compile(nodes[0]), nodes[1]
        if not isinstance(interval, exp.Interval):
            interval = exp.Interval(this=interval, unit=exp.var("DAY"))
        return self.moved(value, interval, -1 if name == "DATE_SUB" else 1)

    def _timestampadd(self, name: str, nodes: list[exp.Expr]) -> Typed:
        interval = exp.Interval(this=nodes[1], unit=exp.var(nodes[0].name.upper().removeprefix("SQL_TSI_")))
        return self.moved(self.compile(nodes[2]), interval, 1)

    def _timestampdiff(self, name: str, nodes: list[exp.Expr]) -> Typed:
        unit = exp.Literal.string(nodes[0].name.lower().removeprefix("sql_tsi_"))
        return self.inner("timestampdiff3", [unit, nodes[1], nodes[2]])

    def _timestamp(self, name: str, nodes: list[exp.Expr]) -> Typed:
        return Typed(self.cast(self.compile(nodes[0]), DATETIME), DATETIME)

    def _str_to_date(self, name: str, nodes: list[exp.Expr]) -> Typed:
        found = self.inner("str_to_date", nodes)
        pattern = nodes[1]
        if not isinstance(pattern, exp.Literal):
            return found
        letters = {pattern.name[at + 1 : at + 2] for at, char in enumerate(pattern.name) if char == "%"}
        if not letters & _TIME_LETTERS:
            return Typed(found.sql, DATE)
        return Typed(found.sql, DATETIME if letters - _TIME_LETTERS else TIME)

    def _now(self, name: str, nodes: list[exp.Expr]) -> Typed:
        text = format_moment(CLOCK)
        if name == "CURDATE":
            return Typed(literal(text[:10]), DATE)
        return Typed(literal(text[11:]), TIME) if name == "CURTIME" else Typed(literal(text), DATETIME)

    # The session.

    def _session(self, name: str, nodes: list[exp.Expr]) -> Typed:
        value = self.state.said(name)
        return Typed(literal(value), BIGINT if isinstance(value, int) else TEXT)

    def _rand(self, name: str, nodes: list[exp.Expr]) -> Typed:
        if not nodes:
            return Typed("f_rand()", DOUBLE)
        return Typed(f"f_rand_of({self.compile(nodes[0]).sql}, {literal(self.state.alias())})", DOUBLE)

    def _sleep(self, name: str, nodes: list[exp.Expr]) -> Typed:
        return Typed(f"f_sleep({self._numeric(nodes[0]).sql})", BIGINT)

    def _charset(self, name: str, nodes: list[exp.Expr]) -> Typed:
        self.compile(nodes[0])
        return Typed(literal("utf8mb4" if name == "CHARSET" else "utf8mb4_0900_ai_ci"), TEXT)

    def _values(self, name: str, nodes: list[exp.Expr]) -> Typed:
        """VALUES(column) of ON DUPLICATE KEY UPDATE: the row that was to be inserted."""
        return self.scope.column(nodes[0].name, "VALUES", self.clause)

    def _load_file(self, name: str, nodes: list[exp.Expr]) -> Typed:
        self.compile(nodes[0])
        return Typed("NULL", TEXT)

    def _pi(self, name: str, nodes: list[exp.Expr]) -> Typed:
        return Typed("f_pi()", SqlType("double", "double", scale=6))

    def _from_unixtime(self, name: str, nodes: list[exp.Expr]) -> Typed:
        return Typed(self.inner("from_unixtime", nodes).sql, DATETIME if len(nodes) == 1 else TEXT)

    def _uuid(self, name: str, nodes: list[exp.Expr]) -> Typed:
        return Typed("f_uuid()", TEXT)

    _SPECIAL: ClassVar[dict[str, tuple[int, int, Callable[[Any, str, list[exp.Expr]], Typed]]]] = {
        "IF": (3, 3, _if),
        "IFNULL": (2, 2, _coalesce),
        "COALESCE": (1, -1, _coalesce),
        "NULLIF": (2, 2, _nullif),
        "ISNULL": (1, 1, _isnull),
        "ROUND": (1, 2, _round),
        "TRUNCATE": (2, 2, _round),
        "CEIL": (1, 1, _whole),
        "FLOOR": (1, 1, _whole),
        "ABS": (1, 1, _abs),
        "SIGN": (1, 1, _abs),
        "MOD": (2, 2, _mod),
        "GREATEST": (2, -1, _extreme),
        "LEAST": (2, -1, _extreme),
        "DATE_ADD": (2, 2, _date_add),
        "DATE_SUB": (2, 2, _date_add),
        "TIMESTAMPADD": (3, 3, _timestampadd),
        "TIMESTAMPDIFF": (3, 3, _timestampdiff),
        "TIMESTAMP": (1, 1, _timestamp),
        "STR_TO_DATE": (2, 2, _str_to_date),
        "NOW": (0, 1, _now),
        "CURDATE": (0, 0, _now),
        "CURTIME": (0, 1, _now),
        "DATABASE": (0, 0, _session),
        "VERSION": (0, 0, _session),
        "USER": (0, 0, _session),
        "CURRENT_USER": (0, 0, _session),
        "CONNECTION_ID": (0, 0, _session),
        "LAST_INSERT_ID": (0, 0, _session),
        "ROW_COUNT": (0, 0, _session),
        "FOUND_ROWS": (0, 0, _session),
        "RAND": (0, 1, _rand),
        "SLEEP": (1, 1, _sleep),
        "LOAD_FILE": (1, 1, _load_file),
        "PI": (0, 0, _pi),
        "FROM_UNIXTIME": (1, 2, _from_unixtime),
        "UUID": (0, 0, _uuid),
        "CHARSET": (1, 1, _charset),
        "COLLATION": (1, 1, _charset),
        "VALUES": (1, 1, _values),
    }


def _count(name: str, nodes: list[exp.Expr], least: int, most: int) -> None:
    if len(nodes) < least or (0 <= most < len(nodes)):
        raise failed(1582, f"Incorrect parameter count in the call to native function '{name}'")
