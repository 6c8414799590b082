"""HTTP/1.1 in the clear on asyncio's streams, as a transport of httpx; what is encrypted goes through httpx's own.

httpx looks through all connections of its pool, twice for each request, and asks the system about every idle one: with
32 episodes at once that costs the client 5 ms of CPU a request. Here an idle connection is the last of a list.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

import httpx

__all__ = ["PlainTransport"]

_HEAD_LIMIT = 2**16
_NO_BODY = frozenset({204, 304})

type _Origin = tuple[str, int]
type _Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class PlainTransport(httpx.AsyncBaseTransport):
    """At most ``max_connections`` at once, each kept for the next request. For one event loop.

    Raises httpx's errors: ConnectError, ConnectTimeout, PoolTimeout where nothing was sent; ReadError, ReadTimeout,
    WriteError, WriteTimeout, RemoteProtocolError.
    """

    def __init__(self, max_connections: int = 128) -> None:
        self._free = asyncio.Semaphore(max_connections)
        self._idle: defaultdict[_Origin, list[_Streams]] = defaultdict(list)
        self._limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
        self._encrypted: httpx.AsyncHTTPTransport | None = None  # its certificates take a while to load

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it and read the whole answer."""
        if request.url.scheme != "http":
            if self._encrypted is None:
                self._encrypted = httpx.AsyncHTTPTransport(limits=self._limits, trust_env=False)
            return await self._encrypted.handle_async_request(request)
        limits = request.extensions.get("timeout", {})
        async with _within(limits.get("pool"), httpx.PoolTimeout("no connection became free")):
            await self._free.acquire()
        try:
            return await self._exchange(request, limits)
        finally:
            self._free.release()

    async def _exchange(self, request: httpx.Request, limits: dict[str, float | None]) -> httpx.Response:
        message = _head(request) + await request.aread()
        origin = (request.url.host, request.url.port or 80)
        reader, writer = await self._connection(origin, limits.get("connect"))
        reusable = False
        try:
            try:
                writer.write(message)
                async with _within(limits.get("write"), httpx.WriteTimeout("the request could not be sent in time")):
                    await writer.drain()
            except OSError as error:
                raise httpx.WriteError(str(error)) from error
            try:
                async with _within(limits.get("read"), httpx.ReadTimeout("no answer came in time")):
                    status, headers, body, reusable = await _answer(reader, request.method)
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                raise httpx.RemoteProtocolError(f"the server's answer broke off or is no HTTP: {error}") from error
            except OSError as error:
                raise httpx.ReadError(str(error)) from error
        finally:
            if reusable:
                self._idle[origin].append((reader, writer))
            else:
                writer.close()
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))

    async def _connection(self, origin: _Origin, timeout_s: float | None) -> _Streams:
        idle = self._idle[origin]
        while idle:
            reader, writer = idle.pop()
            if not (reader.at_eof() or reader.exception() or writer.is_closing()):  # else the server has closed it
                return reader, writer
            writer.close()
        try:
            async with _within(timeout_s, httpx.ConnectTimeout("the server did not answer in time")):
                return await asyncio.open_connection(*origin, limit=_HEAD_LIMIT)
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error

    async def aclose(self) -> None:
        """Close the idle connections."""
        writers = [writer for idle in self._idle.values() for _, writer in idle]
        self._idle.clear()
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError):  # the server was first
                await writer.wait_closed()
        if self._encrypted is not None:
            await self._encrypted.aclose()


@contextlib.asynccontextmanager
async def _within(seconds: float | None, error: httpx.TimeoutException) -> AsyncIterator[None]:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():  # the system's own, an OSError
            raise
        raise error from None


def _head(request: httpx.Request) -> bytes:
    lines = [f"{request.method} ".encode("ascii") + request.url.raw_path + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers.raw]
    return b"\r\n".join([*lines, b"", b""])


async def _answer(reader: asyncio.StreamReader, method: str) -> tuple[int, list[tuple[bytes, bytes]], bytes, bool]:
    """Status, headers, body, and whether the connection may be used again."""
    while True:
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        version, _, rest = first.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise ValueError(f"it begins with {first[:40]!r}")
        status = int(rest[:3])
        if status >= 200:
            break
    headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    known = {name.lower(): value.lower() for name, value in headers}
    keep = version == b"HTTP/1.1" and known.get(b"connection") != b"close"
    if method == "HEAD" or status in _NO_BODY:
        return status, headers, b"", keep
    if b"chunked" in known.get(b"transfer-encoding", b""):
        return status, headers, await _chunks(reader), keep
    if b"content-length" in known:
        return status, headers, await reader.readexactly(int(known[b"content-length"])), keep
    return status, headers, await reader.read(), False


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass  # trailers
    return b"".join(parts)
