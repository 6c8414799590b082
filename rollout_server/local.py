"""Rollouts in this process: the same service as over HTTP, with an engine and an env server's client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from envs.client import EnvClient
from rollout_server.engines.base import Engine
from rollout_server.policy import PolicyRegistry
from rollout_server.runner import EpisodeSink, RolloutRunner
from rollout_server.service import EpisodeCallback
from rollout_server.types import Group, PolicyVersion, RolloutRequest

__all__ = ["LocalRollouts"]


class LocalRollouts:
    """A ``RolloutService`` in process. It owns the engine (``close`` closes it), not the client and not the store.

    Args: as for ``RolloutRunner``; ``keep_policies``: how many adapters the engine holds at once; ``adapter_limit``:
        bytes of one adapter's weights; ``any_base_model``: adapters may name another base model than the engine's.
    """

    def __init__(
        self,
        client: EnvClient,
        engine: Engine,
        *,
        store: EpisodeSink | None = None,
        max_concurrency: int = 64,
        keep_policies: int = 3,
        adapter_limit: int | None = None,
        any_base_model: bool = False,
        record_cancelled: bool = False,
    ) -> None:
        self.engine = engine
        self._policies = PolicyRegistry(
            engine, keep_last=keep_policies, max_bytes=adapter_limit, any_base_model=any_base_model
        )
        self._runner = RolloutRunner(
            client,
            engine,
            policies=self._policies,
            store=store,
            max_concurrency=max_concurrency,
            record_cancelled=record_cancelled,
        )

    async def rollouts(self, request: RolloutRequest, *, on_episode: EpisodeCallback | None = None) -> Sequence[Group]:
        """Play the request; see ``RolloutService.rollouts``. Starts the engine where it is not."""
        await self.engine.start()
        return await self._runner.run(request, on_episode=on_episode)

    async def publish_policy(
        self, name: str, adapter_path: Path, *, any_base_model: bool = False, number: int | None = None
    ) -> PolicyVersion:
        """Load an adapter and make it current; older ones go when no episode needs them. See ``PolicyRegistry``."""
        await self.engine.start()
        return await self._policies.publish(name, adapter_path, any_base_model=any_base_model, number=number)

    async def drop_policy(self, name: str, *, force: bool = False) -> None:
        """Forget an adapter before its time; see ``PolicyRegistry.drop``."""
        await self._policies.drop(name, force=force)

    def pinned_policies(self) -> Mapping[str, int]:
        """How many episodes hold each version, of those that any holds."""
        return self._policies.pins()

    async def policies(self) -> Sequence[PolicyVersion]:
        """The known versions, oldest first; the last is current."""
        return self._policies.versions()

    def acquire_policy(self, name: str | None = None) -> AbstractAsyncContextManager[PolicyVersion]:
        """A version (None: the current one) that stays loaded as long as the context. Raises UnknownPolicy."""
        return self._policies.acquire(name)

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.close()
