"""The part of vLLM's OpenAI-compatible server that ``OpenAIEngine`` uses, over any engine, so that tests need no vLLM.

    python tests/openai_server.py READY_FILE PORT

serves ``ChoosingEngine`` in a process of its own, which a test can kill, and writes its URL; port 0 takes a free one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from envs.errors import ConfigError, InvalidOption
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import Completion, FinishReason, PolicyVersion, SamplingParams

__all__ = ["ChoosingEngine", "OpenAIServer", "ServerProcess", "serving"]

_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed")


class ChoosingEngine:
    """A policy that is a function of its prompt, seed and adapter alone: one of the last actions that it was shown."""

    name = "choosing"
    model = "small"
    max_model_len = 1 << 20

    def __init__(self) -> None:
        self.tokenizer = ByteTokenizer()
        self.loaded: list[str] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def generate(self, request: GenerationRequest) -> Completion:
        text = self.tokenizer.decode(request.prompt_ids)
        actions = text.rpartition("AVAILABLE ACTIONS: ")[2].partition("<|im_end|>")[0].split("\n")
        key = hashlib.sha256(repr((request.prompt_ids, request.sampling.seed, request.policy.name)).encode()).digest()
        call = {"name": "take_action", "arguments": {"action": actions[key[0] % len(actions)]}}
        said = self.tokenizer.encode(f"<tool_call>\n{json.dumps(call)}\n</tool_call>", markup=False)
        ids = (*said, self.tokenizer.end_of_turn_id)[: request.sampling.max_tokens]
        reason = FinishReason.STOP if ids[-1] == self.tokenizer.end_of_turn_id else FinishReason.LENGTH
        return Completion(ids, (0.0,) * len(ids), reason, request.policy.name)

    async def load_policy(self, policy: PolicyVersion) -> None:
        self.loaded.append(policy.name)

    async def unload_policy(self, name: str) -> None:
        self.loaded.remove(name)


class OpenAIServer:
    """The routes; ``control`` is what a test can turn (also by ``POST /control``), ``stats`` what it can count."""

    def __init__(self, engine: Engine, *, model: str = "small") -> None:
        self.engine = engine
        self.model = model
        self.adapters: dict[str, PolicyVersion] = {}
        self.control: dict[str, Any] = {"delay_s": 0.0, "failing": False, "adapters": True, "loading": False}
        self.stats = {"answered": 0, "failed": 0, "abandoned": 0, "under_way": 0}
        self.app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
                Route("/control", self._control, methods=["POST"]),
                Route("/stats", self._stats),
            ]
        )

    async def _models(self, request: Request) -> Response:
        limit = self.engine.max_model_len  # type: ignore[attr-defined]
        names = [self.model, *self.adapters]
        return JSONResponse(
            {"data": [{"id": name, "root": self.engine.model, "max_model_len": limit} for name in names]}
        )

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        if self.control["failing"]:
            self.stats["failed"] += 1
            return _error(500, "the engine is dead")
        policy = self.adapters.get(body["model"])
        if policy is None and body["model"] != self.model:
            return _error(404, f"The model `{body['model']}` does not exist.")
        sampling = SamplingParams(**{name: body[name] for name in _FIELDS})
        asked = GenerationRequest(tuple(body["prompt"]), sampling, policy or PolicyVersion())
        work = asyncio.create_task(self._sample(asked))
        gone = asyncio.create_task(_gone(request))
        self.stats["under_way"] += 1
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.stats["abandoned"] += 1
                return Response(status_code=499)
            done = work.result()
        except InvalidOption as error:
            return _error(400, str(error))
        finally:
            self.stats["under_way"] -= 1
            for task in (work, gone):
                task.cancel()
            await asyncio.wait([work, gone])
        self.stats["answered"] += 1
        choice = {"token_ids": done.token_ids, "logprobs": {"token_logprobs": done.logprobs}}
        return JSONResponse({"choices": [choice]})

    async def _sample(self, request: GenerationRequest) -> Completion:
        await asyncio.sleep(self.control["delay_s"])
        return await self.engine.generate(request)

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        if not self.control["adapters"]:
            return _error(400, "no room for another adapter")
        while self.control["loading"]:  # noqa: ASYNC110 - a test turns it
            await asyncio.sleep(0.01)
        policy = PolicyVersion(body["lora_name"], 1, body["lora_path"])
        try:
            await self.engine.load_policy(policy)
        except ConfigError as error:
            return _error(400, str(error))
        self.adapters[policy.name] = policy
        return Response("Success")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, "no such adapter")
        await self.engine.unload_policy(name)
        return Response("Success")

    async def _control(self, request: Request) -> Response:
        self.control |= await request.json()
        return Response("ok")

    async def _stats(self, request: Request) -> Response:
        return JSONResponse({**self.stats, "adapters": sorted(self.adapters)})


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message}}, status)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@contextlib.asynccontextmanager
async def serving(server: OpenAIServer, port: int = 0) -> AsyncIterator[str]:
    """The server on this process's loop, by its URL."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()  # before the URL is told: who connects early waits, and is not refused
        config = uvicorn.Config(server.app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        task = asyncio.create_task(running.serve([listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        await task


class ServerProcess:
    """An OpenAI-compatible server that can be killed and started again at its address."""

    def __init__(self, folder: Path) -> None:
        self._ready = folder / "ready"
        self._port = "0"
        self.start()

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        self._process = subprocess.Popen([sys.executable, __file__, str(self._ready), self._port])

    async def url(self) -> str:
        while not self._ready.exists():
            assert self._process.poll() is None, "the server did not start"
            await asyncio.sleep(0.02)
        url = self._ready.read_text()
        self._port = url.rpartition(":")[2]
        return url

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


async def _main(ready: Path, port: int) -> None:
    async with serving(OpenAIServer(ChoosingEngine()), port) as url:
        part = ready.with_suffix(".part")
        part.write_text(url)
        part.rename(ready)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
