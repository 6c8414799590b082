"""The checker finds what it promises to find: each double below breaks one rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from counting_env import COUNTING, CopyingEnv, CountingEnv, CountingFamily

from envs.checker import assert_conforms, check_env
from envs.errors import InvalidAction, UnknownTask
from envs.types import Action, Observation, Readiness, Split, SplitRole, StepResult, Task, TaskPage


class Forgetful(CountingEnv):
    """Accepts steps after the end."""

    def step(self, action: Action) -> StepResult:
        self._over = False
        return super().step(action)


class Random(CountingEnv):
    """Says something new each time."""

    told = 0

    def step(self, action: Action) -> StepResult:
        Random.told += 1
        result = super().step(action)
        return replace(result, observation=Observation(f"{Random.told}"))


class Timed(CountingEnv):
    """Measures: allowed in ``info``."""

    told = 0

    def step(self, action: Action) -> StepResult:
        Timed.told += 1
        return replace(super().step(action), info={"seconds": Timed.told})


class Generous(CountingEnv):
    """Rewards doing nothing."""

    def step(self, action: Action) -> StepResult:
        result = super().step(action)
        return replace(result, reward=1.0 if result.done else 0.0)


class Stingy(CountingEnv):
    """Never rewards."""

    def step(self, action: Action) -> StepResult:
        return replace(super().step(action), reward=0.0)


class Lax(CountingEnv):
    """Takes any tool."""

    def step(self, action: Action) -> StepResult:
        return super().step(replace(action, name="count"))


class Damaged(CountingEnv):
    """Refuses a bad shape but counts the step."""

    def step(self, action: Action) -> StepResult:
        try:
            return super().step(action)
        except InvalidAction:
            self._count += 1
            raise


class Both(CountingEnv):
    """Terminates and truncates at once."""

    def step(self, action: Action) -> StepResult:
        result = super().step(action)
        return replace(result, truncated=result.done)


class Endless(CountingEnv):
    """Never truncates."""

    def step(self, action: Action) -> StepResult:
        self._steps = 0
        return super().step(action)


class AnyOption(CountingEnv):
    """Ignores unknown options."""

    def reset(self, task: Task, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> Observation:
        return super().reset(task, seed=seed)


class Twin(CopyingEnv):
    """Is its own fork."""

    def fork(self) -> CopyingEnv | None:
        return self


class Amnesiac(CopyingEnv):
    """Its forks begin again."""

    def fork(self) -> CopyingEnv | None:
        made = super().fork()
        if made is not None:
            made._count = 0
        return made


class Undead(CopyingEnv):
    """Forks after the end."""

    def fork(self) -> CopyingEnv | None:
        over, self._over = self._over, False
        made = super().fork()
        if over and made is not None:
            made.close()
        return made


class Confused(CopyingEnv):
    """Its first expert is not its default."""

    experts = ("wrong", "right")


class Guessing(CopyingEnv):
    """Takes any expert's name."""

    def expert_action(self, expert: str | None = None) -> Action | None:
        return super().expert_action()


def family_of(env: Callable[[CountingFamily], CountingEnv]) -> CountingFamily:
    family = CountingFamily(COUNTING)
    family.make = lambda: env(family)  # type: ignore[method-assign]
    return family


@pytest.mark.parametrize("env", [CountingEnv, Timed, CopyingEnv])
def test_a_good_one_passes(env: type[CountingEnv]) -> None:
    family = family_of(env)
    report = assert_conforms(family, tasks=["train/0", "train/5"])
    assert (report.played, report.solved) == (2, 2)
    assert sum(report.checks.values()) >= 15
    assert not family.live


@pytest.mark.parametrize(
    ("env", "check", "message"),
    [
        (Forgetful, "expert_solves", "a step after the end raises no EpisodeOver"),
        (Random, "expert_solves", "another step 1"),
        (Generous, "nothing_scores_nothing", "doing nothing scores 1.0"),
        (Stingy, "expert_solves", "reward 0.0"),
        (Lax, "bad_shapes", "a tool that does not exist raises no InvalidAction"),
        (Damaged, "bad_shapes", "changed the step after it"),
        (Both, "expert_solves", "both terminates and truncates"),
        (Endless, "nothing_scores_nothing", "8 idle steps and the episode goes on"),
        (AnyOption, "bad_shapes", "an unknown option raises no InvalidOption"),
        (Twin, "forks", "a step of a fork changed its original"),
        (Amnesiac, "forks", "does not go on as its original"),
        (Undead, "forks", "a fork after the end raises no EpisodeOver"),
        (Confused, "experts", "the first expert is not the default"),
        (Guessing, "experts", "an unknown expert raises no InvalidOption"),
    ],
)
def test_a_broken_environment_is_found(env: type[CountingEnv], check: str, message: str) -> None:
    family = family_of(env)
    report = check_env(family, tasks=["train/2"])
    assert any(f.check == check and f.subject == "train/2" and message in f.message for f in report.findings)
    assert not family.live
    with pytest.raises(AssertionError, match="rules broken"):
        assert_conforms(family, tasks=["train/2"])


class BadPages(CountingFamily):
    def tasks(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        page = super().tasks(split, type=type, limit=limit)
        return replace(page, offset=offset)


class Gold(CountingFamily):
    def _all(self, split: str) -> list[Task]:
        return [replace(task, metadata={**task.metadata, "gold_sql": "SELECT 1"}) for task in super()._all(split)]


class WrongIds(CountingFamily):
    def _all(self, split: str) -> list[Task]:
        return [replace(task, id=task.id.removeprefix("train/")) for task in super()._all(split)]


class Moody(CountingFamily):
    drawn = 0

    def sample(self, split: str, seed: int, *, type: str | None = None) -> Task:
        Moody.drawn += 1
        return super().sample(split, Moody.drawn, type=type)


class TwinSplits(CountingFamily):
    def splits(self) -> list[Split]:
        return [Split("counting", "train", SplitRole.TRAIN, 6)] * 2


class WrongError(CountingFamily):
    def tasks(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        if split != "train":
            raise UnknownTask("hm")
        return super().tasks(split, type=type, offset=offset, limit=limit)


class Unready(CountingFamily):
    def ready(self) -> Readiness:
        return Readiness(False, "asleep")


@pytest.mark.parametrize(
    ("family", "check", "message"),
    [
        (BadPages, "pages", "do not join"),
        (Gold, "public", "gold_sql"),
        (WrongIds, "pages", "does not begin with its split"),
        (Moody, "sampling", "and then"),
        (TwinSplits, "splits", "same name"),
        (WrongError, "unknown_names", "UnknownTask, not UnknownSplit"),
        (Unready, "readiness", "asleep"),
    ],
)
def test_a_broken_family_is_found(family: type[CountingFamily], check: str, message: str) -> None:
    report = check_env(family(COUNTING))
    assert any(f.check == check and message in f.message for f in report.findings), report.summary()
    assert message in report.summary()
