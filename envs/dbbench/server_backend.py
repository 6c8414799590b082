"""Episodes on real database servers, by the ``Backend`` protocol."""

from __future__ import annotations

import threading

from envs.dbbench.backend import EpisodeSession, Limits
from envs.dbbench.external_server import DatabaseServer, ExternalServer
from envs.dbbench.isolation import EpisodeDatabases
from envs.dbbench.mysql_server import PrivateServer
from envs.dbbench.session import Session
from envs.errors import BackendUnavailable

__all__ = ["ServerBackend"]

# Connections of the server beyond one an episode: the administrator's, and sessions that are still closing.
_RESERVE = 40


class ServerBackend:
    """Databases on the server that ``url`` names or, without one, on a private server that is started when needed."""

    def __init__(self, *, url: str | None, binary: str | None, max_live: int, admin_connections: int) -> None:
        self._server: DatabaseServer = (
            ExternalServer(url) if url else PrivateServer(binary, max_connections=2 * max_live + _RESERVE)
        )
        self._max_live = max_live
        self._admin_connections = admin_connections
        self._lock = threading.Lock()
        self._databases: EpisodeDatabases | None = None
        self._kind = ""
        self._closed = False

    def start(self) -> None:
        """Start the server where it is ours, and see that it answers. Raises BackendUnavailable, ConfigError."""
        self._open()

    def version(self) -> str:
        """What the server calls itself, as in ``10.11.6-MariaDB``. Starts it where needed."""
        return self._open().version

    def begin(self, limits: Limits, *, seed: int = 0) -> EpisodeSession:
        """A session on a new, empty database. Raises CapacityExceeded, BackendUnavailable."""
        databases = self._open()
        kind = "mariadb" if "mariadb" in databases.version.lower() else "mysql"
        return Session(databases.create(), limits, seed=seed, backend=kind, drop=databases.drop)

    @property
    def live(self) -> int:
        """How many databases there are now."""
        return 0 if self._databases is None else self._databases.live

    def problem(self) -> str:
        """Why no episode can begin now, or an empty text."""
        return self._server.problem()

    def close(self) -> None:
        """Drop what is live on an external server, or end the private one. Idempotent."""
        with self._lock:
            self._closed = True
            databases, self._databases = self._databases, None
            if databases is not None:
                databases.close()
            self._server.close()

    def _open(self) -> EpisodeDatabases:
        with self._lock:
            if self._closed:
                raise BackendUnavailable("the environment has been closed")
            if self._databases is None:
                databases = EpisodeDatabases(
                    self._server.start(),
                    shared=self._server.shared,
                    max_live=self._max_live,
                    admin_connections=self._admin_connections,
                )
                try:
                    databases.open()
                except BaseException:
                    databases.close()
                    raise
                self._databases = databases
            return self._databases
