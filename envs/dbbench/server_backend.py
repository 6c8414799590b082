"""Episodes on real database servers, by the ``Backend`` protocol: a private one, or one or several by URL."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from envs.dbbench.backend import EpisodeSession, Limits
from envs.dbbench.external_server import DatabaseServer, ExternalServer
from envs.dbbench.isolation import EpisodeDatabases
from envs.dbbench.mysql_server import PrivateServer
from envs.dbbench.recovery import RecoveringSession
from envs.dbbench.session import Session
from envs.errors import BackendUnavailable, CapacityExceeded, EnvloopError

__all__ = ["ServerBackend"]

_log = logging.getLogger(__name__)
# Connections of a server beyond one an episode: the administrator's, and sessions that are still closing.
_RESERVE = 40
_PROBE_S = 2.0


class _Host:
    """One server: whether it is in use, and what lives on it. Its lock orders opening; reading needs none."""

    def __init__(self, server: DatabaseServer) -> None:
        self.server = server
        self.lock = threading.Lock()
        self.databases: EpisodeDatabases | None = None
        self.failure: EnvloopError | None = None  # why it has been taken out
        self.since = 0.0

    @property
    def live(self) -> int:
        return 0 if self.databases is None else self.databases.live

    def take_out(self, error: EnvloopError) -> None:
        """Use it no more until a probe succeeds."""
        if self.failure is None:
            _log.warning("dbbench: a database server is taken out: %s", error.message)
        self.failure, self.since = error, time.monotonic()


class ServerBackend:
    """Databases on the servers that ``urls`` name or, without any, on a private one that is started when needed.

    Episodes go to the server with the fewest; one that fails is taken out and probed every two seconds until it
    answers again; a private one that has died is replaced. ``max_live`` bounds the episodes of one server, ``spare``
    databases of each are made ahead.
    """

    def __init__(
        self,
        *,
        urls: Sequence[str] = (),
        binary: str | None = None,
        max_live: int = 256,
        admin_connections: int = 8,
        spare: int = 0,
        max_data_bytes: int = 2 * 2**30,
    ) -> None:
        servers: list[DatabaseServer] = [ExternalServer(url) for url in urls]
        private = PrivateServer(binary, max_connections=2 * max_live + _RESERVE, max_data_bytes=max_data_bytes)
        self._hosts = [_Host(server) for server in servers or [private]]
        self._max_live = max_live
        self._admin_connections = admin_connections
        self._spare = spare
        self._stop = threading.Event()
        self._prober: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Open every server. Raises ConfigError; BackendUnavailable where none answers."""
        self._refuse_when_closed()
        if all(host.databases is None and host.failure is None for host in self._hosts):
            for host in self._hosts:
                self._try(host)
        with self._lock:
            if self._prober is None and not self._stop.is_set():
                self._prober = threading.Thread(target=self._probe, name="dbbench-prober", daemon=True)
                self._prober.start()
        self._usable()

    def version(self) -> str:
        """What the servers call themselves, as in ``10.11.6-MariaDB``. Starts them where needed."""
        self.start()
        return ", ".join(sorted({host.databases.version for host in self._hosts if host.databases is not None}))

    def begin(self, limits: Limits, *, seed: int = 0) -> EpisodeSession:
        """A session on a new, empty database. Raises CapacityExceeded, BackendUnavailable."""
        self.start()
        return RecoveringSession(lambda: self._begin(limits, seed))

    def _begin(self, limits: Limits, seed: int) -> Session:
        full: CapacityExceeded | None = None
        for host in sorted(self._usable(), key=lambda host: host.live):
            try:
                databases = self._open(host)
                database = databases.create()
            except CapacityExceeded as error:
                full = error
            except BackendUnavailable as error:
                host.take_out(error)
            else:
                return Session(database, limits, seed=seed, backend=databases.kind, drop=databases.drop)
        raise full or self._failure()

    @property
    def live(self) -> int:
        """How many databases episodes hold now."""
        return sum(host.live for host in self._hosts)

    def figures(self) -> Mapping[str, float]:
        """See ``Backend.figures``."""
        opened = [host.databases for host in self._hosts if host.databases is not None]
        return {
            "databases_live": self.live,
            "databases_spare": sum(databases.spare for databases in opened),
            "servers": len(self._hosts),
            "servers_up": sum(host.databases is not None and host.failure is None for host in self._hosts),
        }

    def problem(self) -> str:
        """Why no episode can begin now, or an empty text."""
        problems = [host.server.problem() or (host.failure.message if host.failure else "") for host in self._hosts]
        return "" if not all(problems) else problems[0]

    def close(self) -> None:
        """Drop what is live on external servers, or end the private one. Idempotent."""
        self._stop.set()
        with self._lock:
            prober, self._prober = self._prober, None
        if prober is not None:
            prober.join()
        for host in self._hosts:
            with host.lock:
                databases, host.databases = host.databases, None
                if databases is not None:
                    databases.close()
                host.server.close()

    def _refuse_when_closed(self) -> None:
        if self._stop.is_set():
            raise BackendUnavailable("the environment has been closed")

    def _usable(self) -> list[_Host]:
        """The servers in use; where there is none, those that come back when asked now."""
        self._refuse_when_closed()
        usable = [host for host in self._hosts if host.failure is None]
        if not usable:
            usable = [host for host in self._hosts if self._try(host)]
        if not usable:
            raise self._failure()
        return usable

    def _failure(self) -> EnvloopError:
        failures = [host.failure for host in self._hosts if host.failure is not None]
        if not failures:
            return BackendUnavailable("no database server is in use", hint="try again in a moment")
        return type(failures[0])(failures[0].message, hint=failures[0].hint)

    def _try(self, host: _Host) -> bool:
        """Open a server, and put it back where it had been taken out. Raises ConfigError."""
        try:
            databases = self._open(host)
            databases.ping()
        except BackendUnavailable as error:
            host.take_out(error)
            return False
        if host.failure is not None:
            _log.warning("dbbench: a database server is back after %.1f s", time.monotonic() - host.since)
            host.failure = None
        return True

    def _open(self, host: _Host) -> EpisodeDatabases:
        """The server's databases; a private server that has died is replaced, and nothing of it is left."""
        databases = host.databases
        if databases is not None and host.server.running:
            return databases
        with host.lock:
            self._refuse_when_closed()
            if host.databases is not None and not host.server.running:
                host.databases.close()
                host.databases = None
            if host.databases is None:
                made = EpisodeDatabases(
                    host.server.start(),
                    shared=host.server.shared,
                    max_live=self._max_live,
                    admin_connections=self._admin_connections,
                    spare=self._spare,
                    memory=host.server.memory,
                    stored=host.server.stored,
                )
                try:
                    made.open()
                except BaseException:
                    made.close()
                    raise
                host.databases = made
            return host.databases

    def _probe(self) -> None:
        """Ask every server now and then: one that is away is taken out before an episode finds out."""
        while not self._stop.wait(_PROBE_S):
            for host in self._hosts:
                try:
                    if self._try(host):
                        self._unwedge(host)
                except EnvloopError as error:
                    host.take_out(error)

    def _unwedge(self, host: _Host) -> None:
        """Replace a private server on which a session cannot be ended; its episodes are played again."""
        databases = host.databases
        if databases is None or not databases.wedged():
            return
        if host.server.abandon():
            _log.warning("dbbench: a session cannot be ended: the private server is replaced")
        elif not databases.reported:
            databases.reported = True
            _log.error("dbbench: a session on a database server cannot be ended; its database is dropped when it ends")
