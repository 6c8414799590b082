"""What every route needs: strict JSON in, bytes out, errors documented."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError

from envs.errors import EnvloopError
from envs.server.guard import internal_error, validation_error
from envs.server.schemas import ErrorAnswer

__all__ = ["StrictRoute", "documented_errors", "json_response", "malformed", "shown", "strict_json"]


class _StrictRequest(Request):
    """Refuses NaN and Infinity, which are no JSON and could not be sent back."""

    async def json(self) -> Any:
        return strict_json(await self.body())


class StrictRoute(APIRoute):
    """A route whose bodies are strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The usual one, with another request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


def strict_json(text: bytes | str) -> Any:
    """The value; raises JSONDecodeError for what is no JSON, NaN and infinities among it, and for what is too deep."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # no UTF-8 or a number of thousands of digits, too
        raise json.JSONDecodeError(str(error), "", 0) from error


def json_response(body: bytes, status: int = 200) -> Response:
    """An answer that is encoded already."""
    return Response(body, status, media_type="application/json")


def documented_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with these, and with what every route may."""
    return {status: {"model": ErrorAnswer} for status in sorted({400, 401, 403, 413, 422, 429, 503, *statuses})}


def shown(error: Exception, what: str) -> dict[str, Any]:
    """What the caller gets to see of it; an unforeseen one is logged with an id."""
    return error.to_json() if isinstance(error, EnvloopError) else dict(internal_error(error, what))


def malformed(error: ValidationError) -> EnvloopError:
    """Pydantic's findings about one item, as an error of ours."""
    return validation_error(error.errors(include_url=False, include_input=False))


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)
