"""Play a split and say how well a policy does: success by task type with an interval, AgentBench's aggregate.

Scores follow AgentBench (THUDM/AgentBench): ALFWorld is passed / total; DB Bench is the mean of the accuracies of
SELECT-like, INSERT and UPDATE tasks. Episodes that our machinery lost are in no mean; they are counted and shown.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table

from envs.errors import ConfigError
from rollout_server.service import EpisodeCallback, RolloutService
from rollout_server.types import Episode, RolloutRequest, SamplingParams, TaskRef
from trainer.batch import invalid_turn
from trainer.config import TrainConfig
from trainer.lora import check_adapter
from trainer.models import context_length
from trainer.services import SCRIPTED_ENGINES, open_rollouts, split_tasks, task_refs

__all__ = [
    "EvalReport",
    "TypeScore",
    "agentbench_score",
    "evaluate",
    "play_split",
    "report_of",
    "report_table",
    "wilson_interval",
]

_MUTATIONS = ("INSERT", "UPDATE")
_EPISODE_TOKENS = 16384


def wilson_interval(successes: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); ``z`` 1.96 covers 95 %. (0, 1) for no trial."""
    if total == 0:
        return 0.0, 1.0
    p = successes / total
    centre = p + z * z / (2 * total)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True, slots=True)
class TypeScore:
    """Scored episodes of one task type. ``low`` and ``high`` bound the success rate with 95 % confidence."""

    type: str
    episodes: int
    successes: int
    success: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class EvalReport:
    """An evaluation. ``score`` is AgentBench's aggregate, None where nothing was scored.

    ``turns`` and ``policy_tokens`` are means over scored episodes; ``statuses`` counts every episode, those of
    infrastructure errors and cancellations too, which are in nothing else. ``errors`` are the first messages of these.
    """

    env: str
    split: str
    engine: str
    model: str
    policy: str
    protocol: str
    episodes: int
    score: float | None
    overall: TypeScore
    types: tuple[TypeScore, ...]
    turns: float
    policy_tokens: float
    invalid_turns: float
    statuses: dict[str, int]
    errors: tuple[str, ...]
    seconds: float
    tokens_per_s: float
    task_ids: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {"schema": "envloop.eval_report/1", **asdict(self)}


def agentbench_score(env: str, scored: Sequence[Episode]) -> float | None:
    """AgentBench's aggregate in [0, 1]: for DB Bench the mean over the categories played, else the success rate."""
    if not scored:
        return None
    groups: dict[str, list[bool]] = defaultdict(list)
    for e in scored:
        category = (e.task.type if e.task.type in _MUTATIONS else "SELECT") if env == "dbbench" else ""
        groups[category].append(e.success)
    return fmean(fmean(values) for values in groups.values())


def report_of(episodes: Sequence[Episode], *, env: str, split: str, seconds: float) -> EvalReport:
    """The figures of played episodes. Raises ConfigError for none at all."""
    if not episodes:
        raise ConfigError(f"no episode of {env}/{split} was played", hint="raise the limit or choose other task types")
    scored = [e for e in episodes if e.status.scored]
    by_type: dict[str, list[Episode]] = defaultdict(list)
    for e in scored:
        by_type[e.task.type].append(e)
    turns = [t for e in scored for t in e.turns if not t.given]
    tokens = sum(sum(e.mask) for e in scored)
    lost = [f"{e.status.value}: {e.error}" for e in episodes if not e.status.scored]
    first = episodes[0]
    return EvalReport(
        env=env,
        split=split,
        engine=first.engine,
        model=first.model,
        policy=first.policy,
        protocol=first.protocol,
        episodes=len(episodes),
        score=agentbench_score(env, scored),
        overall=_score("all", scored),
        types=tuple(_score(name, by_type[name]) for name in sorted(by_type)),
        turns=fmean(len(e.turns) for e in scored) if scored else 0.0,
        policy_tokens=tokens / len(scored) if scored else 0.0,
        invalid_turns=fmean(invalid_turn(t) for t in turns) if turns else 0.0,
        statuses={str(k): v for k, v in sorted(Counter(e.status.value for e in episodes).items())},
        errors=tuple(dict.fromkeys(lost))[:5],
        seconds=seconds,
        tokens_per_s=tokens / seconds if seconds > 0 else 0.0,
        task_ids=tuple(e.task.id for e in episodes),
    )


