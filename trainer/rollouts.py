"""The only bridge to TRL's ``rollout_func``: prompts of TRL in, episodes of a rollout service out, as token ids.

What TRL 1.16 does (read from its source and held by ``tests/contract/test_trl_contract.py``):

- ``rollout_func(prompts, trainer)`` gets every prompt ``num_generations`` times in a row and no dataset column; it must
  return as many rows. A prompt here is therefore just the row's number, and the sampler knows the task.
- ``logprobs`` may be anything but a wrong length; ``env_mask`` shorter than the ids is padded with **1**, silently.
- An empty completion crashes; a reward of None leaves a row out of the baseline, but its tokens still count in the
  normaliser of ``dapo``. So a dead episode is one token with mask 0.
- Further keys are put into TRL's own rows, where ``trainer.trl_seams`` finds the step advantages.
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
from rollout_server.types import Episode, Group, RolloutRequest, TaskRef
from trainer.advantages import StepCredit, per_token
from trainer.batch import Row, batch_metrics, episode_row
from trainer.filters import fill, has_signal
from trainer.loops import LoopThread
from trainer.sampler import Draw, TaskSampler
from trainer.timing import waiting_share

__all__ = ["CREDIT_KEY", "RolloutBatch", "RolloutBridge", "prompt_of", "training_reward"]

CREDIT_KEY = "step_advantages"
"""The key of step advantages in the answer to TRL: for each row one float a completion token."""

_PREFIX = "envloop row "


def prompt_of(row: int) -> str:
    """What stands in TRL's dataset for a row: a name for its task, never shown to a model."""
    return f"{_PREFIX}{row}"


def training_reward(training_reward: Sequence[float | None], **_: object) -> list[float | None]:
    """TRL's reward function: the rewards that came with the episodes. None where an episode has no result."""
    return list(training_reward)


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """One answered call of TRL: its groups, their rows in TRL's order, the policy asked for, and its figures.

    ``credit``: for each row its step advantages, one a completion token; None where only episodes have credit.
    ``played``: every group, those too that others were played in place of. ``waited_s``: seconds of the rollout in
    which tokens were sampled or environments stepped.
    """

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    policy: str
    metrics: dict[str, float]
    credit: tuple[tuple[float, ...], ...] | None = None
    played: tuple[Group, ...] = ()
    waited_s: float = 0.0

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """Every episode in the order of ``rows``."""
        return tuple(e for g in self.groups for e in g.episodes)


@dataclass(frozen=True, slots=True)
class _Made:
    """A played group as the trainer sees it."""

    group: Group
    rows: tuple[Row, ...]
    credit: tuple[tuple[float, ...], ...] | None

    @property
    def signal(self) -> bool:
        return has_signal([r.reward for r in self.rows], self.credit or ())

    def without_tokens(self, dummy_id: int) -> _Made:
        credit = None if self.credit is None else ((0.0,),) * len(self.rows)
        return _Made(self.group, tuple(r.without_tokens(dummy_id) for r in self.rows), credit)


