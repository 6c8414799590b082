"""All functions that SQLite is taught, by their names in lower case."""

from __future__ import annotations

from envs.dbbench.sqlite_function import Function
from envs.dbbench.sqlite_numbers import NUMBER_FUNCTIONS
from envs.dbbench.sqlite_patterns import PATTERN_FUNCTIONS
from envs.dbbench.sqlite_texts import TEXT_FUNCTIONS
from envs.dbbench.sqlite_time import TIME_FUNCTIONS

__all__ = ["FUNCTIONS"]

FUNCTIONS: dict[str, Function] = {**TEXT_FUNCTIONS, **PATTERN_FUNCTIONS, **NUMBER_FUNCTIONS, **TIME_FUNCTIONS}
