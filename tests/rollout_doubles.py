"""Doubles for the rollout tests, each named for what it breaks. Everything else in those tests is real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from envs.errors import BackendUnavailable
from rollout_server.engines.base import GenerationRequest, Tokenizer
from rollout_server.engines.scripted import ScriptedEngine, ScriptKind
from rollout_server.types import Completion, FinishReason, PolicyVersion

__all__ = ["FailingTransport", "HangingEngine", "SayingEngine", "WatchedEngine"]


class FailingTransport(httpx.AsyncBaseTransport):
    """A transport double: loses the answer of the ``at``-th request with ``fragment`` in its path, no other."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, fragment: str, at: int) -> None:
        self._inner = inner
        self._fragment = fragment
        self._left = at
        self.seen: list[tuple[str, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append((request.method, request.url.path))
        response = await self._inner.handle_async_request(request)
        if self._fragment in request.url.path:
            self._left -= 1
            if self._left == 0:
                raise httpx.ReadError("the connection was lost")
        return response


class WatchedEngine(ScriptedEngine):
    """A scripted engine that notes its requests and takes adapters by name; it can fail at a turn."""

    def __init__(self, kind: ScriptKind = "expert", *, tokenizer: Tokenizer | None = None, fails_at: int = -1) -> None:
        super().__init__(kind, tokenizer)
        self.requests: list[GenerationRequest] = []
        self.loaded: list[str] = []
        self._fails_at = fails_at

    async def generate(self, request: GenerationRequest) -> Completion:
        if len(self.requests) == self._fails_at:
            raise BackendUnavailable("the engine's process has died")
        self.requests.append(request)
        return await super().generate(request)

    async def load_policy(self, policy: PolicyVersion) -> None:
        self.loaded.append(policy.name)

    async def unload_policy(self, name: str) -> None:
        self.loaded.remove(name)


class SayingEngine(ScriptedEngine):
    """Says what a function of the turn's number gives; ``cut`` leaves out the end-of-turn token."""

    def __init__(self, say: Callable[[int], str], *, cut: bool = False) -> None:
        super().__init__("noop")
        self._say = say
        self._cut = cut

    async def generate(self, request: GenerationRequest) -> Completion:
        assert request.script is not None
        ids = self._chat.turn(self._say(request.script.turn))
        kept = tuple(ids[:-1] if self._cut else ids)
        reason = FinishReason.LENGTH if self._cut else FinishReason.STOP
        return Completion(kept, (-0.5,) * len(kept), reason, request.policy.name)


class HangingEngine(ScriptedEngine):
    """Plays ``turns`` turns of the expert, then never answers."""

    def __init__(self, turns: int) -> None:
        super().__init__("expert")
        self._turns = turns
        self.hangs = asyncio.Event()

    async def generate(self, request: GenerationRequest) -> Completion:
        assert request.script is not None
        if request.script.turn >= self._turns:
            self.hangs.set()
            await asyncio.Event().wait()
        return await super().generate(request)
