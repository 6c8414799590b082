"""Which databases on a shared server are whose: a registry with leases, so that a janitor knows what a crash has left.

Each database is written down before it is made, with the service that owns it; each service keeps its lease alive by a
heartbeat. A database is ours by prefix, pattern and record, and is touched only when its owner's lease has run out.
"""

# ruff: noqa: S608 - names are our own

from __future__ import annotations

import secrets
from collections.abc import Sequence

from envs.dbbench.admin import Admin

__all__ = ["REGISTRY", "Leases"]

REGISTRY = "envloop_registry"
_LEASE_S = 120
_TABLES = (
    f"CREATE DATABASE IF NOT EXISTS {REGISTRY}",
    f"CREATE TABLE IF NOT EXISTS {REGISTRY}.services (id VARCHAR(64) PRIMARY KEY, heartbeat TIMESTAMP(3) NOT NULL)",
    f"CREATE TABLE IF NOT EXISTS {REGISTRY}.episodes (name VARCHAR(64) PRIMARY KEY, service VARCHAR(64) NOT NULL)",
)
_HEARTBEAT = (
    f"INSERT INTO {REGISTRY}.services (id, heartbeat) VALUES (%s, CURRENT_TIMESTAMP(3)) "
    "ON DUPLICATE KEY UPDATE heartbeat = CURRENT_TIMESTAMP(3)"
)
_FORGET_STALE = f"DELETE FROM {REGISTRY}.services WHERE heartbeat < CURRENT_TIMESTAMP(3) - INTERVAL %s SECOND"
_ORPHANS = (
    f"SELECT name FROM {REGISTRY}.episodes e LEFT JOIN {REGISTRY}.services s ON s.id = e.service "
    "WHERE s.id IS NULL ORDER BY name"
)


class Leases:
    """The registry as one service sees it."""

    def __init__(self, admin: Admin) -> None:
        self.service = f"service_{secrets.token_hex(8)}"
        self._admin = admin

    def beat(self) -> None:
        """Keep the lease alive, and the tables: a server whose data lie in memory comes back without them.

        Raises BackendUnavailable.
        """
        self._admin.run(*((text, ()) for text in _TABLES), (_HEARTBEAT, (self.service,)))

    def record(self, name: str) -> tuple[str, Sequence[object]]:
        """The statement that writes a database down."""
        return f"INSERT INTO {REGISTRY}.episodes (name, service) VALUES (%s, %s)", (name, self.service)

    def forget(self, name: str) -> tuple[str, Sequence[object]]:
        """The statement that strikes a database out."""
        return f"DELETE FROM {REGISTRY}.episodes WHERE name = %s", (name,)

    def orphans(self) -> list[str]:
        """Names of databases whose service has not been heard of for two minutes. Raises BackendUnavailable."""
        return [str(name) for (name,) in self._admin.run((_FORGET_STALE, (_LEASE_S,)), (_ORPHANS, ()))]

    def leave(self) -> None:
        """Give the lease back. Raises BackendUnavailable."""
        self._admin.run((f"DELETE FROM {REGISTRY}.services WHERE id = %s", (self.service,)))
