"""Which database the settings name."""

from __future__ import annotations

import re
from pathlib import Path

from envs.dbbench.backend import Backend
from envs.dbbench.server_backend import ServerBackend

__all__ = ["open_backend"]

# A comma or blanks between two URLs; a password may hold either, percent-encoded.
_URL_BORDER = re.compile(r"[\s,]+(?=\w+(?:\+\w+)?:)")


def open_backend(
    url: str | None,
    binary: str | Path | None = None,
    *,
    max_live: int = 256,
    admin_connections: int = 8,
    spare: int = 0,
    max_data_bytes: int = 2 * 2**30,
) -> Backend:
    """The servers that ``url`` names, parted by blanks or commas; SQLite for ``sqlite:``; else a private server.

    Nothing is started yet. Raises ConfigError for a wrong URL.
    """
    urls = [one for one in _URL_BORDER.split((url or "").strip(", \n")) if one]
    if urls == ["sqlite:"]:
        from envs.dbbench.sqlite_backend import SqliteBackend

        return SqliteBackend(max_live=max_live)
    return ServerBackend(
        urls=urls,
        binary=str(binary) if binary else None,
        max_live=max_live,
        admin_connections=admin_connections,
        spare=spare,
        max_data_bytes=max_data_bytes,
    )
