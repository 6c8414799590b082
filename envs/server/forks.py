"""Environments that go on from a step of an episode: copied where an environment can copy itself, else played again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs.base import EnvFamily, Environment, Forkable
from envs.errors import BadRequest, EpisodeOver, InfrastructureError
from envs.server.history import digest
from envs.types import Action, Observation, StepResult, Task

__all__ = ["Branch", "Replay", "begin", "close_all", "close_quietly", "copy"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Branch:
    """A live environment on a task, with what it showed last."""

    task: Task
    environment: Environment
    view: StepResult


@dataclass(frozen=True, slots=True)
class Replay:
    """How to come to a step of an episode once more."""

    episode_id: str
    family: EnvFamily
    task: Task
    seed: int
    options: Mapping[str, Any]
    first_digest: int
    steps: Sequence[tuple[int, Action]]  # each with the digest of its result
    what: str = "forked"

    def play(self) -> Branch:
        """A new environment, brought to the step. May block.

        Raises InfrastructureError, naming the step, where the environment does not answer as it did the first time.
        """
        branch = begin(self.family, self.task, self.seed, self.options)
        environment, view = branch.environment, branch.view
        try:
            self._compare(0, view, self.first_digest)
            for number, (expected, action) in enumerate(self.steps, 1):
                try:
                    view = environment.step(action)
                except (BadRequest, EpisodeOver) as error:
                    raise self._differs(number, f"is refused: {error.message}") from error
                self._compare(number, view, expected)
        except BaseException:
            close_quietly(environment)
            raise
        return Branch(self.task, environment, view)

    def play_and_copy(self, count: int) -> list[Branch]:
        """One environment played again, and copies of it as far as it can copy itself: ``count`` or only one."""
        branch = self.play()
        try:
            return [branch, *(copy(branch, count - 1) or ())]
        except BaseException:
            close_quietly(branch.environment)
            raise

    def _compare(self, number: int, view: StepResult, expected: int) -> None:
        if digest(view) != expected:
            raise self._differs(number, "gives another result")

    def _differs(self, number: int, how: str) -> InfrastructureError:
        what = f"step {number}" if number else "the reset"
        return InfrastructureError(
            f"episode {self.episode_id} cannot be {self.what}: played again, {what} {how}",
            hint="its environment is not deterministic there: it told the time, a random number or the like",
        )


def begin(family: EnvFamily, task: Task, seed: int, options: Mapping[str, Any]) -> Branch:
    """A new environment on a task. May block. Raises what the environment's reset raises."""
    environment = family.make()
    try:
        observation: Observation = environment.reset(task, seed=seed, options=options)
    except BaseException:
        environment.close()
        raise
    return Branch(task, environment, StepResult(observation, 0.0, terminated=False, truncated=False))


def copy(branch: Branch, count: int) -> list[Branch] | None:
    """So many copies of an environment as it stands, or None where it cannot copy itself. May block."""
    if not isinstance(branch.environment, Forkable):
        return None
    copies: list[Branch] = []
    try:
        while len(copies) < count and (made := branch.environment.fork()) is not None:
            copies.append(replace(branch, environment=made))
    finally:
        if len(copies) < count:
            close_all(copies)
    return copies if len(copies) == count else None


def close_all(branches: Sequence[Branch]) -> None:
    """Close environments that nobody will use. May block."""
    for branch in branches:
        close_quietly(branch.environment)


def close_quietly(environment: Environment) -> None:
    """Close at a boundary where the episode's answer matters more than a failed clean-up, which is logged."""
    try:
        environment.close()
    except Exception:
        logger.exception("an environment did not close cleanly")
