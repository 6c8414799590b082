"""A proxy that treats requests badly, and a server that is killed and started again: the faults of ``env_chaos.py``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx

__all__ = ["KilledServer", "Proxy", "free_port"]

_LENGTH = b"content-length:"


def free_port() -> int:
    """A port that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """HTTP/1.1 between a client and a port: some requests are dropped, delayed, sent twice, or lose their answer."""

    def __init__(self, target: int, share: float, seed: int) -> None:
        self._target = target
        self._share = share
        self._rng = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; the address."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def aclose(self) -> None:
        """End every connection."""
        if self.server is not None:
            self.server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (message := await _message(reader)) is not None and await self._pass_on(message, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # what a client sees of it is what is measured; cancelled at the end
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, request: bytes, client: asyncio.StreamWriter) -> bool:
        """Whether the connection is still good."""
        self.requests += 1
        fault = self._rng.choice(("drop", "delay", "duplicate", "cut")) if self._rng.random() < self._share else ""
        self.faults[fault] += bool(fault)
        if fault == "drop":
            return False
        if fault == "delay":
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))
        if fault == "duplicate":
            await asyncio.gather(self._ask(request), asyncio.sleep(self._rng.uniform(0, 0.05)))
        answer = await self._ask(request)
        if answer is None:
            return False
        if fault == "cut":
            client.write(answer[: self._rng.randrange(len(answer))])
            await client.drain()
            return False
        client.write(answer)
        await client.drain()
        return True

    async def _ask(self, request: bytes) -> bytes | None:
        """The server's answer; None where it is away."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return None
        try:
            writer.write(request)
            await writer.drain()
            return await _message(reader)
        except (OSError, asyncio.IncompleteReadError):
            return None
        finally:
            writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes | None:
    """A whole request or answer as it stands; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = next((int(line[len(_LENGTH) :]) for line in head.lower().split(b"\r\n") if line.startswith(_LENGTH)), 0)
    return head + await reader.readexactly(length)


class KilledServer:
    """``envloop env serve`` on a port of its own, killed with SIGKILL again and again, and started at once."""

    def __init__(self, folder: Path, port: int, *, args: tuple[str, ...] = ()) -> None:
        self._command = [
            *(sys.executable, "-m", "envs.cli", "env", "serve", "--port", str(port), "--log-level", "error"),
            *args,
        ]  # fmt: skip
        self._environment = {**os.environ, "ENVLOOP_JOURNAL_URL": f"sqlite:///{folder / 'journal.sqlite'}"}
        self._log = (folder / "server.log").open("ab")
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(  # noqa: ASYNC220 - a thousandth of a second, and it has no part in a figure
            self._command, env=self._environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(600):
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"http://127.0.0.1:{self._port}/healthz")).is_success:
                        return
                if self._process.poll() is not None:
                    break
                await asyncio.sleep(0.1)
        raise RuntimeError(f"the server did not start; see {self._log.name}")

    async def kill(self) -> None:
        """SIGKILL, and a new one."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.kills += 1
        await self.start()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
        self._log.close()