class RolloutBridge:
    """Plays a generation batch on a rollout service and returns what TRL trains on. Give it as ``rollout_func``.

    ``policy`` is the version that the next batch samples from: named with every request, so that another client of the
    same server cannot change what this run trains on. ``check_task`` sees the task of every group before anything is
    trained on it and raises to stop the run. ``on_batch`` sees every batch. ``keep_mixed`` and ``keep_constrained``:
    see ``episode_row``. ``credit`` gives turns advantages of their own. ``further_groups``: leave groups without a
    signal out and play at most so many in their place; None leaves none out. Raises ConfigError for a template that
    constrains turns without ``keep_constrained``.
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
        credit: StepCredit | None = None,
        further_groups: int | None = None,
        check_task: Callable[[Task], None] = lambda _: None,
        on_batch: Callable[[RolloutBatch], None] = lambda _: None,
    ) -> None:
        if template.constrain is not Constrain.NONE and not keep_constrained:
            raise ConfigError(
                f"turns constrained to {template.constrain} are not sampled from the policy's own distribution",
                hint="train on free turns (constrain = none), or ask for constrained ones with keep_constrained",
            )
        self.policy = policy
        self.sampler = sampler
        self._keep = {"keep_mixed": keep_mixed, "keep_constrained": keep_constrained}
        self._service = service
        self._loop = loop
        self._template = template
        self._dummy_id = dummy_id
        self._max_dead = max_dead_fraction
        self._credit = credit
        self._further = further_groups
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
        answer: dict[str, list[Any]] = {
            "prompt_ids": [list(r.prompt_ids) for r in rows],
            "completion_ids": [list(r.completion_ids) for r in rows],
            "logprobs": [list(r.logprobs) for r in rows],
            "env_mask": [list(r.mask) for r in rows],
            "training_reward": [r.reward for r in rows],
            "status": [e.status.value for e in episodes],
            "task_id": [e.task.id for e in episodes],
            "episode_id": [e.id for e in episodes],
        }
        if batch.credit is not None:
            answer[CREDIT_KEY] = [list(values) for values in batch.credit]
        return answer

    def play(self, rows: Sequence[int]) -> RolloutBatch:
        """Play one group for each row number, at the current policy; further ones in place of those without a signal.

        A group without a signal that nothing could be played in place of stays, with no token to learn from.
        """
        draws: list[Draw] = []
        episodes: list[Episode] = []

        def play(before: int, count: int) -> list[_Made]:
            numbers = range(before - len(rows) + 1, before - len(rows) + 1 + count)  # of the further groups, from 1
            now = [self.sampler.draw(rows[0], n) for n in numbers] if before else [self.sampler.draw(r) for r in rows]
            draws.extend(now)
            groups = self._request([d.task for d in now], self._seed(rows[0], before))
            episodes.extend(e for g in groups for e in g.episodes)
            self._check_dead(episodes)
            return [self._made(group) for group in groups]

        start = time.perf_counter()
        filtering = self._further is not None
        filled = fill(len(rows), play, signal=lambda g: not filtering or g.signal, further=self._further or 0)
        wall = time.perf_counter() - start
        empty = len(rows) - len(filled.kept)
        made = [*filled.kept, *(g.without_tokens(self._dummy_id) for g in filled.filtered[:empty])]
        played = tuple(g.group for g in filled.played)
        self.sampler.note(draws, played)
        groups = {
            "groups/played": float(len(played)),
            "groups/filtered": float(len(filled.filtered)),
            "groups/refilled": float(len(played) - len(rows)),
            "groups/empty": float(empty),
        }
        return RolloutBatch(
            tuple(g.group for g in made),
            tuple(r for g in made for r in g.rows),
            self.policy,
            batch_metrics(played, wall_s=wall, policy=self.policy, updates=self._updates)
            | groups
            | self.sampler.metrics(),
            None if self._credit is None else tuple(c for g in made for c in g.credit or ()),
            played,
            wall * waiting_share(played),
        )

    def _note_updates(self, step: int) -> None:
        """Count the optimizer steps that were made while one policy version stayed current: each leaves it behind."""
        if self._seen is None or self._seen[0] != self.policy:
            self._seen = (self.policy, step)
        self._updates = step - self._seen[1]

    def _request(self, tasks: Sequence[TaskRef], seed: int) -> Sequence[Group]:
        request = replace(self._template, tasks=tuple(tasks), policy=self.policy, seed=seed)
        groups = self._loop.run(self._service.rollouts(request))
        self._check_groups(groups, request)
        return groups

    def _seed(self, row: int, before: int) -> int:
        """A seed of its own for every request, the same in a resumed run: rows never repeat within a run."""
        return (self._template.seed * 1_000_003 + row + before * 7_368_787) % 2**31

    def _made(self, group: Group) -> _Made:
        limit = self._template.max_episode_tokens
        rows = [episode_row(e, dummy_id=self._dummy_id, max_tokens=limit, **self._keep) for e in group.episodes]
        if self._credit is None:
            return _Made(group, tuple(rows), None)
        trained = [(e, r) for e, r in zip(group.episodes, rows, strict=True) if r.trained]
        values = iter(self._credit([e for e, _ in trained]))
        credit = [
            per_token(e, next(values), len(r.completion_ids)) if r.trained else (0.0,)
            for e, r in zip(group.episodes, rows, strict=True)
        ]
        return _Made(group, tuple(rows), tuple(credit))

    def _check_groups(self, groups: Sequence[Group], request: RolloutRequest) -> None:
        sizes = [len(g.episodes) for g in groups]
        if sizes != [request.group_size] * len(request.tasks):
            raise InfrastructureError(
                f"asked for {len(request.tasks)} groups of {request.group_size}, got groups of {sizes}",
                hint="a partial group has no baseline; look at the rollout server's log",
            )
        for group in groups:
            self._check_task(group.task)

    def _check_dead(self, episodes: Sequence[Episode]) -> None:
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
