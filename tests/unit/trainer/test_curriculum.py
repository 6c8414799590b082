"""What is drawn more, what is remembered, and that a resumed run draws the same."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from episode_samples import sample_episode

from envs.errors import ConfigError
from envs.types import EpisodeStatus, Task
from rollout_server.types import Group
from trainer.config import parse_config
from trainer.curriculum import Curriculum
from trainer.sampler import Draw, TaskSampler
from trainer.settings import CurriculumSettings, TaskSource

ON = CurriculumSettings(enabled=True, replay=0.0)
TYPED = TaskSource(env="alfworld", split="generated", types=("pick", "heat", "cool"))


def group(kind: str, won: int, of: int, *, task: str = "generated/1", dead: int = 0) -> Group:
    played = [sample_episode(reward=float(n < won), status=EpisodeStatus.COMPLETED) for n in range(of)]
    lost = [sample_episode(reward=None, status=EpisodeStatus.INFRASTRUCTURE_ERROR)] * dead
    return Group("g", Task("alfworld", task, "generated", kind, "hash"), (*played, *lost))


def taught(sampler: TaskSampler, *groups: Group) -> TaskSampler:
    for one in groups:
        sampler.note([Draw(0, sampler.task(0))], [one])
    return sampler


def drawn(sampler: TaskSampler, rows: int = 600) -> Counter[str | None]:
    return Counter(sampler.task(row).type for row in range(rows))


def test_types_within_the_bounds_are_drawn_more() -> None:
    sampler = taught(TaskSampler([TYPED], seed=3, curriculum=ON), group("pick", 8, 8), group("heat", 4, 8))
    counts = drawn(sampler)  # cool was never played: it counts as within
    assert counts["pick"] < 60
    assert counts["heat"] > 200
    assert counts["cool"] > 200
    plain = drawn(TaskSampler([TYPED], seed=3))
    assert min(plain.values()) > 150


def test_older_episodes_fade() -> None:
    curriculum = Curriculum(replace_settings(memory=0.5))
    for _ in range(6):
        curriculum.note(0, group("pick", 0, 8))
    assert curriculum.metrics()["curriculum/within_bounds"] == 0.0
    for _ in range(2):
        curriculum.note(0, group("pick", 4, 8))
    assert curriculum.metrics()["curriculum/within_bounds"] == 1.0


def replace_settings(**changes: float) -> CurriculumSettings:
    return ON.model_copy(update=changes)


def test_without_named_types_those_that_were_met_are_weighed() -> None:
    open_source = TaskSource(env="alfworld", split="generated")
    sampler = TaskSampler([open_source], seed=1, curriculum=ON)
    assert set(drawn(sampler, 20)) == {None}
    counts = drawn(taught(sampler, group("pick", 8, 8), group("heat", 4, 8)))
    assert counts["heat"] > 300
    assert 0 < counts["pick"] < 120
    assert 0 < counts[None] < 120, "types that were not met yet can still be met"


def test_tasks_within_the_bounds_are_played_again() -> None:
    sampler = TaskSampler([TYPED], seed=1, curriculum=replace_settings(replay=0.5))
    taught(sampler, group("heat", 4, 8, task="generated/7"), group("pick", 8, 8, task="generated/8"))
    counts = Counter(sampler.task(row).task_id for row in range(600))
    assert counts.keys() == {None, "generated/7"}
    assert 60 < counts["generated/7"] < 300
    assert all(sampler.task(row).task_id is None or sampler.task(row).split is None for row in range(50))


def test_named_tasks_are_weighed_themselves() -> None:
    source = TaskSource(env="alfworld", split="generated", task_ids=("generated/1", "generated/2"))
    sampler = taught(
        TaskSampler([source], seed=1, curriculum=ON),
        group("pick", 8, 8, task="generated/1"),
        group("pick", 3, 8, task="generated/2"),
    )
    counts = Counter(sampler.task(row).task_id for row in range(300))
    assert counts["generated/1"] < 60


def test_shares_of_the_sources_stay() -> None:
    sources = [TYPED.model_copy(update={"weight": 3.0}), TaskSource(env="dbbench", split="generated")]
    sampler = taught(TaskSampler(sources, seed=2, curriculum=ON), *[group(k, 8, 8) for k in TYPED.types])
    counts = Counter(sampler.task(row).env for row in range(400))
    assert 260 <= counts["alfworld"] <= 340


def test_infrastructure_failures_count_for_nothing() -> None:
    with_dead, without = (Curriculum(ON) for _ in range(2))
    with_dead.note(0, group("pick", 2, 4, dead=3))
    with_dead.note(0, group("heat", 0, 0, dead=2))
    without.note(0, group("pick", 2, 4))
    assert with_dead.state_dict() == without.state_dict()


def test_a_resumed_run_draws_the_same() -> None:
    settings = CurriculumSettings(enabled=True, replay=0.5, memory=0.7)
    straight = taught(
        TaskSampler([TYPED], seed=5, curriculum=settings),
        *[group(kind, won, 8, task=f"generated/{n}") for n, (kind, won) in enumerate([("pick", 3), ("heat", 8)] * 5)],
    )
    state = json.loads(json.dumps(straight.state_dict()))
    resumed = TaskSampler([TYPED], seed=5, curriculum=settings)
    resumed.load_state_dict(state)
    for sampler in (straight, resumed):
        taught(sampler, group("cool", 1, 8, task="generated/99"))
    rows = range(200)
    assert [straight.draw(r, 2) for r in rows] == [resumed.draw(r, 2) for r in rows]
    fresh = TaskSampler([TYPED], seed=5, curriculum=settings)
    assert [straight.draw(r) for r in rows] != [fresh.draw(r) for r in rows]
    with pytest.raises(ConfigError, match="curriculum cannot be read"):
        resumed.load_state_dict({"kinds": [["x"]], "tasks": []})


def test_the_latest_tasks_are_remembered() -> None:
    curriculum = Curriculum(replace_settings(tasks=2))
    for number in (1, 2, 1, 3):
        curriculum.note(0, group("pick", 1, 2, task=f"generated/{number}"))
    assert [row[2] for row in curriculum.state_dict()["tasks"]] == ["generated/1", "generated/3"]


def test_bounds_must_be_in_order() -> None:
    with pytest.raises(ConfigError, match=r"curriculum.low \(0.9\) must be below"):
        parse_config({"curriculum": {"low": 0.9, "high": 0.9}})
