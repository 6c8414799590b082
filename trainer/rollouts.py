"""The only bridge to TRL's ``rollout_func``: prompts of TRL in, episodes of a rollout service out, as token ids.

What TRL 1.16 does (read from its source and held by ``tests/contract/test_trl_contract.py``):

- ``rollout_func(prompts, trainer)`` gets every prompt ``num_generations`` times in a row and no dataset column; it must
  return as many rows. A prompt here is therefore just the row's number, and the sampler knows the task.
- ``logprobs`` may be anything but a wrong length; ``env_mask`` shorter than the ids is padded with **1**, silently.
- An empty completion crashes; a reward of None leaves a row out of the baseline, but its tokens still count in the
  normaliser of ``dapo``. So a dead episode is one token with mask 0.
- Nothing is cut at ``max_completion_length``; ``dr_grpo`` divides by it all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from envs.errors import ConfigError, InfrastructureError
from envs.types import Task
from rollout_server.constraints import Constrain
from rollout_server.service import RolloutService
from rollout_server.types import Episode, Group, RolloutRequest
from trainer.batch import Row, batch_metrics, episode_row
from trainer.loops import LoopThread
from trainer.sampler import TaskSampler

__all__ = ["RolloutBatch", "RolloutBridge", "prompt_of", "training_reward"]

_PREFIX = "envloop row "


def prompt_of(row: int) -> str:
    """What stands in TRL's dataset for a row: a name for its task, never shown to a model."""
    return f"{_PREFIX}{row}"


def training_reward(training_reward: Sequence[float | None], **_: object) -> list[float | None]:
    """TRL's reward function: the rewards that came with the episodes. None where an episode has no result."""
    return list(training_reward)


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """One answered call of TRL: its groups, their rows in TRL's order, the policy asked for, and its figures."""

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    policy: str
    metrics: dict[str, float]

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """Every episode in the order of ``rows``."""
        return tuple(e for g in self.groups for e in g.episodes)


class RolloutBridge:
    """Plays a generation batch on a rollout service and returns what TRL trains on. Give it as ``rollout_func``.

    ``policy`` is the version that the next batch samples from: named with every request, so that another client of the
    same server cannot change what this run trains on. ``check_task`` sees the task of every group before anything is
    trained on it and raises to stop the run. ``on_batch`` sees every batch. ``keep_mixed`` and ``keep_constrained``:
    see ``episode_row``. Raises ConfigError for a template that constrains turns without ``keep_constrained``.
    """

    def __init__(
        self,
        service: RolloutService,
        loop: LoopThread,
        *,
        sampler: TaskSampler,
        template: RolloutRequest,
        dummy_id: int,
        policy: str = "base",
        max_dead_fraction: float = 0.5,
        keep_mixed: bool = True,
        keep_constrained: bool = False,
        check_task: Callable[[Task], None] = lambda _: None,
        on_batch: Callable[[RolloutBatch], None] = lambda _: None,
    ) -> None:
        if template.constrain is not Constrain.NONE and not keep_constrained:
            raise ConfigError(
                f"turns constrained to {template.constrain} are not sampled from the policy's own distribution",
                hint="train on free turns (constrain = none), or ask for constrained ones with keep_constrained",
            )
        self.policy = policy
        self._keep = {"keep_mixed": keep_mixed, "keep_constrained": keep_constrained}
        self._service = service
        self._loop = loop
        self._sampler = sampler
        self._template = template
        self._dummy_id = dummy_id
        self._max_dead = max_dead_fraction
        self._check_task = check_task
        self._on_batch = on_batch
        self._seen: tuple[str, int] | None = None
        self._updates = 0

    def __call__(self, prompts: Sequence[str], trainer: Any = None) -> dict[str, list[Any]]:
        """Answer TRL. Raises InfrastructureError where too many episodes died or a record is malformed."""
        if trainer is not None:
            self._note_updates(trainer.state.global_step)
        batch = self.play(_rows(prompts, self._template.group_size))
        self._on_batch(batch)
        rows, episodes = batch.rows, batch.episodes
        return {
            "prompt_ids": [list(r.prompt_ids) for r in rows],
            "completion_ids": [list(r.completion_ids) for r in rows],
            "logprobs": [list(r.logprobs) for r in rows],
            "env_mask": [list(r.mask) for r in rows],
            "training_reward": [r.reward for r in rows],
            "status": [e.status.value for e in episodes],
            "task_id": [e.task.id for e in episodes],
            "episode_id": [e.id for e in episodes],
        }

    def play(self, rows: Sequence[int]) -> RolloutBatch:
        """Play one group for each row number, at the current policy."""
        request = replace(
            self._template,
            tasks=tuple(self._sampler.task(row) for row in rows),
            policy=self.policy,
            # A seed of its own for every batch, the same in a resumed run: rows never repeat within a run.
            seed=(self._template.seed * 1_000_003 + rows[0]) % 2**31,
        )
        start = time.perf_counter()
        groups = tuple(self._loop.run(self._service.rollouts(request)))
        wall = time.perf_counter() - start
        self._check(groups, request)
        episodes = [e for g in groups for e in g.episodes]
        limit = self._template.max_episode_tokens
        trained = [episode_row(e, dummy_id=self._dummy_id, max_tokens=limit, **self._keep) for e in episodes]
        figures = batch_metrics(groups, wall_s=wall, policy=self.policy, updates=self._updates)
        return RolloutBatch(groups, tuple(trained), self.policy, figures)

    def _note_updates(self, step: int) -> None:
        """Count the optimizer steps that were made while one policy version stayed current: each leaves it behind."""
        if self._seen is None or self._seen[0] != self.policy:
            self._seen = (self.policy, step)
        self._updates = step - self._seen[1]

    def _check(self, groups: Sequence[Group], request: RolloutRequest) -> None:
        sizes = [len(g.episodes) for g in groups]
        if sizes != [request.group_size] * len(request.tasks):
            raise InfrastructureError(
                f"asked for {len(request.tasks)} groups of {request.group_size}, got groups of {sizes}",
                hint="a partial group has no baseline; look at the rollout server's log",
            )
        for group in groups:
            self._check_task(group.task)
        episodes = [e for g in groups for e in g.episodes]
        dead = [e for e in episodes if not e.status.scored]
        if len(dead) > self._max_dead * len(episodes):
            first = dead[0].error or dead[0].status.value
            raise InfrastructureError(
                f"{len(dead)} of {len(episodes)} episodes of this step died, first: {first}",
                hint="mend the environment or rollout service and go on with --resume",
            )


def _rows(prompts: Sequence[str], group_size: int) -> list[int]:
    """The row numbers behind TRL's prompts. Raises InfrastructureError where they are not whole groups."""
    rows: list[int] = []
    for prompt, same in groupby(prompts):
        count = len(list(same))
        if count != group_size or not prompt.startswith(_PREFIX):
            raise InfrastructureError(
                f"TRL asked for prompt {prompt!r} {count} times, expected {group_size}",
                hint="train in one process; with TRL other than 1.16 run tests/contract/test_trl_contract.py",
            )
        rows.append(int(prompt.removeprefix(_PREFIX)))
    return rows
