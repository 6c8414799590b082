"""The outermost layer of the app: access, the body limit, and one JSON shape for every error."""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envs.errors import (
    BadRequest,
    CapacityExceeded,
    EnvloopError,
    Forbidden,
    InvalidAction,
    InvalidOption,
    PayloadTooLarge,
    TooManyRequests,
)
from envs.server.auth import Access
from envs.server.pace import Pace
from envs.server_logs import log_request, request_id
from envs.wire import dumps

__all__ = [
    "Guard",
    "envloop_response",
    "error_response",
    "http_error",
    "internal_error",
    "invalid_request",
    "validation_error",
]

logger = logging.getLogger(__name__)

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
_SHOWN_PROBLEMS = 3


def error_response(error: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    """``{"error": …}`` with the status."""
    return Response(dumps({"error": error}), status, headers, media_type="application/json")


def envloop_response(error: EnvloopError) -> Response:
    """The answer that stands for one of our errors."""
    headers = {}
    if isinstance(error, CapacityExceeded):
        seconds = error.retry_after_s if isinstance(error, TooManyRequests) else 1.0
        headers["Retry-After"] = str(math.ceil(seconds))
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return error_response(error.to_json(), error.http_status, headers)


def internal_error(error: Exception, what: str) -> dict[str, str]:
    """Log an unforeseen error under its request's id, and give a body that shows only that id."""
    number = request_id.get() or secrets.token_hex(8)
    logger.error("request %s: %s failed", number, what, exc_info=error)
    return {
        "code": "internal_error",
        "message": "the server failed unexpectedly",
        "hint": f"look for request {number} in the server's log",
    }


def validation_error(problems: Sequence[Mapping[str, Any]]) -> EnvloopError:
    """Pydantic's findings as InvalidAction (where the action is at fault), InvalidOption or BadRequest (not JSON)."""
    first = problems[0]
    if first["type"] == "json_invalid":
        return BadRequest(f"the body is not JSON: {first.get('ctx', {}).get('error', '')}", hint="send a JSON object")
    parts = []
    for problem in problems[:_SHOWN_PROBLEMS]:
        place = ".".join(str(part) for part in problem["loc"] if part != "body") or "body"
        parts.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}")
    kind = InvalidAction if "action" in first["loc"] else InvalidOption
    return kind("; ".join(parts), hint="correct the field named; /docs describes every request")


def invalid_request(request: Request, error: Exception) -> Response:
    """Handler of FastAPI's validation errors."""
    del request
    if not isinstance(error, RequestValidationError):
        raise error
    return envloop_response(validation_error(error.errors()))


def http_error(request: Request, error: Exception) -> Response:
    """Handler of Starlette's own errors: unknown routes, wrong methods, unreadable bodies."""
    if not isinstance(error, HTTPException):
        raise error
    code = _HTTP_CODES.get(error.status_code, "bad_request")
    message = f"{request.method} {request.url.path}: {error.detail}"
    return error_response(
        {"code": code, "message": message, "hint": "/docs lists every route"}, error.status_code, error.headers
    )


class Guard:
    """ASGI middleware. Reads the body up front (it is small by rule), so that chunked bodies meet the limit too.

    Every answer carries ``X-Request-Id``: the caller's own, where it is of letters, digits and ``._-``, or a new one.

    ``streamed``: beginnings of paths whose handlers read their own bodies, and bound them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        body_limit: int,
        streamed: tuple[str, ...] = (),
        pace: Pace | None = None,
    ) -> None:
        self._app = app
        self._pace = pace or Pace(None)
        self._access = access
        self._body_limit = body_limit
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit, read, pass on; answer what was raised."""
        if scope["type"] == "websocket":
            await self._open(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, began, number = False, time.perf_counter(), _id_of(scope)
        request_id.set(number.decode())

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", number)]
                log_request(scope["method"], scope["path"], message["status"], time.perf_counter() - began)
            await send(message)

        try:
            if scope["path"].startswith("/v1/"):
                self._access.check(scope)
                self._pace.check(scope)
            if scope["path"].startswith(self._streamed):
                await self._app(scope, receive, watch)
                return
            first = await self._read(scope, receive)
            if first is None:
                return
            await self._app(scope, _replay(first, receive), watch)
        except EnvloopError as error:
            if started:
                raise
            await envloop_response(error)(scope, receive, watch)
        except Exception as error:
            body = internal_error(error, f"{scope['method']} {scope['path']}")
            if started:
                raise
            await error_response(body, 500)(scope, receive, watch)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a WebSocket, whatever its path, or refuse its opening with the error's own status and body."""
        request_id.set(_id_of(scope).decode())
        try:
            self._access.check(scope)
            _check_origin(scope)
            self._pace.check(scope)
        except EnvloopError as error:
            answer = envloop_response(error)
            if "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1008, "reason": error.message})
                return
            start = {"type": "websocket.http.response.start", "status": answer.status_code}
            await send({**start, "headers": answer.raw_headers})
            await send({"type": "websocket.http.response.body", "body": answer.body})
            return
        await self._app(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> Message | None:
        """The whole body as one message, or None where the client has gone."""
        limit = self._body_limit
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > limit:
                raise self._too_large()
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise self._too_large()
            parts.append(part)
            more = message.get("more_body", False)
        return {"type": "http.request", "body": b"".join(parts), "more_body": False}

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"the body is larger than {self._body_limit} bytes", hint="send less at once, or raise body_limit"
        )


def _check_origin(scope: Scope) -> None:
    """Pages may open WebSockets to any host: only one that comes from this server may open one here."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != headers.get(b"host"):
        raise Forbidden("a page of another site asks for a stream", hint="open it without the header Origin")


def _id_of(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(8).encode()


def _replay(first: Message, receive: Receive) -> Receive:
    pending: list[Message] = [first]

    async def read() -> Message:
        return pending.pop() if pending else await receive()

    return read
