"""A private database server that this process starts and ends: MySQL 8.4 and 9.x, MariaDB 10.11 and newer."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pymysql

from envs.dbbench import watchdog
from envs.dbbench.connection import TidyConnection
from envs.dbbench.external_server import ServerAddress
from envs.errors import BackendUnavailable, ConfigError

__all__ = ["PrivateServer", "find_server_binary"]

_NAMES = ("mariadbd", "mysqld")
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/mysql/bin", "/opt/homebrew/bin")
_INSTALL_HINT = (
    "apt-get install mariadb-server-core mariadb-client-core; or name a mysqld or mariadbd with DBBENCH_SERVER_BINARY; "
    "or use a running server with DBBENCH_URL=mysql+pymysql://user:password@host:3306"
)
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a tmpfs makes creating databases ten times faster
_ROOM_BYTES = 512 * 2**20
_SOCKET_PATH_LIMIT = 100  # bytes; the system's own limit is 104 to 108


def find_server_binary(setting: str | None = None) -> Path:
    """The server's program: the one that is set, else the first found on PATH and in the usual folders.

    Raises: ConfigError where the setting names no program; BackendUnavailable where none is installed.
    """
    if setting:
        found = shutil.which(setting)
        if found is None:
            raise ConfigError(f"the database server {setting!r} is no program that can be run", hint=_INSTALL_HINT)
        return Path(found)
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_FOLDERS))
    for name in _NAMES:
        found = shutil.which(name, path=path)
        if found is not None:
            return Path(found)
    raise BackendUnavailable("no MySQL-compatible server is installed", hint=_INSTALL_HINT)


class PrivateServer:
    """A server of this process: data in a temporary folder (memory where there is room), reached by a unix socket only.

    It ends with ``close`` and with this process, even by SIGKILL (``envs/dbbench/watchdog.py``).
    """

    shared = False

    def __init__(
        self,
        binary: str | None = None,
        *,
        folder: str | None = None,
        max_connections: int = 300,
        start_timeout_s: float = 60,
    ) -> None:
        self._binary = binary
        self._parent_folder = folder
        self._max_connections = max_connections
        self._start_timeout_s = start_timeout_s
        self._lock = threading.Lock()
        self._address: ServerAddress | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None
        self._folder: Path | None = None
        self._closed = False

    @property
    def folder(self) -> Path | None:
        """Where its data is while it runs."""
        return self._folder

    def start(self) -> ServerAddress:
        """Start it once; 1 to 5 seconds. A server that has died is not started again: its data is gone."""
        with self._lock:
            if self._closed:
                raise BackendUnavailable("the private database server has been closed")
            if self._address is None:
                self._address = self._start()
            elif self._process is None or self._process.poll() is not None:
                raise BackendUnavailable("the private database server has died", hint="restart the service")
            return self._address

    def problem(self) -> str:
        """Why it cannot be used: not installed, closed or dead. Not started yet is no problem."""
        if self._closed:
            return "the private database server has been closed"
        if self._process is not None:
            return "" if self._process.poll() is None else "the private database server has died"
        try:
            find_server_binary(self._binary)
        except (ConfigError, BackendUnavailable) as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Kill it, wait for it and remove its folder."""
        with self._lock:
            self._closed = True
            self._end()

    def _start(self) -> ServerAddress:
        binary = find_server_binary(self._binary)
        folder = Path(tempfile.mkdtemp(prefix="envloop-mysql-", dir=self._parent_folder or _data_parent()))
        self._folder = folder
        try:
            socket = folder / "s.sock"
            if len(os.fsencode(socket)) > _SOCKET_PATH_LIMIT:
                raise ConfigError(f"the folder {folder} is too deep for a unix socket", hint="set a shorter TMPDIR")
            steps, serve = _commands(binary, folder, socket, self._max_connections)
            self._spawn(folder, steps, serve)
            return self._first_login(socket)
        except BaseException:
            self._end()
            raise

    def _spawn(self, folder: Path, steps: list[list[str]], serve: list[str]) -> None:
        reading, writing = os.pipe()
        self._pipe = writing
        plan = json.dumps({"folder": str(folder), "steps": steps, "serve": serve})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", watchdog.__file__, str(reading), plan],
                pass_fds=(reading,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        finally:
            os.close(reading)

    def _first_login(self, socket: Path) -> ServerAddress:
        """Wait until the server answers, then give its administrator a password."""
        assert self._process is not None
        password = secrets.token_urlsafe(24)
        until = time.monotonic() + self._start_timeout_s
        while True:
            if self._process.poll() is not None:
                _, said = self._process.communicate()
                text = said.decode(errors="replace").strip()
                raise BackendUnavailable(f"the private database server did not start: {text}", hint=_INSTALL_HINT)
            if socket.exists():
                try:
                    connection = TidyConnection(
                        user="root", unix_socket=str(socket), ssl_disabled=True, connect_timeout=5
                    )
                except pymysql.err.OperationalError:
                    pass  # not listening yet: asked again until the time is up
                else:
                    with contextlib.closing(connection), connection.cursor() as cursor:
                        cursor.execute("ALTER USER root@localhost IDENTIFIED BY %s", (password,))
                    return ServerAddress(user="root", password=password, unix_socket=str(socket))
            if time.monotonic() > until:
                raise BackendUnavailable(
                    f"the private database server did not answer within {self._start_timeout_s:g} s",
                    hint="see whether the machine is overloaded or its disk is full",
                )
            time.sleep(0.02)

    def _end(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._process is not None:
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
        if self._folder is not None:
            # The watchdog has removed it, unless it was itself killed.
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _data_parent() -> str:
    """A folder in memory where that has room, else the system's temporary folder."""
    with contextlib.suppress(OSError):
        if os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free >= _ROOM_BYTES:
            return str(_SHARED_MEMORY)
    return tempfile.gettempdir()


def _commands(binary: Path, folder: Path, socket: Path, max_connections: int) -> tuple[list[list[str]], list[str]]:
    """How to fill the data folder and how to serve it, fast and without a network."""
    said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=30, check=False)
    if said.returncode != 0:
        raise ConfigError(f"{binary} cannot be run: {(said.stderr or said.stdout).strip()[:300]}", hint=_INSTALL_HINT)
    data = folder / "data"
    scratch = folder / "tmp"
    scratch.mkdir()
    # Option files of the machine must not reach in. A script around the server has decided about them itself.
    with binary.open("rb") as file:
        defaults = [] if file.read(2) == b"#!" else ["--no-defaults"]
    user = ["--user=root"] if os.geteuid() == 0 else []
    common = [
        *defaults, *user, f"--datadir={data}", f"--socket={socket}", f"--pid-file={folder / 'pid'}",
        f"--tmpdir={scratch}",
        "--skip-networking", "--skip-name-resolve", "--skip-log-bin", "--local-infile=OFF", "--performance-schema=OFF",
        "--character-set-server=utf8mb4", f"--max-connections={max_connections}", "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=64M", "--max-allowed-packet=16M", *_session_caps(),
    ]  # fmt: skip
    if "mariadb" in said.stdout.lower():
        return _mariadb_commands(binary, data, scratch, user, common)
    fast = [
        "--innodb-doublewrite=OFF",
        "--innodb-redo-log-capacity=32M",
        "--mysqlx=OFF",
        "--innodb-numa-interleave=OFF",
    ]
    initialise = [str(binary), *defaults, *user, "--initialize-insecure", f"--datadir={data}", *fast[:2]]
    return [initialise], [str(binary), *common, *fast, "--secure-file-priv=NULL"]


def _mariadb_commands(
    binary: Path, data: Path, scratch: Path, user: list[str], common: list[str]
) -> tuple[list[list[str]], list[str]]:
    near = os.pathsep.join(
        (str(binary.parent), str(binary.parent.parent / "bin"), str(binary.parent.parent / "scripts"))
    )
    path = os.pathsep.join((near, os.environ.get("PATH", os.defpath), "/usr/bin", "/usr/local/bin"))
    installer = shutil.which("mariadb-install-db", path=path) or shutil.which("mysql_install_db", path=path)
    if installer is None or shutil.which("my_print_defaults", path=path) is None:
        missing = "mariadb-install-db" if installer is None else "my_print_defaults"
        raise BackendUnavailable(f"{binary} is there, but not its {missing}", hint=_INSTALL_HINT)
    install = [
        installer, "--no-defaults", *user, f"--datadir={data}", "--auth-root-authentication-method=normal",
        "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=8M",
    ]  # fmt: skip
    fast = ["--innodb-doublewrite=0", "--innodb-flush-method=nosync", "--innodb-log-file-size=8M"]
    return [install], [str(binary), *common, *fast, f"--secure-file-priv={scratch}"]


def _session_caps() -> Iterable[str]:
    """No session may raise its own buffers above these: a statement could fill the machine's memory otherwise."""
    for name, size in (
        ("sort-buffer-size", "16M"),
        ("join-buffer-size", "16M"),
        ("read-buffer-size", "8M"),
        ("read-rnd-buffer-size", "8M"),
        ("tmp-table-size", "64M"),
        ("max-heap-table-size", "64M"),
        ("bulk-insert-buffer-size", "16M"),
    ):
        yield f"--maximum-{name}={size}"