async def evaluate(
    service: RolloutService,
    env: str,
    split: str,
    *,
    tasks: Sequence[TaskRef],
    sampling: SamplingParams | None = None,
    protocol: str = "agentbench_fc",
    policy: str | None = None,
    max_turns: int | None = None,
    max_episode_tokens: int = 16384,
    seed: int = 0,
    on_episode: EpisodeCallback | None = None,
) -> EvalReport:
    """Play every task once and report.

    Args:
        service: who plays.
        env, split: what the report is about; every task must be of it.
        tasks: usually all of a split, by id (``trainer.services.split_tasks``).
        sampling: greedy by default, as AgentBench samples.
        policy: a policy version; None plays the one that is current now, to the end, whatever is published meanwhile.
    """
    if not tasks:
        raise ConfigError(f"no task of {env}/{split} to play", hint="raise the limit or choose another split")
    if policy is None:  # left open, each episode would take what is current when it begins
        policy = (await service.policies())[-1].name
    request = RolloutRequest(
        tasks=tuple(tasks),
        sampling=sampling or SamplingParams(temperature=0.0),
        protocol=protocol,
        policy=policy,
        max_turns=max_turns,
        max_episode_tokens=max_episode_tokens,
        seed=seed,
        metadata={"purpose": "evaluation"},
    )
    start = time.perf_counter()
    groups = await service.rollouts(request, on_episode=on_episode)
    seconds = time.perf_counter() - start
    episodes = [e for g in groups for e in g.episodes]
    stray = next((e.task.id for e in episodes if (e.env, e.task.split) != (env, split)), None)
    if stray is not None:
        raise ConfigError(f"task {stray!r} is not of {env}/{split}", hint="evaluate one split at a time")
    return report_of(episodes, env=env, split=split, seconds=seconds)


async def play_split(
    config: TrainConfig,
    env: str,
    split: str,
    *,
    type: str | None = None,
    adapter: Path | None = None,
    with_model: bool = True,
    on_total: Callable[[int], object] = lambda _: None,
    on_episode: EpisodeCallback | None = None,
) -> EvalReport:
    """Open the recipe's rollouts, play a split (``eval.limit`` of it) and close everything again.

    ``adapter`` (a folder, absolute) is loaded as a version of its own; on a server (``rollout.url``) that makes it
    current for its other clients too. ``with_model`` False lets a scripted engine play without a model.
    """
    bytes_only = not with_model and config.rollout.engine in SCRIPTED_ENGINES and config.rollout.url is None
    tokens = _episode_tokens(config, bytes_only=bytes_only)
    config = config.model_copy(update={"rollout": config.rollout.model_copy(update={"max_episode_tokens": tokens})})
    service = await open_rollouts(config, with_model=with_model)
    try:
        if service.env is None:
            raise ConfigError("evaluation lists a split's tasks", hint="name the environment server: --env-url")
        tasks = await split_tasks(service.env, env, split, type=type, limit=config.eval.limit)
        on_total(len(tasks))
        policy = None
        if adapter is not None:
            check_adapter(adapter)
            name = f"eval-{adapter.name}-{time.time_ns():x}"
            policy = (await service.publish_policy(name, adapter)).name
        return await evaluate(
            service,
            env,
            split,
            tasks=task_refs(tasks),
            sampling=SamplingParams(temperature=config.eval.temperature, max_tokens=config.rollout.max_tokens),
            protocol=config.rollout.protocol,
            policy=policy,
            max_turns=config.rollout.max_turns,
            max_episode_tokens=tokens,
            seed=config.run.seed,
            on_episode=on_episode,
        )
    finally:
        await service.close()


def report_table(report: EvalReport) -> Table:
    """The report to look at."""
    score = "none" if report.score is None else f"{report.score:.1%}"
    table = Table(
        title=f"{report.env} {report.split}: {report.model} ({report.policy}), {report.protocol}: {score}",
        caption=f"{report.turns:.1f} turns and {report.policy_tokens:.0f} tokens an episode, "
        f"{report.invalid_turns:.0%} invalid turns; "
        + ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in report.statuses.items()),
    )
    table.add_column("task type")
    for name in ("episodes", "success", "95 % interval"):
        table.add_column(name, justify="right")
    for row in (*report.types, report.overall):
        table.add_row(
            row.type,
            str(row.episodes),
            f"{row.success:.1%}",
            f"{row.low:.1%} … {row.high:.1%}",
            end_section=row is report.types[-1] if report.types else False,
        )
    return table


def _episode_tokens(config: TrainConfig, *, bytes_only: bool) -> int:
    if config.eval.max_episode_tokens is not None:
        return config.eval.max_episode_tokens
    # A script without a model writes bytes, some four to eight for each token of a model.
    return 8 * _EPISODE_TOKENS if bytes_only else min(_EPISODE_TOKENS, context_length(config.model))


def _score(name: str, scored: Sequence[Episode]) -> TypeScore:
    wins = sum(e.success for e in scored)
    low, high = wilson_interval(wins, len(scored))
    return TypeScore(name, len(scored), wins, wins / len(scored) if scored else 0.0, low, high)
