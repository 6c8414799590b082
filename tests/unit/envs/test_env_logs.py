"""What a server logs: a line for each request with its id and never a secret; answers packed for who accepts that."""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from envs.server_logs import configure_logs

TOKEN = "token-of-the-log"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``log(format)`` begins a log; the text is what it gave so far."""
    written = io.StringIO()
    root = logging.getLogger()
    before, level, talker = list(root.handlers), root.level, logging.getLogger("httpx")

    def begin(form: Any) -> io.StringIO:
        monkeypatch.setattr("sys.stderr", written)
        root.handlers = []
        configure_logs("info", form)
        return written

    yield begin
    root.handlers = before
    root.setLevel(level)
    talker.setLevel(logging.NOTSET)


async def test_a_request_is_a_line_of_json(log: Any, start: Any) -> None:
    written = log("json")
    server = await start(token=TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "mine-1"}
    await server.http.get("/v1/envs?secret=in-the-query", headers=headers)
    await server.http.get("/v1/envs", headers={"Authorization": "Bearer wrong-token", "X-Request-Id": "mine-2"})
    await server.http.get("/healthz")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    shown = [(e["method"], e["path"], e["status"]) for e in lines if e["logger"] == "envloop.requests"]
    assert shown == [("GET", "/v1/envs", 200), ("GET", "/v1/envs", 401), ("GET", "/healthz", 200)]
    assert [e["request_id"] for e in lines[:2]] == ["mine-1", "mine-2"]
    assert all(e["level"] == "info" and e["duration_ms"] > 0 for e in lines)
    assert not any(secret in written.getvalue() for secret in (TOKEN, "wrong-token", "in-the-query"))


async def test_an_unforeseen_error_is_logged_with_the_request(log: Any, start: Any) -> None:
    written = log("json")
    server = await start()
    (await server.family()).fail_with = RuntimeError("a bug")
    answer = await server.count(await server.create(), 1)
    assert answer.status_code == 500
    (failed,) = [e for e in map(json.loads, written.getvalue().splitlines()) if e["level"] == "error"]
    assert failed["request_id"] == answer.headers["x-request-id"]
    assert failed["request_id"] in answer.json()["error"]["hint"]
    assert "RuntimeError: a bug" in failed["exception"]


async def test_lines_for_people(log: Any, start: Any) -> None:
    written = log("text")
    server = await start()
    await server.http.get("/healthz", headers={"X-Request-Id": "mine"})
    assert written.getvalue().startswith("INFO envloop.requests: GET /healthz 200 ")
    assert written.getvalue().endswith(" ms [mine]\n")


@pytest.mark.parametrize("asks", ["gzip", "identity"])
async def test_large_answers_are_packed_for_who_accepts_it(start: Any, asks: str) -> None:
    server = await start()
    headers = {"Accept-Encoding": asks}
    async with server.http.stream("GET", "/v1/envs/counting/tasks?split=train", headers=headers) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    packed = answer.headers.get("content-encoding") == "gzip"
    assert packed == (asks == "gzip")
    assert "train/5" in (gzip.decompress(raw) if packed else raw).decode()
    small = await server.http.get("/healthz", headers=headers)
    assert "content-encoding" not in small.headers
