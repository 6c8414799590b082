"""The client's transport: what it reads of a server's answer, which connections it keeps, and its errors."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from envs.plain_transport import PlainTransport

LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def answering(*answers: bytes, close: bool = False):
    """A server that gives each request the next answer; ``seen`` are its connections, by number of requests."""
    left, seen = list(answers), []

    async def serve(reader, writer):
        seen.append(0)
        place = len(seen) - 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while left:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b":0"
                )
                await reader.readexactly(int(length.partition(b":")[2]))
                seen[place] += 1
                writer.write(left.pop(0))
                await writer.drain()
                if close:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}/", seen
    finally:
        server.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (LENGTH, "ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH, "ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n", "abcde"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
    ],
)
async def test_an_answer_is_read_to_its_end_and_the_connection_kept(answer, text):
    async with answering(answer, LENGTH, LENGTH) as (url, seen), httpx.AsyncClient(transport=PlainTransport()) as http:
        assert (await http.post(url, content=b"x" * 100_000)).text == text
        assert (await http.get(url)).text == "ok"
    assert seen == [2]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\nall of it",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nall of it",
    ],
)
async def test_a_connection_that_the_server_ends_is_not_used_again(answer):
    async with (
        answering(answer, answer, close=True) as (url, seen),
        httpx.AsyncClient(transport=PlainTransport()) as http,
    ):
        assert [(await http.get(url)).text for _ in range(2)] == ["all of it"] * 2
    assert seen == [1, 1]


async def test_an_idle_connection_that_the_server_has_closed_is_left():
    async with (
        answering(LENGTH, LENGTH, close=True) as (url, seen),
        httpx.AsyncClient(transport=PlainTransport()) as http,
    ):
        await http.get(url)
        await asyncio.sleep(0.05)
        assert (await http.get(url)).text == "ok"
    assert seen == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 x\r\n\r\n"],
)
async def test_what_is_no_whole_answer_is_a_protocol_error(answer):
    async with answering(answer, close=True) as (url, _), httpx.AsyncClient(transport=PlainTransport()) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(url)


async def test_nobody_listens():
    async with answering() as (url, _):
        pass
    async with httpx.AsyncClient(transport=PlainTransport()) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(url)


async def test_a_late_answer_and_a_full_pool_are_timeouts_and_free_their_place():
    async with answering(b"HTTP/1.1 200 OK\r\n", LENGTH) as (url, seen):
        limits = httpx.Timeout(5, read=0.3, pool=0.05)
        async with httpx.AsyncClient(transport=PlainTransport(1), timeout=limits) as http:
            late, full = await asyncio.gather(http.get(url), http.get(url), return_exceptions=True)
            assert isinstance(late, httpx.ReadTimeout)
            assert isinstance(full, httpx.PoolTimeout)
            assert (await http.get(url)).text == "ok"
    assert seen == [1, 1]


async def test_a_cancelled_request_leaves_no_half_read_connection():
    async with (
        answering(b"HTTP/1.1 200 OK\r\n", LENGTH) as (url, seen),
        httpx.AsyncClient(transport=PlainTransport(1)) as http,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await http.get(url)
        assert (await http.get(url)).text == "ok"
    assert seen == [1, 1]
