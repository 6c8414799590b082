"""A fake of vLLM's server process, for what no CPU build of vLLM has: its sleep mode.

    python tests/fake_vllm_server.py --journal FILE [--die] --uds PATH --model NAME …

serves ``ChoosingEngine``, or for a model by another name than ``small`` random ids, at a socket file. It sleeps and
wakes as vLLM does, and writes down each request's path. While it sleeps nothing may touch its memory, which another
process uses then: such a request is written down with ``asleep``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from openai_server import ChoosingEngine, OpenAIServer
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rollout_server.engines.base import GenerationRequest
from rollout_server.types import Completion, FinishReason

__all__ = ["FakeVllmServer", "RandomIds"]

type Message = MutableMapping[str, Any]


class RandomIds(ChoosingEngine):
    """Samples ids without a look at the prompt: enough for a trainer, whatever its tokenizer makes of them."""

    async def generate(self, request: GenerationRequest) -> Completion:
        draw = random.Random(request.sampling.seed)
        ids = tuple(draw.randrange(3, 200) for _ in range(min(6, request.sampling.max_tokens)))
        return Completion(ids, (0.0,) * len(ids), FinishReason.LENGTH, request.policy.name)


class FakeVllmServer:
    """The OpenAI-compatible routes, with vLLM's own for sleeping beside them."""

    def __init__(self, journal: Path, model: str) -> None:
        self._openai = OpenAIServer(ChoosingEngine() if model == "small" else RandomIds(), model=model)
        self._openai.app.router.routes += [
            Route("/health", self._health),
            Route("/sleep", self._sleep, methods=["POST"]),
            Route("/wake_up", self._wake, methods=["POST"]),
            Route("/reset_prefix_cache", self._reset, methods=["POST"]),
        ]
        self._asleep = False
        self._journal = journal

    async def app(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["path"] != "/health":
            with self._journal.open("a") as file:
                file.write(scope["path"] + (" asleep" if self._asleep else "") + "\n")
        await self._openai.app(scope, receive, send)

    async def _health(self, request: Request) -> Response:
        return Response("ok")

    async def _sleep(self, request: Request) -> Response:
        assert request.query_params["level"] == "1"
        self._asleep = True
        return Response()

    async def _wake(self, request: Request) -> Response:
        self._asleep = False
        return Response()

    async def _reset(self, request: Request) -> Response:
        return JSONResponse({"success": True})


async def _main(journal: Path, uds: str, model: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(uds)
        listener.listen()
        config = uvicorn.Config(
            FakeVllmServer(journal, model).app, log_level="error", lifespan="off", interface="asgi3"
        )
        await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--uds", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--die", action="store_true")
    options = parser.parse_known_args()[0]
    if options.die:
        print("ValueError: Free memory on device is less than desired")
        sys.exit(3)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(options.journal, options.uds, options.model))
