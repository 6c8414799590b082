"""A server's errors by number: what each says about the session, the server and the statement."""

from __future__ import annotations

import pymysql

__all__ = ["LOST", "LOST_TEXT", "SERVER_SHORTAGES", "SHORTAGES", "error_code", "error_words"]

# The connection is gone, or the server is going.
LOST = frozenset({2006, 2013, 2014, 2055, 1053, 1152, 1158, 1159, 1160, 1161, 1927, 4031})
LOST_TEXT = "2013 (HY000): Lost connection to MySQL server during query"
# On loading, these say that the server is short of something; other refusals are the task's.
SHORTAGES = frozenset({1021, 1030, 1037, 1038, 1040, 1041, 1114, 1203, 1205, 1213, 1226})
# Of these, what a plain read of a table can only meet when the whole server is short: disk, memory.
SERVER_SHORTAGES = frozenset({1021, 1037, 1038, 1041})


def error_code(error: Exception) -> int:
    """The server's or the driver's number of an error; 0 where it has none."""
    number = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0


def error_words(error: Exception) -> str:
    """The error as mysql-connector words it: ``1146 (42S02): Table … doesn't exist``."""
    if not isinstance(error, pymysql.err.MySQLError) or len(error.args) < 2:
        return str(error)
    state = getattr(error, "sqlstate", None)
    return f"{error.args[0]} ({state}): {error.args[1]}" if state else f"{error.args[0]}: {error.args[1]}"
