"""Every attack is held against a server that must stay as it was and a bystander whose episode must go on."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from attack_world import Bystander, Server, real_name

from envs.dbbench.family import DbBenchFamily
from envs.registry import DBBENCH


@pytest.fixture(scope="session")
def family(binary):
    """A server for the attacks alone."""
    family = DbBenchFamily(DBBENCH, server_binary=binary, max_rows=5000, spare_databases=0)
    family.start()
    yield family
    family.close()


@pytest.fixture(scope="session")
def server(family):
    server = Server(family)
    yield server
    server.close()


@pytest.fixture
def attacker(family):
    """Starts episodes that attack, with the limits that are named, and closes them after the test."""
    with contextlib.ExitStack() as stack:
        started = []

        def start(**limits):
            env = family.make()
            env._limits = replace(env._limits, **{"seconds": 2.0} | limits)
            stack.callback(env.close)
            env.reset(family.task("generated/0"), options={"max_steps": 1000})
            started.append(real_name(env))
            return env

        start.names = started
        yield start


@pytest.fixture(scope="session")
def bystanders(family):
    """The bystander of all attacks in turn: one that an attack has harmed is followed by another."""
    with contextlib.ExitStack() as stack:
        here = []

        def ready() -> Bystander:
            if not here or not here[-1].fresh():
                env = family.make()
                stack.callback(env.close)
                env.reset(family.task("generated/1"), options={"max_steps": 1000})
                here.append(Bystander(env))
            return here[-1]

        yield ready


@pytest.fixture
def bystander(bystanders) -> Bystander:
    return bystanders()


@pytest.fixture(autouse=True)
def unharmed(server, bystander, attacker, family):
    """Before and after every attack: the same server, a bystander in good health, and nothing left of the episodes."""
    before = server.snapshot()
    live = family.live_databases
    envs = []
    make = family.make

    def remembered():
        env = make()
        envs.append(env)
        return env

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family, "make", remembered)
        yield
    prepared = server.forget_prepared()
    assert bystander.works()
    for env in envs:
        env.close()
    after = server.snapshot()
    assert {key: sorted(set(after[key]) ^ set(before[key])) for key in before} == {key: [] for key in before}
    assert {name: server.left_of(name) for name in attacker.names} == {name: [] for name in attacker.names}
    assert (family.live_databases, prepared) == (live, 0)
