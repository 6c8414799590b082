"""Which tasks a training run holds out: those that it plays to evaluate itself, and every fixed evaluation split."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from envs.client import EnvClient
from envs.errors import ConfigError
from envs.types import SplitRole, Task
from rollout_server.config import RolloutServerSettings, open_env_client
from trainer.config import TrainConfig
from trainer.services import split_tasks
from trainer.settings import EvalSource

__all__ = ["EvaluationTasks", "held_out_sources", "list_evaluation_tasks"]

_LONGEST_SPLIT = 5_000


def held_out_sources(config: TrainConfig) -> tuple[EvalSource, ...]:
    """What a run plays to evaluate itself: ``eval.sources``, else ``generated_eval`` of what is trained on.

    Raises ConfigError for a split that is trained on.
    """
    trained = {(source.env, source.split) for source in config.data.sources}
    for source in config.eval.sources:
        if (source.env, source.split) in trained:
            raise ConfigError(
                f"eval.sources: {source.env}/{source.split} is trained on, and cannot be held out",
                hint="evaluate on another split, such as generated_eval",
            )
    return config.eval.sources or tuple(
        EvalSource(env=env, split="generated_eval") for env in sorted({env for env, _ in trained})
    )


@dataclass(frozen=True, slots=True)
class EvaluationTasks:
    """What must not be trained on: ``played`` by the run to evaluate itself, and ``fixed`` evaluation tasks."""

    played: tuple[Task, ...]
    fixed: tuple[Task, ...]

    @property
    def all(self) -> tuple[Task, ...]:
        """Both."""
        return self.played + self.fixed


async def _played(client: EnvClient, config: TrainConfig) -> list[Task]:
    found: list[Task] = []
    known = {info.spec.name for info in await client.envs()}
    for source in held_out_sources(config):
        if not config.eval.every and source.env not in known:
            continue  # only looked for overlap: an environment of somebody else's, which is not here
        tasks = await split_tasks(client, source.env, source.split, type=source.type, limit=config.eval.tasks)
        if not tasks:
            raise ConfigError(f"eval.sources: {source.env}/{source.split} has no task of type {source.type}")
        found += tasks
    return found


async def list_evaluation_tasks(config: TrainConfig, envs: Iterable[str] = ()) -> EvaluationTasks:
    """The tasks that the run plays (``eval.tasks`` of each source, always the same), and those of the evaluation splits
    of ``envs`` that have an end, as the environments (in this process, or at ``rollout.env_url``) list them.

    Raises: ConfigError for a source without tasks, or one that is trained on; UnknownEnv; TransportError.
    """
    # Who only lets the expert play has its token alone, which may list tasks too.
    token = os.environ.get("ENVLOOP_TOKEN") or os.environ.get("ENVLOOP_EXPERT_TOKEN")
    settings = RolloutServerSettings.load(env_url=config.rollout.env_url, env_token=token)
    wanted = set(envs)
    async with open_env_client(settings) as client:
        played = await _played(client, config)
        fixed: list[Task] = []
        for info in await client.envs():
            for split in info.splits if info.spec.name in wanted and info.readiness.ready else ():
                if split.role is SplitRole.EVALUATION and split.size is not None and split.size <= _LONGEST_SPLIT:
                    fixed += await split_tasks(client, info.spec.name, split.name)
    return EvaluationTasks(tuple(played), tuple(fixed))
