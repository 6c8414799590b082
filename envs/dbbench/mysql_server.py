"""A private database server that this process starts and ends: MySQL 8.4 and 9.x, MariaDB 10.11 and newer."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import platformdirs
import pymysql

from envs.dbbench import watchdog
from envs.dbbench.connection import TidyConnection
from envs.dbbench.external_server import ServerAddress
from envs.dbbench.server_options import INSTALL_HINT, ServerPlan, plan_server
from envs.errors import BackendUnavailable, ConfigError

__all__ = ["PrivateServer", "find_server_binary"]

_log = logging.getLogger(__name__)

_NAMES = ("mariadbd", "mysqld")
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/mysql/bin", "/opt/homebrew/bin")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a tmpfs makes creating databases ten times faster
_ROOM_BYTES = 512 * 2**20
_BLOCK_BYTES = 512
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SOCKET_PATH_LIMIT = 100  # bytes; the system's own limit is 104 to 108


def find_server_binary(setting: str | None = None) -> Path:
    """The server's program: the one that is set, else the first found on PATH and in the usual folders.

    Raises: ConfigError where the setting names no program; BackendUnavailable where none is installed.
    """
    if setting:
        found = shutil.which(setting)
        if found is None:
            raise ConfigError(f"the database server {setting!r} is no program that can be run", hint=INSTALL_HINT)
        return Path(found)
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_FOLDERS))
    for name in _NAMES:
        found = shutil.which(name, path=path)
        if found is not None:
            return Path(found)
    raise BackendUnavailable("no MySQL-compatible server is installed", hint=INSTALL_HINT)


class PrivateServer:
    """A server of this process: data in a temporary folder (memory where there is room), reached by a unix socket only.

    It ends with ``close`` and with this process, even by SIGKILL (``envs/dbbench/watchdog.py``). One that has died is
    replaced by ``start``: its data are gone. ``max_data_bytes`` bounds what all databases together may hold. A data
    folder is filled once for each kind of server and kept in ``templates``, so that later starts copy it.
    """

    shared = False

    def __init__(
        self,
        binary: str | None = None,
        *,
        folder: str | None = None,
        max_connections: int = 300,
        max_data_bytes: int = 2 * 2**30,
        templates: Path | None = None,
        start_timeout_s: float = 60,
    ) -> None:
        self._binary = binary
        self._parent_folder = folder
        self._max_connections = max_connections
        self._max_data_bytes = max_data_bytes
        self._templates = templates
        self._template: Path | None = None
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
        """Start it, or another in place of one that has died: 0.2 to 5 seconds."""
        with self._lock:
            if self._closed:
                raise BackendUnavailable("the private database server has been closed")
            if self._address is not None and (self._process is None or self._process.poll() is not None):
                self._address = None
                self._end()
                _log.warning("dbbench: the private database server has died; another is started")
            if self._address is None:
                self._address = self._start()
            return self._address

    @property
    def running(self) -> bool:
        """Whether there is one now."""
        process = self._process
        return self._address is not None and process is not None and process.poll() is None

    def abandon(self) -> bool:
        """End it at once; ``start`` puts another in its place."""
        with self._lock:
            self._address = None
            self._end()
        return True

    def memory(self) -> int:
        """Bytes that the server's process has in memory, its data not counted (Linux; else 0)."""
        process = self._process
        if process is None:
            return 0
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
            pages = Path(f"/proc/{children[0]}/statm").read_text(encoding="ascii").split()
        except (OSError, IndexError):  # another system, or it has just ended
            return 0
        return (int(pages[1]) - int(pages[2])) * _PAGE_BYTES

    def stored(self, database: str) -> int:
        """Bytes of a database's files, seen through the watchdog, where the store is mounted (Linux; else 0)."""
        process, folder = self._process, self._folder
        if process is None or folder is None:
            return 0
        place = Path(f"/proc/{process.pid}/root{folder}/store/data/{database}")
        try:
            with os.scandir(place) as files:
                return sum(file.stat().st_blocks * _BLOCK_BYTES for file in files)
        except OSError:  # another system, or a file has just gone
            return 0

    def problem(self) -> str:
        """Why it cannot be used: not installed or closed. Not started yet, or to be started again, is no problem."""
        if self._closed:
            return "the private database server has been closed"
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
        try:
            return self._start_once(binary)
        except BackendUnavailable as error:
            # A template may have been harmed since it was kept: the next one is made anew.
            if self._template is None or not self._template.exists():
                raise
            _log.warning("dbbench: the kept data folder is of no use and made anew: %s", error.message)
            shutil.rmtree(self._template, ignore_errors=True)
            return self._start_once(binary)

    def _start_once(self, binary: Path) -> ServerAddress:
        folder = Path(tempfile.mkdtemp(prefix="envloop-mysql-", dir=self._parent_folder or _data_parent()))
        self._folder = folder
        try:
            socket = folder / "s.sock"
            if len(os.fsencode(socket)) > _SOCKET_PATH_LIMIT:
                raise ConfigError(f"the folder {folder} is too deep for a unix socket", hint="set a shorter TMPDIR")
            self._spawn(folder, plan_server(binary, folder, socket, max_connections=self._max_connections))
            address = self._first_login(socket)
            self._tell(folder)
            return address
        except BaseException:
            self._end()
            raise

    def _spawn(self, folder: Path, plan: ServerPlan) -> None:
        reading, writing = os.pipe()
        self._pipe = writing
        self._template = (self._templates or _template_folder()) / plan.template_key
        said = json.dumps(
            {
                "folder": str(folder),
                "store": str(plan.store),
                "data": str(plan.data),
                "size": self._max_data_bytes,
                "template": str(self._template),
                "steps": plan.steps,
                "serve": plan.serve,
            }
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", watchdog.__file__, str(reading), said],
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
                raise BackendUnavailable(f"the private database server did not start: {text}", hint=INSTALL_HINT)
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

    def _tell(self, folder: Path) -> None:
        storage = json.loads((folder / "storage").read_text(encoding="utf-8"))
        if storage["uncapped"] and self._max_data_bytes:
            _log.warning(
                "dbbench: the size of the private server's data is bounded by each episode's quota alone (%s)",
                storage["uncapped"],
            )

    def _end(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._process is not None:
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
            self._process = None
        if self._folder is not None:
            # The watchdog has removed it, unless it was itself killed.
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _template_folder() -> Path:
    """Where filled data folders are kept: the cache folder that ``ENVLOOP_CACHE_DIR`` names, else the user's."""
    named = os.environ.get("ENVLOOP_CACHE_DIR")
    return (Path(named) if named else platformdirs.user_cache_path("envloop")) / "dbbench" / "servers"


def _data_parent() -> str:
    """A folder in memory where that has room, else the system's temporary folder."""
    with contextlib.suppress(OSError):
        if os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free >= _ROOM_BYTES:
            return str(_SHARED_MEMORY)
    return tempfile.gettempdir()
