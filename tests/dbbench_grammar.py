"""MySQL statements at random, the same from the same seed: valid ones, nearly valid ones and noise.

``statements(seed)`` gives them without end. Each is drawn from a weighted grammar over a few tables whose names come
back, so that many statements do something; then a fifth of them are broken: words left out, doubled or exchanged,
quotes opened, bytes put in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from dbbench_grammar_words import (
    ADMIN,
    BINARY,
    COLUMN_OPTIONS,
    COLUMNS,
    FUNCTIONS,
    LITERALS,
    NAMES,
    NOISE,
    SETTINGS,
    SHOW,
    SOURCES,
    TABLE_OPTIONS,
    TRANSACTIONS,
    TYPES,
)

__all__ = ["Grammar", "statements"]

_DEPTH = 3


class Grammar:
    """Draws statements from one source of chance."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._kinds: list[tuple[int, Callable[[], str]]] = [
            (30, self._select), (10, self._insert), (7, self._update), (4, self._delete), (12, self._create_table),
            (5, self._alter), (3, self._drop), (4, self._view), (6, self._routine), (3, self._trigger), (7, self._show),
            (7, self._set), (9, self._admin), (4, self._transaction), (2, self._index), (2, self._explain),
            (1, self._noise),
        ]  # fmt: skip
        self._weights = [weight for weight, _ in self._kinds]

    def statement(self) -> str:
        """The next one."""
        ((_, draw),) = self._random.choices(self._kinds, self._weights)
        text = draw()
        if self._chance(0.04):
            text = f"/* {self._pick(NOISE)} */ {text}"
        while self._chance(0.2):
            text = self._broken(text)
        return text

    # Chance.

    def _pick(self, items: tuple[str, ...]) -> str:
        return items[int(len(items) * self._random.random() ** 2)]

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _some(self, draw: Callable[[], str], most: int = 3, between: str = ", ") -> str:
        return between.join(draw() for _ in range(self._random.randint(1, most)))

    def _maybe(self, text: str, share: float = 0.4) -> str:
        return f" {text}" if self._chance(share) else ""

    # Words.

    def _table(self) -> str:
        name = self._pick(NAMES)
        quoted = name if name.isalnum() and self._chance(0.5) else f"`{name.replace('`', '``')}`"
        return f"dbbench.{quoted}" if self._chance(0.05) else quoted

    def _column(self) -> str:
        name = self._pick(COLUMNS)
        return name if len(name) == 1 else f"`{name}`"

    def _literal(self) -> str:
        return self._pick(LITERALS)

    def _expression(self, depth: int = 0) -> str:
        kind = self._random.random()
        if depth >= _DEPTH or kind < 0.3:
            return self._column() if self._chance(0.5) else self._literal()
        inner = depth + 1
        if kind < 0.5:
            return f"{self._expression(inner)} {self._pick(BINARY)} {self._expression(inner)}"
        if kind < 0.75:
            count = self._random.choice((0, 1, 1, 2, 2, 3))
            return f"{self._pick(FUNCTIONS)}({', '.join(self._expression(inner) for _ in range(count))})"
        if kind < 0.8:
            return f"CASE WHEN {self._expression(inner)} THEN {self._expression(inner)} ELSE {self._literal()} END"
        if kind < 0.84:
            return f"({self._query(inner)})"
        if kind < 0.88:
            return f"{self._expression(inner)} IN ({self._some(self._literal, 5)})"
        if kind < 0.91:
            return f"EXISTS ({self._query(inner)})"
        if kind < 0.94:
            kinds = ("SIGNED", "CHAR", "DECIMAL(5,2)", "JSON", "DATE", "BINARY")
            return f"CAST({self._expression(inner)} AS {self._random.choice(kinds)})"
        if kind < 0.97:
            window = f"PARTITION BY {self._column()} ORDER BY {self._column()}"
            function = self._random.choice(("ROW_NUMBER", "RANK", "LAG", "SUM", "NTILE"))
            return f"{function}({self._column()}) OVER ({window})"
        return f"NOT ({self._expression(inner)})"

    def _source(self, depth: int) -> str:
        kind = self._random.random()
        if depth < _DEPTH and kind < 0.12:
            return f"({self._query(depth + 1)}) AS q{depth}"
        if kind < 0.3:
            join = self._random.choice(
                ("JOIN", "LEFT JOIN", "RIGHT JOIN", "CROSS JOIN", "NATURAL JOIN", "STRAIGHT_JOIN")
            )
            on = "" if join in ("CROSS JOIN", "NATURAL JOIN") else f" ON {self._expression(2)}"
            return f"{self._table()} x {join} {self._table()} y{on}"
        if kind < 0.33:
            return "JSON_TABLE('[1,2]', '$[*]' COLUMNS (a INT PATH '$')) j"
        if kind < 0.36:
            return self._random.choice(SOURCES)
        return self._table()

    def _query(self, depth: int = 0) -> str:
        shown = "*" if self._chance(0.3) else self._some(lambda: self._expression(depth))
        head = f"SELECT{self._maybe('DISTINCT', 0.1)} {shown}"
        text = f"{head} FROM {self._source(depth)}" if self._chance(0.85) else head
        text += self._maybe(f"WHERE {self._expression(depth)}")
        text += self._maybe(f"GROUP BY {self._some(self._column, 2)}{self._maybe('WITH ROLLUP', 0.2)}", 0.2)
        text += self._maybe(f"HAVING {self._expression(2)}", 0.08)
        text += self._maybe(f"ORDER BY {self._some(lambda: self._expression(2), 2)}", 0.25)
        return text + self._maybe(
            f"LIMIT {self._random.choice(('0', '1', '10', '5, 5', '18446744073709551615'))}", 0.25
        )

    # Statements.

    def _select(self) -> str:
        text = self._query()
        if self._chance(0.1):
            text = f"{text} {self._random.choice(('UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT'))} {self._query(1)}"
        if self._chance(0.08):
            return f"WITH q AS ({self._query(1)}) SELECT * FROM q, ({text}) z"
        if self._chance(0.04):
            more = f"SELECT n + 1 FROM r WHERE n < {self._literal()}"
            return f"WITH RECURSIVE r AS (SELECT 1 n UNION ALL {more}) SELECT * FROM r"
        return text + self._maybe(self._random.choice(("FOR UPDATE", "LOCK IN SHARE MODE", "INTO @u")), 0.05)

    def _insert(self) -> str:
        head = f"{self._random.choice(('INSERT INTO', 'INSERT IGNORE INTO', 'REPLACE INTO'))} {self._table()}"
        if self._chance(0.2):
            return f"{head} {self._query(1)}"
        rows = self._some(lambda: f"({self._some(lambda: self._expression(2), 4)})", 4)
        columns = f" ({self._some(self._column, 4)})" if self._chance(0.4) else ""
        return f"{head}{columns} VALUES {rows}{self._maybe('ON DUPLICATE KEY UPDATE a = a', 0.1)}"

    def _update(self) -> str:
        sets = self._some(lambda: f"{self._column()} = {self._expression(1)}")
        where = self._maybe(f"WHERE {self._expression(1)}", 0.7)
        return f"UPDATE {self._table()} SET {sets}{where}{self._maybe('LIMIT 2', 0.1)}"

    def _delete(self) -> str:
        if self._chance(0.1):
            return f"TRUNCATE TABLE {self._table()}"
        return f"DELETE FROM {self._table()}{self._maybe(f'WHERE {self._expression(1)}', 0.8)}"

    def _column_definition(self) -> str:
        return f"{self._column()} {self._pick(TYPES)}{self._maybe(self._pick(COLUMN_OPTIONS), 0.3)}"

    def _create_table(self) -> str:
        head = f"CREATE{self._maybe('TEMPORARY', 0.15)} TABLE{self._maybe('IF NOT EXISTS', 0.2)} {self._table()}"
        if self._chance(0.15):
            return f"{head} AS {self._query(1)}"
        if self._chance(0.08):
            return f"{head} LIKE {self._table()}"
        parts = self._some(self._column_definition, 5)
        key = f", FOREIGN KEY ({self._column()}) REFERENCES {self._table()} ({self._column()}) ON DELETE CASCADE"
        parts += self._maybe(key, 0.08)
        return f"{head} ({parts}){self._maybe(self._pick(TABLE_OPTIONS), 0.2)}"

    def _alter(self) -> str:
        column = self._column()
        change = self._random.choice(
            (
                f"ADD {self._column_definition()}", f"DROP COLUMN {column}", f"MODIFY {column} {self._pick(TYPES)}",
                f"RENAME TO {self._table()}", f"ADD INDEX ({column})", f"ADD FULLTEXT ({column})", "DROP PRIMARY KEY",
                f"RENAME COLUMN {column} TO {self._column()}", "CONVERT TO CHARACTER SET utf8mb4",
                "DISCARD TABLESPACE", "FORCE",
                f"ADD CONSTRAINT c FOREIGN KEY ({column}) REFERENCES {self._table()} ({column})", "ENGINE=MEMORY",
            )
        )  # fmt: skip
        return f"ALTER TABLE {self._table()} {change}"

    def _drop(self) -> str:
        what = self._random.choice(("TABLE", "TABLE IF EXISTS", "VIEW", "TEMPORARY TABLE"))
        other = self._random.choice(
            ("DROP PROCEDURE p0", "DROP FUNCTION IF EXISTS f0", "DROP TRIGGER g0", "DROP INDEX i0 ON t0")
        )
        return other if self._chance(0.3) else f"DROP {what} {self._some(self._table, 2)}"

    def _view(self) -> str:
        return (
            f"CREATE{self._maybe('OR REPLACE', 0.6)} VIEW {self._random.choice(('v0', 'v1', 't0'))} AS {self._query(1)}"
        )

    def _body(self) -> str:
        inner = self._random.choice((self._select, self._insert, self._update, self._set, self._delete))
        loop = f"WHILE i < {self._random.choice(('3', '100', '1000000'))} DO {inner()}; SET i = i + 1; END WHILE"
        handler = self._maybe("DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;", 0.3)
        work = self._random.choice((inner(), loop, f"IF {self._expression(2)} THEN {inner()}; END IF", "CALL p1()"))
        return f"BEGIN DECLARE i INT DEFAULT 0;{handler} {work}; END"

    def _routine(self) -> str:
        number = self._random.randrange(2)
        kind = self._random.random()
        if kind < 0.45:
            return self._random.choice(("CALL p0()", "CALL p1()", "SELECT f0(1)", "SELECT f1(a) FROM t0", "DO f0(1)"))
        if kind < 0.55:
            return f"DROP PROCEDURE IF EXISTS p{number}"
        if kind < 0.8:
            return f"CREATE PROCEDURE p{number}() {self._body()}"
        head = f"CREATE FUNCTION f{number}(x INT) RETURNS INT DETERMINISTIC"
        return f"{head} {self._random.choice(('', 'BEGIN'))} RETURN {self._expression(1)}"

    def _trigger(self) -> str:
        when = f"{self._random.choice(('BEFORE', 'AFTER'))} {self._random.choice(('INSERT', 'UPDATE', 'DELETE'))}"
        return f"CREATE TRIGGER g{self._random.randrange(2)} {when} ON {self._table()} FOR EACH ROW {self._body()}"

    def _filled(self, text: str) -> str:
        for mark, draw in (("{t}", self._table), ("{e}", lambda: self._expression(1)), ("{l}", self._literal)):
            while mark in text:
                text = text.replace(mark, draw(), 1)
        return text

    def _show(self) -> str:
        return f"SHOW {self._filled(self._random.choice(SHOW))}"

    def _set(self) -> str:
        return f"SET{self._maybe('SESSION', 0.1)} {self._filled(self._random.choice(SETTINGS))}"

    def _admin(self) -> str:
        return self._filled(self._random.choice(ADMIN))

    def _transaction(self) -> str:
        return self._random.choice(TRANSACTIONS)

    def _index(self) -> str:
        return f"CREATE{self._maybe('UNIQUE', 0.3)} INDEX i0 ON {self._table()} ({self._some(self._column, 2)})"

    def _explain(self) -> str:
        form = self._random.choice(("", "FORMAT=JSON ", "ANALYZE ", "EXTENDED "))
        return f"{self._random.choice(('EXPLAIN', 'DESCRIBE', 'ANALYZE'))} {form}{self._query(1)}"

    def _noise(self) -> str:
        return "".join(
            self._random.choice((*NOISE, " ", "SELECT", "1", ",")) for _ in range(self._random.randint(0, 30))
        )

    # Mutations.

    def _broken(self, text: str) -> str:
        words = text.split(" ")
        place = self._random.randrange(len(words))
        kind = self._random.randrange(6)
        if kind == 0:
            del words[place]
        elif kind == 1:
            words.insert(place, words[self._random.randrange(len(words))])
        elif kind == 2:
            other = self._random.randrange(len(words))
            words[place], words[other] = words[other], words[place]
        elif kind == 3:
            words.insert(place, self._pick(NOISE))
        elif kind == 4:
            cut = self._random.randrange(len(text) + 1)
            return text[:cut] + self._random.choice(("'", '"', "`", "(", "\x00", "")) + text[cut + 1 :]
        else:
            return f"{text}; {self.statement()}" if self._chance(0.5) else text[: self._random.randrange(len(text) + 1)]
        return " ".join(words)


def statements(seed: int) -> Iterator[str]:
    """Statements without end; the same seed gives the same ones."""
    grammar = Grammar(seed)
    while True:
        yield grammar.statement()
