"""Statements at random, in several episodes at once: nothing but results, near their limits, of one's own database."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from itertools import islice

import psutil
import pytest
from dbbench_grammar import statements
from dbbench_helpers import run

SEED = 20240101
EPISODES = 3
SECONDS = 0.5
# A statement may be ended some time after its limit: the server looks for it between rows, and rolls back.
MOST_S = 8.0


def real_name(env) -> str:
    return env._session.inner.database.name


class Player:
    """An episode that runs statements of one seed, and what went wrong."""

    def __init__(self, family, seed: int, count: int) -> None:
        self.seed = seed
        self.count = count
        self.valid = 0
        self.faults: list[str] = []
        self.env = family.make()
        self.env._limits = replace(self.env._limits, seconds=SECONDS, statements=10**6)
        self.env.reset(family.task(f"generated/{seed % 100}"), options={"max_steps": 1000})
        self.canary = f"canary{secrets.token_hex(8)}"
        assert run(self.env, f"CREATE TABLE {self.canary} AS SELECT '{self.canary}' AS word").valid
        self.names = [real_name(self.env)]
        self.forbidden: list[str] = []

    def play(self) -> None:
        for number, statement in enumerate(islice(statements(self.seed), self.count)):
            where = f"seed {self.seed}, statement {number}: {statement!r}"
            self.env._steps = 0
            try:
                result = run(self.env, statement)
            except Exception as error:  # noqa: BLE001 - any is a fault, and the rest is played
                self.faults.append(f"{type(error).__name__}: {error}\n  {where}")
                if len(self.faults) > 20:
                    return
                continue
            self.valid += result.valid
            if real_name(self.env) not in self.names:
                self.names.append(real_name(self.env))
                self.faults.append(f"the episode was begun anew\n  {where}")
            if result.info["seconds"] > MOST_S:
                self.faults.append(f"{result.info['seconds']} s\n  {where}")
            told = [word for word in self.forbidden if word in result.observation.text]
            if told:
                self.faults.append(f"tells of another episode: {told}\n  {where}")


def fuzz(family, admin, count: int, seed: int) -> None:
    host = family._backend._hosts[0].server
    host.start()
    pid = [child.pid for child in psutil.Process(host._process.pid).children()]
    users = admin("SELECT user FROM mysql.user WHERE user NOT LIKE 'envloop%' ORDER BY user")
    databases = admin("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT LIKE 'envloop%'")
    players = [Player(family, seed + number, count // EPISODES) for number in range(EPISODES)]
    for player in players:
        player.forbidden = [word for other in players if other is not player for word in (other.canary, *other.names)]
    threads = [threading.Thread(target=player.play) for player in players]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    faults = [fault for player in players for fault in player.faults]
    assert faults == [], "\n".join(faults)
    assert sum(player.valid for player in players) > count // 10, "hardly any statement was valid"
    assert [child.pid for child in psutil.Process(host._process.pid).children()] == pid
    for player in players:
        player.env.close()
        for name in player.names:
            assert admin(f"SELECT 1 FROM information_schema.schemata WHERE schema_name = '{name}'") == []
            assert admin(f"SELECT 1 FROM mysql.user WHERE user = '{name}'") == []
            assert admin(f"SELECT 1 FROM mysql.db WHERE user = '{name}'") == []
            assert admin(f"SELECT 1 FROM information_schema.processlist WHERE user = '{name}'") == []
    assert admin("XA RECOVER") == []
    assert admin("SELECT user FROM mysql.user WHERE user NOT LIKE 'envloop%' ORDER BY user") == users
    assert (
        admin("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT LIKE 'envloop%'") == databases
    )


def test_the_grammar_repeats_itself_and_varies():
    drawn = list(islice(statements(SEED), 500))
    assert drawn == list(islice(statements(SEED), 500))
    assert drawn != list(islice(statements(SEED + 1), 500))
    assert len(set(drawn)) > 400
    first = {statement.split()[0].upper() for statement in drawn if statement.split()}
    assert first >= {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "SHOW", "SET", "CALL"}


def test_hundreds_of_statements(family, admin):
    fuzz(family, admin, 300, SEED)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_statements(family, admin, part):
    fuzz(family, admin, 1000, SEED + 1000 * (part + 1))
