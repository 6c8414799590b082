"""MySQL's words for what goes wrong on SQLite, as mysql-connector prints them: ``1146 (42S02): Table …``."""

from __future__ import annotations

from envs.dbbench.backend import StatementFailed

__all__ = ["SlowStatement", "TableFull", "failed", "syntax_error", "unsupported"]

_STATES = {
    1044: "42000", 1045: "28000", 1046: "3D000", 1048: "23000", 1049: "42000", 1050: "42S01", 1051: "42S02",
    1052: "23000", 1054: "42S22", 1055: "42000", 1059: "42000", 1060: "42S21", 1061: "42000", 1062: "23000",
    1063: "42000", 1064: "42000", 1065: "42000", 1066: "42000", 1067: "42000", 1068: "42000", 1072: "42000",
    1074: "42000", 1075: "42000", 1090: "42000", 1091: "42000", 1101: "42000", 1103: "42000", 1109: "42S02",
    1110: "42000", 1113: "42000", 1136: "21S01", 1138: "22004", 1140: "42000", 1142: "42000", 1146: "42S02",
    1166: "42000", 1222: "21000", 1227: "42000", 1235: "42000", 1241: "21000", 1242: "21000", 1248: "42000",
    1264: "22003", 1265: "01000", 1292: "22007", 1305: "42000", 1327: "42000", 1365: "22012", 1406: "22001",
    1426: "42000", 1451: "23000", 1452: "23000", 1582: "42000", 1690: "22003", 1701: "42000",
}  # fmt: skip


class SlowStatement(Exception):
    """The statement's time is over."""


class TableFull(Exception):
    """The episode has written, or read to write, as much as it may: the field of ``Limits`` that says so."""


def failed(code: int, words: str) -> StatementFailed:
    """The error ``code`` with its SQL state."""
    return StatementFailed(f"{code} ({_STATES.get(code, 'HY000')}): {words}", code)


def unsupported(what: str) -> StatementFailed:
    """The error for what MySQL can and this approximation cannot."""
    return failed(1235, f"This version of MySQL doesn't yet support '{what}'")


def syntax_error(near: str, line: int = 1) -> StatementFailed:
    """The error 1064 with what it stands near."""
    return failed(
        1064,
        "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the "
        f"right syntax to use near '{near}' at line {line}",
    )
