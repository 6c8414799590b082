"""Rollouts in this process: the same service as over HTTP, with an engine and an env server's client."""

from __future__ import annotations

from collections.abc import Sequence
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

    Args: as for ``RolloutRunner``; ``keep_policies``: how many adapters the engine holds at once.
    """

    def __init__(
        self,
        client: EnvClient,
        engine: Engine,
        *,
        store: EpisodeSink | None = None,
        max_concurrency: int = 64,
        keep_policies: int = 3,
        record_cancelled: bool = False,
    ) -> None:
        self.engine = engine
        self._policies = PolicyRegistry(engine, keep_last=keep_policies)
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

    async def publish_policy(self, name: str, adapter_path: Path) -> PolicyVersion:
        """Load an adapter and make it current; older ones go when no episode needs them."""
        await self.engine.start()
        return await self._policies.publish(name, adapter_path)

    async def policies(self) -> Sequence[PolicyVersion]:
        """The known versions, oldest first; the last is current."""
        return self._policies.versions()

    def acquire_policy(self, name: str | None = None) -> AbstractAsyncContextManager[PolicyVersion]:
        """A version (None: the current one) that stays loaded as long as the context. Raises UnknownPolicy."""
        return self._policies.acquire(name)

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.close()
