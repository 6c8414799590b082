"""Work that a server cannot be made to end: it is replaced in the end, and only the episode that did it may lose."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from dbbench_helpers import commit, run

from envs.dbbench.family import DbBenchFamily
from envs.registry import DBBENCH

REPLACED_AFTER_S = 60.0
# Each calls the one before it twice: hours of work that a server sees as one constant.
FUNCTIONS = [
    "CREATE FUNCTION f0() RETURNS INT DETERMINISTIC RETURN 1",
    *(f"CREATE FUNCTION f{n}() RETURNS INT DETERMINISTIC RETURN f{n - 1}() + f{n - 1}()" for n in range(1, 40)),
]
UNENDING = (
    "SELECT f39()",
    "SELECT LOCATE(REPEAT('a', 1000000), CONCAT(REPEAT('a', 999999), 'b', REPEAT('a', 2000000)))",
    "SELECT LENGTH(REGEXP_REPLACE(REPEAT('a', 3900000), 'a', 'bbbbbbbbbbbbbbbbbbbbbbbbb'))",
)


@pytest.fixture
def own_family(binary):
    """A server that may be lost."""
    family = DbBenchFamily(DBBENCH, server_binary=binary, spare_databases=0)
    family.start()
    yield family
    family.close()


def begun(family, number: int, seconds: float = 1.0):
    env = family.make()
    env._limits = replace(env._limits, seconds=seconds)
    env.reset(family.task(f"generated/{number}"), options={"max_steps": 1000})
    return env


def wedge(env) -> None:
    """Leave work behind that goes on for long."""
    for statement in (*FUNCTIONS, *UNENDING):
        run(env, statement)


@pytest.mark.slow
def test_others_outlive_every_replacement(own_family):
    """However often one episode after another makes the server unusable, the rest are played on."""
    innocent = begun(own_family, 0, seconds=10.0)
    assert run(innocent, "CREATE TABLE kept AS SELECT 7 AS a").valid
    for number in range(1, 4):
        guilty = begun(own_family, number)
        wedge(guilty)
        guilty.close()
        until = time.monotonic() + REPLACED_AFTER_S
        while time.monotonic() < until:
            assert run(innocent, "SELECT a FROM kept").observation.text == "[(7,)]"
            time.sleep(1.0)
    innocent.close()


@pytest.mark.slow
def test_it_is_no_infrastructure_error_for_the_one_who_did_it(own_family):
    """Else a policy could turn a lost cause into an infrastructure error, which carries no reward."""
    guilty = begun(own_family, 0)
    until = time.monotonic() + 2 * REPLACED_AFTER_S
    for statement in FUNCTIONS:
        run(guilty, statement)
    while time.monotonic() < until:
        for statement in UNENDING:
            run(guilty, statement)
        time.sleep(1.0)
    assert run(guilty, "SELECT 1").observation.text
    assert commit(guilty, "no").reward == 0.0
    guilty.close()
