"""Proxies that treat requests badly, and a server that is killed and started again: the faults of ``env_chaos.py``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx

__all__ = ["KilledServer", "Proxy", "SocketProxy", "free_port"]

_LENGTH = b"content-length:"


def free_port() -> int:
    """A port that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Between:
    """Listens for a client, on behalf of a port."""

    def __init__(self, target: int, share: float, seed: int) -> None:
        self._target = target
        self._share = share
        self._rng = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self.faults: Counter[str] = Counter()
        self.messages = 0
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
            await self._between(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # what a client sees of it is what is measured; cancelled at the end
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def _fault(self, *kinds: str) -> str:
        """One of them, or none."""
        self.messages += 1
        fault = self._rng.choice(kinds) if self._rng.random() < self._share else ""
        self.faults[fault] += bool(fault)
        return fault


class Proxy(_Between):
    """HTTP/1.1 between a client and a port: some requests are dropped, delayed, sent twice, or lose their answer."""

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (message := await _message(reader)) is not None and await self._pass_on(message, writer):
            pass

    async def _pass_on(self, request: bytes, client: asyncio.StreamWriter) -> bool:
        """Whether the connection is still good."""
        fault = self._fault("drop", "delay", "duplicate", "cut")
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


class SocketProxy(_Between):
    """The same between a client's WebSocket and a port: of the client's messages some are dropped with the connection,
    delayed, or passed on and their answer cut in the middle.

    No message is sent twice: what sends requests twice is something on the way that tries again, and nothing on the way
    can do so inside a connection.
    """

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            opening = await reader.readuntil(b"\r\n\r\n")
            server.write(opening)
            if b"upgrade: websocket" not in opening.lower():  # a plain request is no part of the measurement
                writer.write(await _message(answers) or b"")
                return
            writer.write(await answers.readuntil(b"\r\n\r\n"))
            cut = asyncio.Event()
            ways = [self._requests(reader, server, cut), self._answers(answers, writer, cut)]
            done, pending = await asyncio.wait(map(asyncio.ensure_future, ways), return_when="FIRST_COMPLETED")
            for one in pending:
                one.cancel()
            await asyncio.gather(*done, *pending, return_exceptions=True)
        finally:
            for end in (writer, server):
                end.transport.abort()

    async def _requests(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while True:
            frame, data = await _frame(client)
            fault = self._fault("drop", "delay", "cut") if data else ""
            if fault == "drop":
                return
            if fault == "delay":
                await asyncio.sleep(self._rng.uniform(0.1, 1.0))
            if fault == "cut":
                cut.set()
            server.write(frame)
            await server.drain()

    async def _answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while True:
            frame, data = await _frame(server)
            if data and cut.is_set():
                client.write(frame[: self._rng.randrange(len(frame))])
                await client.drain()
                return
            client.write(frame)
            await client.drain()


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """A frame of a WebSocket as it stands, and whether it holds data."""
    head = await reader.readexactly(2)
    length, masked = head[1] & 0x7F, bool(head[1] & 0x80)
    more = await reader.readexactly({126: 2, 127: 8}.get(length, 0))
    length = int.from_bytes(more, "big") if more else length
    return head + more + await reader.readexactly(length + 4 * masked), head[0] & 0x0F in (0, 1, 2)


class KilledServer:
    """``envloop env serve`` or another server on a port, killed with SIGKILL again and again, and started at once."""

    def __init__(
        self, folder: Path, port: int, *, command: Sequence[str] | None = None, health: str = "/healthz"
    ) -> None:
        own = (sys.executable, "-m", "envs.cli", "env", "serve", "--port", str(port), "--log-level", "error")
        self._command = list(command or own)
        self._health = health
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
                    if (await client.get(f"http://127.0.0.1:{self._port}{self._health}")).is_success:
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
