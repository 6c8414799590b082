"""The log of a server: lines for people, or one JSON object a line for machines; each with its request's id."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

__all__ = ["LogFormat", "configure_logs", "log_request", "request_id"]

type LogFormat = Literal["text", "json"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being served; "" outside of one."""

_requests = logging.getLogger("envloop.requests")


def configure_logs(level: str, form: LogFormat) -> None:
    """Send everything that is logged in this process to standard error. ``level`` as in ``--log-level``."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level != "debug":  # it tells of every request with its whole address
        logging.getLogger("httpx").setLevel(logging.WARNING)


def log_request(method: str, path: str, status: int, seconds: float) -> None:
    """One served request, at level info. The path without its query, and no header, is written."""
    if _requests.isEnabledFor(logging.INFO):
        ms = round(1000 * seconds, 2)
        fields = {"method": method, "path": path, "status": status, "duration_ms": ms}
        _requests.info("%s %s %d %.2f ms", method, path, status, ms, extra={"fields": fields})


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        now = request_id.get()
        return f"{record.levelname} {record.name}: {text}" + (f" [{now}]" if now else "")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if now := request_id.get():
            line["request_id"] = now
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line |= fields
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
