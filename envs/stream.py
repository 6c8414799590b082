"""The client's side of ``/v1/stream``: few WebSockets for all episodes, many requests and answers in one frame.

What is asked for while the event loop is busy goes out in one frame. An episode stays with the connection that began
it, and so with one process of a server that has several.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from envs.server_settings import is_loopback

__all__ = ["NoStream", "Streams"]

_wire_log = logging.getLogger(f"{__name__}.wire")
_wire_log.setLevel(logging.INFO)  # below, websockets tells of every header, the token among them

_KNOWN_EPISODES = 65536
_LARGEST_FRAME = 1 << 28
_MOST_IN_A_FRAME = 256
_OPEN_S = 10.0


class NoStream(Exception):
    """The server, or something before it, takes no WebSocket. ``answer``: status and body of what it said instead."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"HTTP {status}")
        self.answer = (status, body)


class Streams:
    """``count`` connections to one server, each opened when it is first used and again after it broke.

    ``ask`` raises httpx's errors, as a transport does: ConnectError and ConnectTimeout where nothing was sent,
    ReadError where it is not known what became of it, ReadTimeout after ``timeout_s``; NoStream where no stream can be
    had.
    """

    def __init__(self, base_url: str, *, token: str | None, count: int, timeout_s: float) -> None:
        parts = urlsplit(base_url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        url = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/v1/stream"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # On this machine packing costs more than the bytes.
        packed = not is_loopback(parts.hostname or "")
        self._pipes = [_Pipe(url, headers, packed=packed, timeout_s=timeout_s) for _ in range(count)]
        self._next = itertools.cycle(range(count))
        self._homes: OrderedDict[str, int] = OrderedDict()

    async def ask(self, request: bytes, episode: str | None = None) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to an encoded object, which may be about an episode that is known here."""
        home = None if episode is None else self._homes.get(episode)
        if home is None:
            home = next(self._next)
        status, body = await self._pipes[home].ask(request)
        for view in [body["episode"]] if "episode" in body else body.get("episodes", ()):
            self._settle(view["id"], home)
        return status, body

    def _settle(self, episode: str, home: int) -> None:
        self._homes[episode] = home
        self._homes.move_to_end(episode)
        while len(self._homes) > _KNOWN_EPISODES:
            self._homes.popitem(last=False)

    async def aclose(self) -> None:
        """Close every connection; what still waits fails. Idempotent."""
        for pipe in self._pipes:
            await pipe.aclose()


class _Pipe:
    """One connection."""

    def __init__(self, url: str, headers: Mapping[str, str], *, packed: bool, timeout_s: float) -> None:
        self._url = url
        self._headers = headers
        self._packed = packed
        self._timeout_s = timeout_s
        self._socket: ClientConnection | None = None
        self._opening = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._outbox: list[bytes] = []
        self._flushing: asyncio.Task[None] | None = None

    async def ask(self, request: bytes) -> tuple[int, dict[str, Any]]:
        """Send it with whatever else is to be sent now, and wait for its answer."""
        number = next(self._numbers)
        if self._socket is None:
            await self._open()
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._outbox.append(b'{"id":%d,' % number + request[1:])
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await answer
        except TimeoutError:
            raise httpx.ReadTimeout(f"no answer came within {self._timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)
        return int(body["status"]), body

    async def _open(self) -> None:
        async with self._opening:
            if self._socket is not None:
                return
            try:
                socket = await connect(
                    self._url,
                    additional_headers=self._headers,
                    compression="deflate" if self._packed else None,
                    max_size=_LARGEST_FRAME,
                    open_timeout=min(_OPEN_S, self._timeout_s),
                    logger=_wire_log,
                    proxy=None,  # as for requests: no proxy between a trainer and its environments
                )
            except InvalidStatus as error:
                raise NoStream(error.response.status_code, _parsed(error.response.body)) from error
            except TimeoutError as error:
                raise httpx.ConnectTimeout("the server did not answer in time") from error
            except (OSError, InvalidHandshake, InvalidURI, EOFError) as error:
                raise httpx.ConnectError(f"no stream: {error}") from error
            self._socket = socket
            self._reading = asyncio.create_task(self._read(socket))

    async def _flush(self) -> None:
        """Send what has come together, until there is no more."""
        try:
            while self._outbox and self._socket is not None:
                frame, self._outbox = self._outbox[:_MOST_IN_A_FRAME], self._outbox[_MOST_IN_A_FRAME:]
                with contextlib.suppress(ConnectionClosed):  # whoever reads has met it too, and tells those who wait
                    await self._socket.send((b"[" + b",".join(frame) + b"]").decode("ascii"))
        finally:
            self._flushing = None

    async def _read(self, socket: ClientConnection) -> None:
        broken: Exception = httpx.ReadError("the stream was closed")
        try:
            async for frame in socket:
                for body in json.loads(frame):
                    answer = self._waiting.get(body.get("id"))
                    if answer is not None and not answer.done():
                        answer.set_result(body)
        except (ConnectionClosed, ValueError, AttributeError) as error:
            broken = httpx.ReadError(f"the stream broke off: {error}")
        finally:
            self._socket = None
            self._outbox.clear()
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                if not answer.done():
                    answer.set_exception(broken)
            await socket.close()

    async def aclose(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._reading is not None:
            await asyncio.wait([self._reading])


def _parsed(body: bytes | bytearray | None) -> Any:
    try:
        return json.loads(body or b"")
    except ValueError:
        return None
