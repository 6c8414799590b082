"""A request and its answer, over HTTP or a stream, again where that is safe: what is below ``EnvClient``."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

from envs.errors import InvalidOption, TooManyRequests, TransportError, TryAgain, error_from_json
from envs.plain_transport import PlainTransport
from envs.server_settings import is_loopback
from envs.wire import dumps

if TYPE_CHECKING:
    from envs.stream import Streams

__all__ = ["Exchange"]

_log = logging.getLogger(__name__)

_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BACKOFF_S = 0.1
_MOST_BACKOFF_S = 2.0
_AWAY = (502, 503, 504)
_REFUSALS = (401, 403)


class Exchange:
    """For one event loop. The parameters are those of ``EnvClient``."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None,
        transport: httpx.AsyncBaseTransport | None,
        timeout_s: float,
        retries: int,
        patience_s: float,
        max_connections: int,
        streams: int,
    ) -> None:
        self._retries = retries
        self._patience_s = patience_s
        self._met = False  # a server that was never there is not waited for
        self._streams: Streams | None = None
        if streams:
            from envs.stream import Streams

            self._streams = Streams(base_url, token=token, count=streams, timeout_s=timeout_s)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if is_loopback(httpx.URL(base_url).host):
            headers["Accept-Encoding"] = "identity"  # on this machine packing costs more than the bytes
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            transport=transport or PlainTransport(max_connections),
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            trust_env=False,  # no proxy between a trainer and its environments unless given as a transport
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._streams is not None:
            await self._streams.aclose()
        await self._http.aclose()

    async def answer(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The answer's body; the parameters are those of ``ask``. Raises the server's error too."""
        status, answer = await self.ask(method, path, body, **options)
        if 200 <= status < 300:
            return answer
        raise error_from_json(answer, http_status=status)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str | int] | None = None,
        idempotent: bool = True,
        streamed: Mapping[str, Any] | None = None,
    ) -> tuple[int, Any]:
        """Status and body of the answer, however it comes. ``streamed`` is the same request as one of a stream.

        Raises: TransportError where no answer can be had; InvalidOption where the request is no JSON.
        """
        began = time.monotonic()

        def last(attempt: int) -> bool:
            return attempt >= self._retries and time.monotonic() - began >= (self._patience_s if self._met else 0.0)

        for attempt in itertools.count():
            try:
                status, answer = await self._once(method, path, body, query, streamed)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                again = isinstance(error, _UNSENT) or (idempotent and isinstance(error, httpx.TransportError))
                if not again or last(attempt):
                    raise TransportError(
                        f"{method} {self._http.base_url}{path} failed: {type(error).__name__} {error}".rstrip(),
                        hint="check the address, and that 'envloop env serve' is running there",
                    ) from error
            else:
                away = _nobody_there(status, answer)
                self._met = self._met or not away
                if last(attempt) or not (_too_fast(status, answer) or (idempotent and away)):
                    return status, answer
            # Many wait for the same server: not all at the same moment.
            await asyncio.sleep(min(_BACKOFF_S * 2**attempt, _MOST_BACKOFF_S) * random.uniform(0.5, 1.0))  # noqa: S311
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str | int] | None,
        streamed: Mapping[str, Any] | None,
    ) -> tuple[int, Any]:
        if self._streams is not None and streamed is not None:
            from envs.stream import NoStream

            try:
                return await self._streams.ask(_encoded(streamed), streamed.get("episode_id"))
            except NoStream as refused:
                status, answer = refused.answer
                if status in _REFUSALS or _nobody_there(status, answer) or _too_fast(status, answer):
                    return status, answer
                if self._streams is not None:
                    _log.warning("no stream to %s (HTTP %d): each request goes alone now", self._http.base_url, status)
                self._streams = None
        content = None if body is None else _encoded(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        response = await self._http.request(method, path, content=content, headers=headers, params=query)
        return response.status_code, _json(response)


def _too_fast(status: int, body: Any) -> bool:
    """Whether the server has not looked at the request because of too many."""
    error = body.get("error") if isinstance(body, dict) else None
    return (
        status == TooManyRequests.http_status and isinstance(error, dict) and error.get("code") == TooManyRequests.code
    )


def _nobody_there(status: int, body: Any) -> bool:
    """Whether a tunnel or balancer answered for a server that is away, or a server that goes on elsewhere or later."""
    if status not in _AWAY:
        return False
    error = body.get("error") if isinstance(body, dict) else None
    return not isinstance(error, dict) or error.get("code") == TryAgain.code


def _encoded(body: Any) -> bytes:
    try:
        return dumps(body)
    except (TypeError, ValueError) as error:
        raise InvalidOption(f"the request is no JSON: {error}", hint="send numbers, texts, lists and dicts") from error


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None  # a foreign answer: the caller turns it into a TransportError that names the status
