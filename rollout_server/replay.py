"""Plays a stored episode again and compares: the same task, seed, options and actions must give the same everything."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from envs.client import EnvClient, EpisodeView
from envs.errors import Conflict, InfrastructureError, InvalidAction, UnknownEpisode
from envs.types import Observation
from rollout_server.types import Episode, StepRecord

__all__ = ["ReplayDifference", "ReplayReport", "end_difference", "first_difference", "step_difference", "verify"]


@dataclass(frozen=True, slots=True)
class ReplayDifference:
    """The first thing that was not the same.

    ``where`` is ``task``, ``start``, ``step N`` or ``end``; ``turn`` and ``step`` are indices, None outside the steps.
    """

    where: str
    field: str
    recorded: Any
    replayed: Any
    turn: int | None = None
    step: int | None = None

    @property
    def diff(self) -> str:
        """Both values, line by line: ``-`` as recorded, ``+`` as replayed."""
        lines = difflib.unified_diff(_lines(self.recorded), _lines(self.replayed), "recorded", "replayed", lineterm="")
        return "\n".join(lines)

    def __str__(self) -> str:
        place = self.where if self.turn is None else f"{self.where} (turn {self.turn})"
        return f"{place}: {self.field} differs\n{self.diff}"


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The result of a replay. ``steps`` were compared and equal, of ``total`` recorded ones. ``skipped`` says why there
    was nothing to replay.
    """

    episode_id: str
    steps: int
    total: int
    difference: ReplayDifference | None
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything was the same."""
        return self.difference is None


async def verify(episode: Episode, client: EnvClient) -> ReplayReport:
    """Play the episode's actions again on the env server and compare with the record, up to the first difference.

    Compared: the task's content hash, the first observation, and after each step the observation, the admissible
    actions, the reward, terminated, truncated, valid and the state's hash (where one was recorded); at the end the
    episode's reward. Raises: UnknownTask where the task is gone; Conflict for an episode that never began;
    InfrastructureError.
    """
    if not episode.turns and not episode.prompt:
        raise Conflict(
            f"episode {episode.id} never began ({episode.status}): there is nothing to replay", hint="choose another"
        )
    total = len(episode.steps)

    def report(steps: int, difference: ReplayDifference | None) -> ReplayReport:
        return ReplayReport(episode.id, steps, total, difference)

    task = await client.task(episode.env, episode.task.id)
    if task.content_hash != episode.task.content_hash:
        change = ReplayDifference("task", "content_hash", episode.task.content_hash, task.content_hash)
        return report(0, change)
    view = await client.create(episode.env, task_id=episode.task.id, seed=episode.seed, options=dict(episode.options))
    try:
        done = 0
        if difference := first_difference(episode, view.observation):
            return report(0, difference)
        for turn, step in _numbered(episode):
            try:
                view = await client.step(view, step.action)
            except UnknownEpisode as error:
                raise InfrastructureError(f"the env server lost the episode: {error.message}") from error
            except (InvalidAction, Conflict) as error:
                refused = ReplayDifference(f"step {done}", "action", "accepted", f"refused: {error}", turn, done)
                return report(done, refused)
            if difference := step_difference(turn, done, step, view):
                return report(done, difference)
            done += 1
        return report(done, end_difference(episode, view))
    finally:
        await client.close_episode(view.id)


def _numbered(episode: Episode) -> Iterator[tuple[int, StepRecord]]:
    return ((turn.index, step) for turn in episode.turns for step in turn.steps)


def first_difference(episode: Episode, initial: Observation) -> ReplayDifference | None:
    """What of the first observation is not as recorded."""
    for name in ("text", "admissible_actions"):
        recorded, replayed = getattr(episode.initial, name), getattr(initial, name)
        if recorded != replayed:
            return ReplayDifference("start", f"observation.{name}", recorded, replayed)
    return None


def step_difference(
    turn: int, number: int, record: StepRecord, view: EpisodeView | StepRecord
) -> ReplayDifference | None:
    """What of a step is not as recorded. The state's hash counts where one was recorded."""
    pairs = {
        "observation.text": (record.observation.text, view.observation.text),
        "observation.admissible_actions": (record.observation.admissible_actions, view.observation.admissible_actions),
        "reward": (record.reward, view.reward),
        "terminated": (record.terminated, view.terminated),
        "truncated": (record.truncated, view.truncated),
        "valid": (record.valid, view.valid),
        "state_hash": (record.state_hash, view.state_hash if record.state_hash else ""),
    }
    for name, (recorded, replayed) in pairs.items():
        if recorded != replayed:
            return ReplayDifference(f"step {number}", name, recorded, replayed, turn, number)
    return None


def end_difference(episode: Episode, view: EpisodeView) -> ReplayDifference | None:
    """Whether the episode's reward is another."""
    if not episode.status.scored:
        return None
    reward = float(view.reward or 0.0) if view.terminated else 0.0
    return None if reward == episode.reward else ReplayDifference("end", "reward", episode.reward, reward)


def _lines(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.splitlines() or [""]
    return [str(item) for item in value] if isinstance(value, tuple) else [repr(value)]
