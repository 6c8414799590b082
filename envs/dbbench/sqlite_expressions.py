"""MySQL's expressions as SQLite's: each comparison, sum and cast spelled out by the types of its operands."""

# ruff: noqa: S608 - names are SQLite's own (t1, c0), values are parameters or escaped literals

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from sqlglot import exp

from envs.dbbench.sqlite_conversions import Conversions, balanced, row_parts
from envs.dbbench.sqlite_errors import failed, syntax_error, unsupported
from envs.dbbench.sqlite_scope import NOTHING, Scope, Typed, literal
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
)

if TYPE_CHECKING:
    from envs.dbbench.sqlite_state import State

__all__ = ["Expressions"]

_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.NullSafeEQ: "IS",
}  # fmt: skip
_ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"}
_BITS: dict[type[exp.Expr], str] = {
    exp.BitwiseAnd: "bit_and2", exp.BitwiseOr: "bit_or2", exp.BitwiseXor: "bit_xor2",
    exp.BitwiseLeftShift: "shift_left", exp.BitwiseRightShift: "shift_right",
}  # fmt: skip
_OPPOSITE = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class Expressions(Conversions):
    """Compiles expressions in ``scope``. ``clause``: what MySQL calls the place, for its error 1054."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self.scope = Scope()
        self.clause = "field list"
        self.renamed: dict[str, Typed] = {}  # what an UPDATE has assigned so far, by SQLite's name of the column

    def compile(self, node: exp.Expr | None) -> Typed:
        """One expression. Raises StatementFailed."""
        if node is None:
            return NOTHING
        kind = type(node)
        if kind in _COMPARISONS:
            return self._comparison(node, _COMPARISONS[kind])
        if kind in _ARITHMETIC:
            return self._arithmetic(node, _ARITHMETIC[kind])
        if kind in _BITS:
            one, two = self.compile(node.this), self.compile(node.expression)
            return Typed(f"f_{_BITS[kind]}({one.sql}, {two.sql})", SqlType("int", "bigint", unsigned=True))
        method = self._METHODS.get(kind)
        if method is None:
            raise unsupported(node.key.upper())
        return method(self, node)

    def call(self, name: str, nodes: list[exp.Expr]) -> Typed:
        """A function. See ``Calls``."""
        raise NotImplementedError

    def inner(self, name: str, nodes: list[exp.Expr]) -> Typed:
        """A function that no statement can name. See ``Calls``."""
        raise NotImplementedError

    def window(self, node: exp.Window) -> Typed:
        """A window function. See ``Calls``."""
        raise NotImplementedError

    def group_concat(self, node: exp.GroupConcat) -> Typed:
        """GROUP_CONCAT. See ``Calls``."""
        raise NotImplementedError

    def subquery(self, node: exp.Expr) -> tuple[str, list[SqlType], bool]:
        """A query within an expression: its text, its columns' types, whether it has one row. See ``Queries``."""
        raise NotImplementedError

    # Values.

    def _literal(self, node: exp.Literal) -> Typed:
        text = str(node.this)
        if node.is_string:
            return Typed(literal(text), SqlType("text", "varchar", len(text)), text=text)
        if "e" in text.lower():
            return Typed(literal(float(text)), DOUBLE)
        if "." in text:
            scale = len(text) - text.index(".") - 1
            return Typed(literal(text), decimal_type(scale, len(text)))
        if len(text.lstrip("0")) > 18 and int(text) > 2**63 - 1:
            name = "bigint" if int(text) < 2**64 else "decimal"
            return Typed(literal(text.lstrip("0")), replace(decimal_type(0, len(text)), name=name))
        return Typed(text.lstrip("0") or "0", SqlType("int", "bigint", len(text)))

    def _column(self, node: exp.Column) -> Typed:
        if isinstance(node.this, exp.Star):
            raise syntax_error("*")
        if node.args.get("db") is not None:
            self.state.own_schema(node.args["db"].name)
        name, table = node.name, node.table
        if not table and name.upper() in ("UTC_DATE", "UTC_TIMESTAMP", "UTC_TIME") and not node.this.args.get("quoted"):
            return self.call(name, [])
        found = self.scope.column(name, table, self.clause)
        return self.renamed.get(found.sql, found)

    def _parameter(self, node: exp.Parameter) -> Typed:
        return self.state.variable(node.name)

    def _system(self, node: exp.SessionParameter) -> Typed:
        return self.state.system_variable(node.name)

    def _assign(self, node: exp.PropertyEQ) -> Typed:
        value = self.compile(node.expression)
        self.state.variable_types[node.this.name.lower()] = value.type
        return Typed(f"f_assign_variable({literal(node.this.name.lower())}, {value.sql})", value.type)

    def _hex(self, node: exp.HexString) -> Typed:
        try:
            found = bytes.fromhex(str(node.this).rjust(len(str(node.this)) + len(str(node.this)) % 2, "0"))
        except ValueError:
            raise unsupported("hexadecimal literal") from None
        return Typed(literal(found), BINARY)

    def _bits(self, node: exp.BitString) -> Typed:
        number = int(str(node.this) or "0", 2)
        return Typed(literal(number.to_bytes(max((number.bit_length() + 7) // 8, 1), "big")), BINARY)

    def _joined_texts(self, node: exp.Concat) -> Typed:
        if all(isinstance(part, exp.Literal) and part.is_string for part in node.expressions):
            text = "".join(part.name for part in node.expressions)
            return Typed(literal(text), TEXT, text=text)
        return self.call("CONCAT", node.expressions)

    # Logic.

    def truth(self, node: exp.Expr | None) -> str:
        """An expression as a condition."""
        return self.truthful(self.compile(node))

    def _connected(self, node: exp.Connector) -> Typed:
        word = " AND " if isinstance(node, exp.And) else " OR "
        return Typed(balanced([self.truth(part) for part in node.flatten()], word), INT)

    def _xor(self, node: exp.Xor) -> Typed:
        return Typed(f"((NOT {self.truth(node.this)}) <> (NOT {self.truth(node.expression)}))", INT)

    def _not(self, node: exp.Not) -> Typed:
        return Typed(f"(NOT {self.truth(node.this)})", INT)

    def _is(self, node: exp.Is) -> Typed:
        what = node.expression
        if isinstance(what, exp.Boolean):
            condition = self.truth(node.this)
            return Typed(f"({condition} IS {'TRUE' if what.this else 'FALSE'})", INT)
        return Typed(f"({self.compile(node.this).sql} IS NULL)", INT)

    def _case(self, node: exp.Case) -> Typed:
        subject = node.this
        conditions, values = [], []
        for branch in node.args["ifs"]:
            if subject is None:
                conditions.append(self.truth(branch.this))
            else:
                conditions.append(self.compared("=", self.compile(subject), self.compile(branch.this)))
            values.append(self.compile(branch.args["true"]))
        default = node.args.get("default")
        if default is not None:
            values.append(self.compile(default))
        return self.choice(conditions, values)

    # Comparisons.

    def _comparison(self, node: exp.Expr, sign: str) -> Typed:
        one, two = node.this, node.expression
        if isinstance(two, (exp.Any, exp.All)):
            return self._quantified(one, sign, two)
        first, second = row_parts(one), row_parts(two)
        if first is not None or second is not None:
            return self._rows_compared(sign, first or [one], second or [two])
        return Typed(self.compared(sign, self.compile(one), self.compile(two)), INT)

    def _rows_compared(self, sign: str, first: list[exp.Expr], second: list[exp.Expr]) -> Typed:
        if len(first) != len(second):
            raise failed(1241, f"Operand should contain {len(first)} column(s)")
        if sign not in ("=", "<>", "IS"):
            raise unsupported("comparison of rows by order")
        pairs = [
            self.compared("=" if sign == "<>" else sign, self.compile(one), self.compile(two))
            for one, two in zip(first, second, strict=True)
        ]
        joined = "(" + " AND ".join(pairs) + ")"
        return Typed(f"(NOT {joined})" if sign == "<>" else joined, INT)

    def _between(self, node: exp.Between) -> Typed:
        value, low, high = (self.compile(part) for part in (node.this, node.args["low"], node.args["high"]))
        if value.type.temporal is False and low.type.temporal and high.type.temporal:
            value = Typed(self.cast(value, low.type), low.type)
        return Typed(f"({self.compared('>=', value, low)} AND {self.compared('<=', value, high)})", INT)

    def _in(self, node: exp.In) -> Typed:
        query = node.args.get("query")
        row = row_parts(node.this)
        if query is not None:
            return self._in_query(row or [node.this], query)
        if row is not None:
            parts = [self._rows_compared("=", row, row_parts(item) or [item]).sql for item in node.expressions]
            return Typed("(" + " OR ".join(parts) + ")", INT)
        value = self.compile(node.this)
        groups: dict[tuple[str, str], list[str]] = {}
        for item in node.expressions:
            first, second, collation = self.comparable(value, self.compile(item))
            groups.setdefault((first, collation), []).append(second)
        parts = [f"{first}{collation} IN ({', '.join(items)})" for (first, collation), items in groups.items()]
        return Typed("(" + " OR ".join(parts) + ")", INT)

    def _in_query(self, row: list[exp.Expr], query: exp.Expr) -> Typed:
        text, types, _ = self.subquery(query)
        if len(types) != len(row):
            raise failed(1241, f"Operand should contain {len(row)} column(s)")
        name = self.state.alias()
        values = [self.compile(part) for part in row]
        pairs = [
            self.comparable(value, Typed(f"{name}.c{at}", kind))
            for at, (value, kind) in enumerate(zip(values, types, strict=True))
        ]
        if len(pairs) == 1:
            first, second, collation = pairs[0]
            return Typed(f"({first}{collation} IN (SELECT {second} FROM ({text}) AS {name}))", INT)
        same = " AND ".join(f"{first}{collation} = {second}" for first, second, collation in pairs)
        return Typed(f"EXISTS (SELECT 1 FROM ({text}) AS {name} WHERE {same})", INT)

    def _quantified(self, one: exp.Expr, sign: str, many: exp.Expr) -> Typed:
        query = many.this
        if sign == "=" and isinstance(many, exp.Any):
            return self._in_query([one], query)
        if sign == "<>" and isinstance(many, exp.All):
            return Typed(f"(NOT {self._in_query([one], query).sql})", INT)
        text, types, _ = self.subquery(query)
        name = self.state.alias()
        value, item = self.compile(one), Typed(f"{name}.c0", types[0])
        if isinstance(many, exp.Any):
            return Typed(f"EXISTS (SELECT 1 FROM ({text}) AS {name} WHERE {self.compared(sign, value, item)})", INT)
        against = self.compared(_OPPOSITE[sign], value, item)
        return Typed(f"(NOT EXISTS (SELECT 1 FROM ({text}) AS {name} WHERE {against} IS NOT FALSE))", INT)

    def _subquery(self, node: exp.Subquery) -> Typed:
        text, types, single = self.subquery(node)
        if len(types) != 1:
            raise failed(1241, "Operand should contain 1 column(s)")
        if single:
            return Typed(f"({text})", types[0])
        name = self.state.alias()
        return Typed(f"(SELECT f_single({name}.c0) FROM ({text}) AS {name})", types[0])

    def _exists(self, node: exp.Exists) -> Typed:
        return Typed(f"EXISTS ({self.subquery(node.this)[0]})", INT)

    # Numbers.

    def _arithmetic(self, node: exp.Expr, sign: str) -> Typed:
        for interval, other in ((node.expression, node.this), (node.this, node.expression)):
            if isinstance(interval, exp.Interval) and sign in "+-":
                return self.moved(self.compile(other), interval, 1 if sign == "+" else -1)
        return self.computed(sign, self.compile(node.this), self.compile(node.expression))

    def _negative(self, node: exp.Neg) -> Typed:
        value = self.compile(node.this)
        if value.type.kind == "decimal":
            return Typed(f"f_dec_neg({value.sql})", value.type)
        value = self.number(value)
        return Typed(f"(-{value.sql})", value.type if value.type.kind == "int" else DOUBLE)

    def _int_div(self, node: exp.IntDiv) -> Typed:
        return Typed(
            f"f_int_div{self.by_zero}({self.compile(node.this).sql}, {self.compile(node.expression).sql})", BIGINT
        )

    # Types.

    def _cast(self, node: exp.Cast) -> Typed:
        value, target = self.compile(node.this), node.to
        word = str(target.this.value if hasattr(target.this, "value") else target.this).upper()
        sizes = [int(item.name) for item in target.expressions if item.name.isdigit()]
        if word in ("BIGINT", "UBIGINT", "INT", "UINT", "SIGNED", "UNSIGNED"):
            kind = SqlType("int", "bigint", unsigned=word.startswith("U"))
            source = self.number(value) if value.type.temporal else value
            return Typed(
                source.sql if source.type.kind == "int" else f"f_signed{self.strict}({self.raw_number(source)})", kind
            )
        if word in ("DECIMAL", "UDECIMAL"):
            length, scale = (*sizes, 10, 0)[:2] if len(sizes) != 1 else (sizes[0], 0)
            if scale > 30 or length > 65 or length < scale:
                raise failed(1426, f"Too-big precision {length} specified for '{value.sql[:40]}'. Maximum is 65.")
            source = self.number(value) if value.type.temporal else value
            return Typed(f"f_decimal{self.strict}({source.sql}, {length}, {scale})", decimal_type(scale, length))
        if word in ("CHAR", "NCHAR", "VARCHAR", "TEXT", "CHARACTER_SET", "NVARCHAR"):
            text = self.text(value)
            return Typed(f"f_left({text}, {sizes[0]})" if sizes else text, TEXT)
        if word in ("DATE", "DATETIME", "TIME", "TIMESTAMPTZ", "TIMESTAMP"):
            kind = {"DATE": DATE, "TIME": TIME}.get(word, DATETIME)
            return Typed(self.cast(value, kind), kind)
        if word in ("BINARY", "VARBINARY", "BLOB"):
            return Typed(self.cast(value, BINARY), BINARY)
        if word in ("DOUBLE", "FLOAT", "REAL"):
            return Typed(f"f_double({value.sql})", DOUBLE)
        if word == "YEAR":
            return Typed(f"f_signed({value.sql})", BIGINT)
        raise unsupported(f"CAST AS {word}")

    def _collate(self, node: exp.Collate) -> Typed:
        value = self.compile(node.this)
        name = node.expression.name.lower()
        if not name.startswith(("utf8", "binary", "latin1", "ascii")):
            raise failed(1273, f"Unknown collation: '{name}'")
        return Typed(self.text(value), SqlType("text", "text", binary=name.endswith(("_bin", "_cs", "binary"))))

    _METHODS: ClassVar[dict[type[exp.Expr], Callable[[Any, Any], Typed]]] = {
        exp.Literal: _literal,
        exp.Column: _column,
        exp.Paren: lambda self, node: self.compile(node.this),
        exp.Null: lambda self, node: NOTHING,
        exp.Boolean: lambda self, node: Typed("1" if node.this else "0", INT),
        exp.National: lambda self, node: self.compile(exp.Literal.string(node.name)),
        exp.Introducer: lambda self, node: self.compile(node.expression),
        exp.HexString: _hex,
        exp.BitString: _bits,
        exp.Concat: _joined_texts,
        exp.Parameter: _parameter,
        exp.SessionParameter: _system,
        exp.PropertyEQ: _assign,
        exp.And: _connected,
        exp.Or: _connected,
        exp.Xor: _xor,
        exp.Not: _not,
        exp.Is: _is,
        exp.Case: _case,
        exp.Between: _between,
        exp.In: _in,
        exp.Like: Conversions.like,
        exp.Escape: Conversions.escaped_like,
        exp.RegexpLike: Conversions.regexp,
        exp.Subquery: _subquery,
        exp.Exists: _exists,
        exp.Neg: _negative,
        exp.IntDiv: _int_div,
        exp.BitwiseNot: lambda self, node: Typed(
            f"(~{self.number(self.compile(node.this)).sql})", SqlType("int", "bigint", unsigned=True)
        ),
        exp.Cast: _cast,
        exp.Collate: _collate,
        exp.Anonymous: lambda self, node: self.call(str(node.this), node.expressions),
        exp.Window: lambda self, node: self.window(node),
        exp.GroupConcat: lambda self, node: self.group_concat(node),
        exp.If: lambda self, node: self.call("IF", [node.this, node.args.get("true"), node.args.get("false")]),
        exp.Substring: lambda self, node: self.call(
            "SUBSTRING", [part for part in (node.this, node.args.get("start"), node.args.get("length")) if part]
        ),
        exp.StrPosition: lambda self, node: self.call("LOCATE", [node.args["substr"], node.this]),
        exp.Soundex: lambda self, node: self.call("SOUNDEX", [node.this]),
        exp.Trim: lambda self, node: self.inner(
            "trim3",
            [
                node.this,
                exp.Literal.string(str(node.args.get("position") or "BOTH").upper()),
                node.expression or exp.Literal.string(" "),
            ],
        ),
        exp.Extract: lambda self, node: self.inner(
            "extract_unit", [exp.Literal.string(node.name.lower()), node.expression]
        ),
        exp.Chr: lambda self, node: self.inner(
            "char_text" if node.args.get("charset") else "char_of", node.expressions
        ),
        exp.CurrentDate: lambda self, node: self.call("CURDATE", []),
        exp.CurrentTime: lambda self, node: self.call("CURTIME", []),
        exp.CurrentTimestamp: lambda self, node: self.call("NOW", []),
        exp.Localtime: lambda self, node: self.call("NOW", []),
        exp.Localtimestamp: lambda self, node: self.call("NOW", []),
        exp.CurrentUser: lambda self, node: self.call("CURRENT_USER", []),
    }
