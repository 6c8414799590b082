"""Sampling an episode's turns: within their time, from the version that the episode began with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from envs.errors import InfrastructureError, InvalidOption, UnknownPolicy
from envs.types import EnvSpec
from rollout_server.constraints import Constrain
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.protocols.base import AgentProtocol
from rollout_server.types import Completion, PolicyVersion

__all__ = ["Repin", "TurnSampler", "check_constrain"]

type Repin = Callable[[], AbstractAsyncContextManager[PolicyVersion]]
"""Uses the version that is current now, for as long as the context is open."""

_GRACE_S = 10.0  # for an engine that keeps the time itself, until it is cancelled all the same
_SWITCHES = 3  # of versions that are lost, one after another, in one turn


def check_constrain(engine: Engine, protocol: AgentProtocol, env: EnvSpec, kind: Constrain) -> None:
    """Raise InvalidOption where turns cannot be constrained so."""
    if kind is Constrain.NONE:
        return
    protocol.constraint(env, kind)
    if not getattr(engine, "constrains", False):
        raise InvalidOption(
            f"the engine {engine.name} cannot constrain turns",
            hint="the vllm engine can, started with constraints = true, and a vLLM server (openai)",
        )


class TurnSampler:
    """Samples the turns of one episode. ``policy`` is the version in use.

    Args:
        engine: started already.
        policy: the version that the episode begins with.
        max_turn_s: seconds for a turn; None without end.
        max_episode_s: seconds for the episode, counted from now.
        repin: goes on with the current version where the engine has lost the one in use; None: that is a failure.
    """

    def __init__(
        self,
        engine: Engine,
        policy: PolicyVersion,
        *,
        max_turn_s: float | None = None,
        max_episode_s: float | None = None,
        repin: Repin | None = None,
    ) -> None:
        self.policy = policy
        self._engine = engine
        self._max_turn_s = max_turn_s
        self._end = None if max_episode_s is None else time.perf_counter() + max_episode_s
        self._repin = repin
        self._pins = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pins.aclose()

    async def sample(self, request: GenerationRequest) -> Completion | None:
        """Sample a turn from ``policy``, whatever version the request names.

        What time has cut has ``FinishReason.TIME``, where the engine can tell it; else, and where the time was over
        before, there is None: nothing is made up. Raises InfrastructureError.
        """
        ends = [] if self._end is None else [self._end]
        if self._max_turn_s is not None:
            ends.append(time.perf_counter() + self._max_turn_s)
        for _ in range(_SWITCHES):
            left = min(ends) - time.perf_counter() if ends else None
            if left is not None and left <= 0:
                return None
            try:
                return await self._generate(replace(request, policy=self.policy), left)
            except UnknownPolicy as error:
                await self._switch(error)
        raise InfrastructureError(f"{_SWITCHES} policy versions were lost in one turn", hint="see the engine's log")

    async def _generate(self, request: GenerationRequest, left: float | None) -> Completion | None:
        if left is None:
            return await self._answer(request)
        keeps = bool(getattr(self._engine, "keeps_time", False))
        timer = asyncio.timeout(left + _GRACE_S if keeps else left)
        try:
            async with timer:
                return await self._answer(replace(request, time_limit_s=left) if keeps else request)
        except TimeoutError:
            if not timer.expired():
                raise
            return None

    async def _answer(self, request: GenerationRequest) -> Completion | None:
        completion = await self._engine.generate(request)
        if completion.token_ids:
            return completion
        if request.time_limit_s is not None:  # stopped before the first token
            return None
        raise InfrastructureError(f"engine {self._engine.name} sampled no token", hint="see the engine's log")

    async def _switch(self, error: UnknownPolicy) -> None:
        """Go on with the current version."""
        lost = f"the engine lost the policy {self.policy.name!r} in mid-episode: {error.message}"
        if self._repin is None:
            raise InfrastructureError(lost, hint=error.hint) from error
        current = await self._pins.enter_async_context(self._repin())
        if current.name == self.policy.name:
            raise InfrastructureError(lost, hint="it is the current one: publish it anew") from error
        self.policy = current
