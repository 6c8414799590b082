"""Open the rollouts that a recipe names: an engine and the environments of this process, or servers by URL."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

from envs.client import EnvClient
from envs.errors import ConfigError
from envs.types import Split, Task
from rollout_server.config import RolloutServerSettings, open_service
from rollout_server.engines.base import Engine
from rollout_server.engines.vllm_process import VllmProcessEngine
from rollout_server.service import EpisodeCallback, RolloutService
from rollout_server.types import Group, PolicyVersion, RolloutRequest, TaskRef
from trainer.config import TrainConfig
from trainer.models import model_source, weights_dtype
from trainer.shared_gpu import AwakeWhilePlaying

__all__ = [
    "SCRIPTED_ENGINES",
    "UNTRAINED_ENGINES",
    "OpenedRollouts",
    "open_rollouts",
    "split_tasks",
    "store_url",
    "task_refs",
]

SCRIPTED_ENGINES = ("expert", "gold", "explorer", "repair", "near_miss", "random", "noop")
UNTRAINED_ENGINES = (*SCRIPTED_ENGINES, "chat")
"""Engines that take no adapters: what they play is no policy that a recipe trains."""
_REMOTE_ENGINES = ("openai", "chat")


def store_url(config: TrainConfig) -> str:
    """The database of a run's episodes: the recipe's, or a file in the run's folder."""
    return config.rollout.store or f"sqlite:///{Path(config.run.output_dir).resolve() / 'episodes.db'}"


class OpenedRollouts:
    """A ``RolloutService`` together with everything that was opened for it.

    ``env`` asks the same environments, ``engine`` is the engine of this process; either is None where only a server by
    URL is known. An engine that sleeps (``vllm_process``) is awake only while episodes are played. ``close`` ends
    everything, in reverse order.
    """

    def __init__(
        self, service: RolloutService, stack: AsyncExitStack, env: EnvClient | None, engine: Engine | None
    ) -> None:
        self.env = env
        self.engine = engine
        self._service = service
        self._stack = stack
        self._awake: AbstractAsyncContextManager[None] = nullcontext()
        if isinstance(engine, VllmProcessEngine):
            self._awake = AwakeWhilePlaying(engine)

    async def rollouts(self, request: RolloutRequest, *, on_episode: EpisodeCallback | None = None) -> Sequence[Group]:
        """See ``RolloutService.rollouts``."""
        async with self._awake:
            return await self._service.rollouts(request, on_episode=on_episode)

    async def publish_policy(self, name: str, adapter_path: Path) -> PolicyVersion:
        """See ``RolloutService.publish_policy``."""
        return await self._service.publish_policy(name, adapter_path)

    async def policies(self) -> Sequence[PolicyVersion]:
        """See ``RolloutService.policies``."""
        return await self._service.policies()

    async def splits(self) -> tuple[Split, ...]:
        """What the environments say of their splits; nothing where only a rollout server is known."""
        if self.env is None:
            return ()
        return tuple(split for info in await self.env.envs() for split in info.splits)

    async def close(self) -> None:
        """End the engine, the environments and the store. Idempotent."""
        await self._stack.aclose()


async def open_rollouts(
    config: TrainConfig,
    *,
    engine: str | None = None,
    script_options: Mapping[str, Any] | None = None,
    with_model: bool = True,
) -> OpenedRollouts:
    """The recipe's rollouts, ready to play.

    Args:
        config: the recipe.
        engine: another engine than the recipe's, in this process (``expert`` to collect episodes).
        script_options: options of a scripted engine.
        with_model: False lets a scripted engine play in bytes instead of the recipe's model's tokens.

    Tokens come from the process environment: ``ENVLOOP_TOKEN``; for an expert on a remote environment server
    ``ENVLOOP_EXPERT_TOKEN``. Close it on the event loop that opened it. Raises: ConfigError, BackendUnavailable,
    TransportError.
    """
    r = config.rollout
    async with AsyncExitStack() as stack:
        if r.url is not None and engine is None:
            from rollout_server.client import RolloutClient

            service = RolloutClient(r.url, token=os.environ.get("ENVLOOP_TOKEN"))
            stack.push_async_callback(service.close)
            env = None
            if r.env_url is not None:
                token = os.environ.get("ENVLOOP_TOKEN")
                env = await stack.enter_async_context(EnvClient(r.env_url, token=token))
            return OpenedRollouts(service, stack.pop_all(), env, None)
        kind = engine or r.engine
        scripted = kind in SCRIPTED_ENGINES
        settings = RolloutServerSettings.load(
            env_url=r.env_url,
            env_token=os.environ.get("ENVLOOP_EXPERT_TOKEN") if scripted else None,
            engine=kind,
            model=_engine_model(config, kind) if with_model or not scripted else None,
            engine_options=dict(script_options or {}) if scripted else _engine_options(config, kind),
            store_url=store_url(config),
            max_concurrency=r.concurrency,
            keep_policies=min(3, config.run.keep_policies),  # the folder of each must be on disk still
        )
        opened = await stack.enter_async_context(open_service(settings))
        made = opened.rollouts.engine
        if isinstance(made, VllmProcessEngine):
            # Before the trainer's weights are on the GPU: vLLM measures what is free, and then makes room for them.
            await made.start()
            await made.sleep()
        return OpenedRollouts(opened.rollouts, stack.pop_all(), opened.client, made)


async def split_tasks(
    client: EnvClient, env: str, split: str, *, type: str | None = None, limit: int = 0
) -> list[Task]:
    """The tasks of a split in their fixed order, at most ``limit`` (0: all; 100 of an endless split)."""
    page = await client.tasks(env, split=split, type=type, limit=1)
    most = limit or page.total or 100
    found: list[Task] = []
    async for task in client.iter_tasks(env, split=split, type=type, page=min(most, 500)):
        found.append(task)
        if len(found) >= most:
            break
    return found


def task_refs(tasks: Sequence[Task]) -> list[TaskRef]:
    """References by id."""
    return [TaskRef(env=t.env, task_id=t.id) for t in tasks]


def _engine_model(config: TrainConfig, kind: str) -> str:
    return config.model.name if kind in _REMOTE_ENGINES else model_source(config.model)


def _engine_options(config: TrainConfig, kind: str) -> dict[str, Any]:
    """The recipe's options, with what an engine must know to hold the recipe's episodes and adapters."""
    options: dict[str, Any] = {}
    if kind in ("vllm", "vllm_process", "transformers"):
        options = {
            "dtype": weights_dtype(config.model),
            "max_model_len": config.rollout.max_episode_tokens,
            "max_lora_rank": config.lora.r,
        }
    if kind == "vllm_process":
        options["log_path"] = str(Path(config.run.output_dir) / "vllm.log")
    if kind == "transformers" and config.model.device != "auto":
        options["device"] = config.model.device
    if kind in _REMOTE_ENGINES:  # by the names that OpenAI's own clients read; a key is in no recipe and no record
        named = {"base_url": os.environ.get("OPENAI_BASE_URL"), "api_key": os.environ.get("OPENAI_API_KEY")}
        options = {name: value for name, value in named.items() if value}
        if not {**options, **config.rollout.engine_options}.get("base_url"):
            raise ConfigError(
                f"the engine {kind} needs the address of a server",
                hint="set OPENAI_BASE_URL, or rollout.engine_options.base_url (envloop eval --base-url)",
            )
    return options | config.rollout.engine_options
