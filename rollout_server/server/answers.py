"""What the routes of several files answer alike."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from envs.server.schemas import ErrorAnswer
from rollout_server.serialize import dumps

__all__ = ["errors", "json_answer"]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer with, and what every route may, for the OpenAPI document."""
    return {status: {"model": ErrorAnswer} for status in sorted({400, 401, 413, 422, *statuses})}


def json_answer(document: Any, status: int = 200) -> Response:
    """A document as JSON."""
    return Response(dumps(document).encode(), status, media_type="application/json")
