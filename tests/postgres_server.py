"""A PostgreSQL server of the tests' own: a cluster in a temporary folder, reached over a socket file there."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import URL

__all__ = ["PostgresServer", "find_postgres", "postgres_server"]

USER, PASSWORD = "envloop", "tok-postgres-password"


def find_postgres() -> Path | None:
    """The folder of the server's programs: Debian's, the newest version's, or the one on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class PostgresServer:
    """A running server. Each ``database`` is new and empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self._folder), user=USER, password=PASSWORD, dbname="postgres", autocommit=True, connect_timeout=5
        )

    def database(self, driver: str = "postgresql") -> str:
        """The URL of a new database, for SQLAlchemy."""
        self._count += 1
        name = f"test_{self._count}"
        with contextlib.closing(self._connect()) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        url = URL.create(driver, USER, PASSWORD, database=name, query={"host": str(self._folder)})
        return url.render_as_string(hide_password=False)

    def wait(self) -> None:
        """Until it takes connections."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


@contextlib.contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresServer]:
    """For as long as the context lasts. It refuses to be root: then it runs as the user ``postgres`` or ``nobody``."""
    owner = _owner()
    as_owner = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="envloop-postgres-"))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        for path in (folder, secret):
            if owner is not None:
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = folder / "data"
        make = [programs / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile", secret]
        make += ["--no-sync", "--encoding", "UTF8", "--locale", "C"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **as_owner)
        serve = [programs / "postgres", "-D", data, "-k", folder, "-h", "", "-F"]
        serve += ["-c", "full_page_writes=off", "-c", "max_connections=50", "-c", "shared_buffers=16MB"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(serve, stdout=log, stderr=log, cwd=folder, **as_owner)
        server = PostgresServer(folder)
        try:
            server.wait()
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            process.wait(30)
    finally:
        shutil.rmtree(folder)


def _owner() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")
