"""Play a split with any engine, as often as asked, resumable, and give the report (``trainer.eval_figures``)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.errors import ConfigError, Conflict
from rollout_server.episode_store import EpisodeStore
from rollout_server.service import EpisodeCallback, RolloutService
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import Episode, RolloutRequest, SamplingParams, TaskRef
from trainer.config import TrainConfig
from trainer.eval_figures import (
    EvalReport,
    TypeScore,
    agentbench_score,
    report_of,
    report_table,
    sample_of,
    task_trials,
)
from trainer.eval_identity import (
    evaluation_key,
    evaluation_run,
    evaluation_settings,
    played_before,
    policy_identity,
)
from trainer.eval_stats import wilson_interval
from trainer.lora import check_adapter
from trainer.models import context_length
from trainer.services import SCRIPTED_ENGINES, OpenedRollouts, open_rollouts, split_tasks, store_url, task_refs

__all__ = [
    "EvalReport",
    "TypeScore",
    "agentbench_score",
    "evaluate",
    "play_split",
    "report_of",
    "report_table",
    "sample_of",
    "task_trials",
    "wilson_interval",
]

_EPISODE_TOKENS = 16384


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
    samples: int = 1,
    options: Mapping[str, Any] | None = None,
    run: str = "",
    done: Sequence[Episode] = (),
    on_episode: EpisodeCallback | None = None,
    **more: Any,
) -> EvalReport:
    """Play every task ``samples`` times and report.

    Args:
        service: who plays.
        env, split: what the report is about; every task must be of it.
        tasks: usually all of a split, by id (``trainer.services.split_tasks``).
        sampling: greedy by default, as AgentBench samples.
        policy: a policy version; None plays the one that is current now, to the end, whatever is published meanwhile.
        samples: each with a seed of its own, the same however many there are.
        run: the name that episodes are stored under.
        done: scored episodes of an earlier session of the same evaluation: they are not played again.
        more: further fields of the report.
    """
    if not tasks:
        raise ConfigError(f"no task of {env}/{split} to play", hint="raise the limit or choose another split")
    if policy is None:  # left open, each episode would take what is current when it begins
        policy = (await service.policies())[-1].name
    wanted = {ref.task_id for ref in tasks}
    have = {(e.task.id, sample_of(e)): e for e in done if e.task.id in wanted and sample_of(e) < samples}
    sampling = sampling or SamplingParams(temperature=0.0)

    async def play(sample: int) -> list[Episode]:
        missing = tuple(ref for ref in tasks if (ref.task_id, sample) not in have)
        if not missing:
            return []
        request = RolloutRequest(
            tasks=missing,
            sampling=sampling if sample == 0 else sampling.with_seed((seed * 1_000_003 + sample) % 2**31),
            protocol=protocol,
            policy=policy,
            max_turns=max_turns,
            max_episode_tokens=max_episode_tokens,
            options=options or {},
            seed=seed,
            metadata={"purpose": "evaluation", "sample": sample, **({"run": run} if run else {})},
        )
        return [e for g in await service.rollouts(request, on_episode=on_episode) for e in g.episodes]

    start = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            plays = [group.create_task(play(sample)) for sample in range(samples)]
    except ExceptionGroup as error:
        raise error.exceptions[0] from error
    seconds = time.perf_counter() - start
    played = [e for work in plays for e in work.result()]
    stray = next((e.task.id for e in played if (e.env, e.task.split) != (env, split)), None)
    if stray is not None:
        raise ConfigError(f"task {stray!r} is not of {env}/{split}", hint="evaluate one split at a time")
    place = {ref.task_id: number for number, ref in enumerate(tasks)}
    episodes = sorted([*have.values(), *played], key=lambda e: (place.get(e.task.id, 0), sample_of(e)))
    return report_of(
        episodes,
        env=env,
        split=split,
        seconds=seconds,
        samples=samples,
        seed=seed,
        resumed=list(have.values()),
        run=run,
        **more,
    )


async def play_split(
    config: TrainConfig,
    env: str,
    split: str,
    *,
    type: str | None = None,
    adapter: Path | None = None,
    with_model: bool = True,
    resume: bool = False,
    on_total: Callable[[int], object] = lambda _: None,
    on_episode: EpisodeCallback | None = None,
) -> EvalReport:
    """Open the recipe's rollouts, play a split (``eval.limit`` of it, ``eval.samples`` times) and close everything.

    ``adapter`` (a folder, absolute) is loaded as a version of its own; on a server (``rollout.url``) that makes it
    current for its other clients too. ``with_model`` False lets a scripted engine play without a model. ``resume``:
    episodes that are in the run's store for this evaluation are not played again.
    """
    bytes_only = _bytes_only(config, with_model=with_model)
    tokens = _episode_tokens(config, bytes_only=bytes_only)
    config = config.model_copy(update={"rollout": config.rollout.model_copy(update={"max_episode_tokens": tokens})})
    settings = evaluation_settings(config, env, split, type=type, max_episode_tokens=tokens)
    if adapter is not None:
        check_adapter(adapter)
    service = await open_rollouts(config, with_model=with_model)
    store = await asyncio.to_thread(EpisodeStore, store_url(config))
    try:
        if service.env is None:
            raise ConfigError("evaluation lists a split's tasks", hint="name the environment server: --env-url")
        tasks = await split_tasks(service.env, env, split, type=type, limit=config.eval.limit)
        on_total(len(tasks) * config.eval.samples)
        current = (await service.policies())[-1].name
        identity = policy_identity(config, with_model=with_model, policy=current, adapter=adapter)
        key = evaluation_key(settings, identity)
        run = evaluation_run(store, key, resume=resume)
        done = list(played_before(store, run))
        if on_episode is not None:
            for episode in done:
                on_episode(episode)
        policy = None
        if adapter is not None:
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
            samples=config.eval.samples,
            options=config.rollout.env_options,
            run=run,
            done=done,
            on_episode=_keeping(store, on_episode) if config.rollout.url is not None else on_episode,
            settings=settings,
            policy_is=identity,
            key=key,
            store=store.url,
            length_unit="bytes" if _counts_bytes(service) else "tokens",
        )
    finally:
        store.close()
        await service.close()


def _keeping(store: EpisodeStore, on_episode: EpisodeCallback | None) -> EpisodeCallback:
    """Keep what a server played in the evaluation's own store too: it is resumed and replayed from there."""

    def keep(episode: Episode) -> None:
        with contextlib.suppress(Conflict):  # the server may write into the same store
            store.add(episode)
        if on_episode is not None:
            on_episode(episode)

    return keep


def _bytes_only(config: TrainConfig, *, with_model: bool) -> bool:
    """Whether nobody knows a tokenizer: a script without a model, or a server that is asked by text."""
    if config.rollout.url is not None:
        return False
    if config.rollout.engine == "chat":
        return "tokenizer_path" not in config.rollout.engine_options
    return not with_model and config.rollout.engine in SCRIPTED_ENGINES


def _counts_bytes(service: OpenedRollouts) -> bool:
    return isinstance(getattr(service.engine, "tokenizer", None), ByteTokenizer)


def _episode_tokens(config: TrainConfig, *, bytes_only: bool) -> int:
    if config.eval.max_episode_tokens is not None:
        return config.eval.max_episode_tokens
    if bytes_only:  # some four to eight for each token of a model
        return 8 * _EPISODE_TOKENS
    model, options = config.model, config.rollout.engine_options
    if config.rollout.url is None and config.rollout.engine == "chat":
        return _EPISODE_TOKENS  # its server alone knows more
    if config.rollout.url is None and config.rollout.engine == "openai" and "tokenizer_path" in options:
        model = model.model_copy(update={"name": str(options["tokenizer_path"])})
    return min(_EPISODE_TOKENS, context_length(model))
