"""Play tasks twice, once to win and once otherwise, so that the store holds both sides of a preference."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from rich.console import Console

from envs.errors import ConfigError
from envs.types import Split
from rollout_server.episode_store import EpisodeStore
from rollout_server.service import RolloutService
from rollout_server.types import RolloutRequest, SamplingParams, TaskRef
from trainer.config import TrainConfig
from trainer.loops import LoopThread
from trainer.sampler import TaskSampler
from trainer.services import open_rollouts, store_url
from trainer.splits import SplitGuard

__all__ = ["collect_preferences"]

_THINKING = ("explorer", "repair", "near_miss")


def collect_preferences(config: TrainConfig, *, splits: tuple[Split, ...], console: Console) -> None:
    """Play what ``collect`` asks for, unless the store holds that many episodes of this run already.

    Every task is played once by ``better`` and ``worse_plays`` times by ``worse``, at the same seed: who looks around
    looks at the same things, and the episodes part where the mistake is. Raises: ConfigError for settings that do not
    fit, or an evaluation split; what ``open_rollouts`` raises.
    """
    section, recipe = config.preference, config.recipe
    if section.store is not None and section.store != config.rollout.store:
        raise ConfigError(
            f"{recipe}.collect adds to rollout.store, and {recipe}.store names another database",
            hint=f"leave {recipe}.store out, or set rollout.store to the same",
        )
    plays = section.collect * (1 + section.worse_plays)
    with EpisodeStore(store_url(config)) as store:
        stored = store.count(run=config.run.policy_prefix)
    if stored >= plays:
        console.print(f"{stored} episodes of this run are stored already: none is played")
        return
    sampler = TaskSampler(config.data.sources, seed=config.run.seed)
    tasks = tuple(sampler.task(row) for row in range(section.collect))
    by_loser: dict[str, list[TaskRef]] = defaultdict(list)
    for task in tasks:
        by_loser[section.loser(task.env)].append(task)
    with LoopThread() as loop:
        won = _play(config, loop, section.better, tasks, times=1, splits=splits)
        console.print(f"the {section.better} played {len(tasks)} tasks and solved {won}")
        for loser, its in by_loser.items():
            won = _play(config, loop, loser, tuple(its), times=section.worse_plays, splits=splits)
            console.print(f"the {loser} played {len(its)} tasks, {section.worse_plays} times each, and solved {won}")


def _play(
    config: TrainConfig,
    loop: LoopThread,
    player: str,
    tasks: tuple[TaskRef, ...],
    *,
    times: int,
    splits: tuple[Split, ...],
) -> int:
    section = config.preference
    options = {"thoughts": True} if section.thoughts and player in _THINKING else {}
    policy = player == "policy"
    opened = loop.run(open_rollouts(config, engine=None if policy else player, script_options=options))
    try:
        guard = SplitGuard(config.data.allow_eval_split, (*splits, *loop.run(opened.splits())))
        guard.check_sources(config.data.sources)
        request = RolloutRequest(
            tasks=tasks,
            group_size=times,
            protocol=config.rollout.protocol,
            max_turns=config.rollout.max_turns,
            max_episode_tokens=config.rollout.max_episode_tokens,
            options=config.rollout.env_options,
            seed=config.run.seed,
            metadata={"run": config.run.policy_prefix, "purpose": config.recipe},
        )
        if policy:
            sampling = SamplingParams(temperature=config.rollout.temperature, max_tokens=config.rollout.max_tokens)
            request = replace(request, sampling=sampling, policy=_policy(config, loop, opened))
        groups = loop.run(opened.rollouts(request))
    finally:
        loop.run(opened.close())
    return sum(e.success for g in groups for e in g.episodes)


def _policy(config: TrainConfig, loop: LoopThread, service: RolloutService) -> str:
    """The version that training begins with, loaded into the engine."""
    if config.lora.init_adapter is None:
        return "base"
    name = f"{config.run.policy_prefix}-start"
    if name in {p.name for p in loop.run(service.policies())}:
        return name
    return loop.run(service.publish_policy(name, config.lora.init_adapter.resolve())).name
