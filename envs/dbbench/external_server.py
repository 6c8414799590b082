"""Where a database server is, what both kinds of server offer, and a running one by URL."""

from __future__ import annotations

import importlib.util
import socket as socketlib
import ssl
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from envs.errors import BackendUnavailable, ConfigError

__all__ = ["DatabaseServer", "ExternalServer", "ServerAddress"]


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is and its administrator's name. ``tls`` None: connect in the clear (sockets, loopback)."""

    user: str
    password: str = field(repr=False)
    unix_socket: str | None = None
    host: str = "localhost"
    port: int = 3306
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def local(self) -> bool:
        """Whether no network lies between (a unix socket)."""
        return self.unix_socket is not None

    def connect_arguments(self) -> dict[str, Any]:
        """Keywords for ``pymysql.connect``, without user and password.

        A context is built once and shared: PyMySQL's own costs 35 ms of CPU for each connection.
        """
        arguments: dict[str, Any] = {"host": self.host, "port": self.port, "charset": "utf8mb4", "local_infile": False}
        if self.unix_socket is not None:
            arguments["unix_socket"] = self.unix_socket
        if self.tls is None:
            arguments["ssl_disabled"] = True
        else:
            arguments["ssl"] = self.tls
        return arguments


class DatabaseServer(Protocol):
    """A server to hold the episodes' databases. Thread-safe."""

    @property
    def shared(self) -> bool:
        """Whether others may use it too, so that what is left behind must be told apart."""
        ...

    @property
    def running(self) -> bool:
        """Whether it runs, as far as can be told without a connection."""
        ...

    def start(self) -> ServerAddress:
        """Start it where it does not run yet, and say where it is. Raises BackendUnavailable, ConfigError."""
        ...

    def memory(self) -> int:
        """Bytes of memory that it takes now; 0 where that is not known. Cheap."""
        ...

    def stored(self, database: str) -> int:
        """Bytes of a database's files; 0 where that is not known. Cheap."""
        ...

    def abandon(self) -> bool:
        """End it at once, with all that runs on it, so that another takes its place; False where it is not ours."""
        ...

    def problem(self) -> str:
        """Why it cannot be used now, or an empty text. Cheap: no connection is made."""
        ...

    def close(self) -> None:
        """End it, where it is ours. Idempotent."""
        ...


class ExternalServer:
    """A running server by URL: ``mysql+pymysql://user:password@host:port``.

    ``?unix_socket=PATH`` goes through a socket, ``?ssl=off|on|verify`` chooses TLS: ``on`` (default away from loopback)
    encrypts, ``verify`` checks the certificate too. The user needs CREATE, DROP, CREATE USER, GRANT OPTION and the
    right to KILL (SUPER or CONNECTION_ADMIN).
    """

    shared = True
    running = True  # nothing else is known without a connection

    def __init__(self, url: str) -> None:
        self._address, self._choose_tls = _parse_url(url)

    def start(self) -> ServerAddress:
        """Where it is. Raises ConfigError where MySQL's login would need TLS or the package cryptography."""
        address = self._address
        # In the clear, MySQL's login encrypts the password by RSA, which PyMySQL leaves to cryptography.
        bare = address.tls is None and not address.local and importlib.util.find_spec("cryptography") is None
        if bare and "mariadb" not in _greeting(address).lower():
            if not self._choose_tls:
                raise ConfigError("a login to MySQL without TLS needs the package cryptography", hint="use ssl=on")
            self._address = replace(address, tls=_tls_context(verify=False))
        return self._address

    def memory(self) -> int:
        """Not known from here."""
        return 0

    def stored(self, database: str) -> int:
        """Not known from here."""
        return 0

    def abandon(self) -> bool:
        """It is not ours to end."""
        return False

    def problem(self) -> str:
        """Nothing is known without a connection."""
        return ""

    def close(self) -> None:
        """It is not ours to end."""


def _greeting(address: ServerAddress) -> str:
    """The version in the server's first packet, before any login; empty where there is none."""
    try:
        with socketlib.create_connection((address.host, address.port), timeout=10) as connection:
            connection.settimeout(10)
            packet = connection.recv(256)
    except OSError as error:
        raise BackendUnavailable(f"no database server answers at {address.host}:{address.port}: {error}") from error
    return packet[5:].split(b"\0", 1)[0].decode("ascii", "replace")


def _parse_url(url: str) -> tuple[ServerAddress, bool]:
    """The address, and whether TLS was left to us."""
    parts = urlsplit(url)
    hint = "DBBENCH_URL=mysql+pymysql://user:password@host:3306"
    if parts.scheme not in ("mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"):
        raise ConfigError(f"the database URL has the scheme {parts.scheme!r}, which is not MySQL's", hint=hint)
    if not parts.username:
        raise ConfigError("the database URL names no user", hint=hint)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    socket = query.pop("unix_socket", None)
    host = parts.hostname or "localhost"
    loopback = socket is not None or host in ("localhost", "127.0.0.1", "::1")
    free = "ssl" not in query
    mode = query.pop("ssl", "off" if loopback else "on")
    query.pop("charset", None)  # always utf8mb4
    if mode not in ("off", "on", "verify") or query:
        wrong = f"ssl={mode}" if mode not in ("off", "on", "verify") else ", ".join(sorted(query))
        raise ConfigError(
            f"the database URL has an unknown setting: {wrong}", hint="known: unix_socket, ssl=off|on|verify"
        )
    try:
        port = parts.port or 3306
    except ValueError as error:
        raise ConfigError(f"the database URL's port is no number: {error}", hint=hint) from None
    address = ServerAddress(
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        unix_socket=socket,
        host=host,
        port=port,
        tls=None if mode == "off" else _tls_context(verify=mode == "verify"),
    )
    return address, free


def _tls_context(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:  # servers make their own certificates
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
