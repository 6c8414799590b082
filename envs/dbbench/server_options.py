"""How a private server is set up and run: fast, since its data are thrown away; bounded, since a policy drives it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from envs.errors import BackendUnavailable, ConfigError

__all__ = ["INSTALL_HINT", "ServerPlan", "plan_server"]

INSTALL_HINT = (
    "apt-get install mariadb-server-core mariadb-client-core; or name a mysqld or mariadbd with DBBENCH_SERVER_BINARY; "
    "or use a running server with DBBENCH_URL=mysql+pymysql://user:password@host:3306; or, without any server, an "
    "approximation with DBBENCH_URL=sqlite:"
)
_TEMPLATE_VERSION = 1  # another way of filling the data folder makes another template
_MIB = 2**20
# The largest that a session may raise its own buffers to: a statement could fill the machine's memory otherwise.
_SESSION_CAPS = {
    "sort-buffer-size": 16, "join-buffer-size": 16, "read-buffer-size": 8, "read-rnd-buffer-size": 8,
    "tmp-table-size": 64, "max-heap-table-size": 64, "bulk-insert-buffer-size": 16, "group-concat-max-len": 16,
    "query-prealloc-size": 1, "query-alloc-block-size": 1, "transaction-prealloc-size": 1, "range-alloc-block-size": 1,
    "transaction-alloc-block-size": 1, "preload-buffer-size": 8, "myisam-sort-buffer-size": 16,
}  # fmt: skip
_MARIADB_CAPS = {
    "max-session-mem-used": 256, "tmp-disk-table-size": 256, "mrr-buffer-size": 8, "aria-sort-buffer-size": 16,
    "join-buffer-space-limit": 32,
}  # fmt: skip
_MYSQL_CAPS = {"parser-max-mem-size": 64, "range-optimizer-max-mem-size": 32}
# Engines that write elsewhere, keep rows in memory beyond any quota, or speak to other servers.
_MYSQL_WITHOUT = "MyISAM,MEMORY,MRG_MYISAM,CSV,ARCHIVE,BLACKHOLE,FEDERATED"


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """The commands of one server.

    ``store`` holds ``data`` and ``tmp``, all that a server writes. ``steps`` fill ``data``, ``serve`` runs it;
    ``template_key`` names a filled folder that any server of the same kind may begin with.
    """

    kind: str
    store: Path
    data: Path
    steps: list[list[str]]
    serve: list[str]
    template_key: str


def plan_server(binary: Path, folder: Path, socket: Path, *, max_connections: int) -> ServerPlan:
    """How to fill ``folder``'s data folder and how to serve it. Raises ConfigError, BackendUnavailable."""
    said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=30, check=False)
    if said.returncode != 0:
        raise ConfigError(f"{binary} cannot be run: {(said.stderr or said.stdout).strip()[:300]}", hint=INSTALL_HINT)
    store = folder / "store"
    data, scratch = store / "data", store / "tmp"
    # Option files of the machine must not reach in. A script around the server has decided about them itself.
    with binary.open("rb") as file:
        defaults = [] if file.read(2) == b"#!" else ["--no-defaults"]
    user = ["--user=root"] if os.geteuid() == 0 else []
    kind = "mariadb" if "mariadb" in said.stdout.lower() else "mysql"
    common = [
        *defaults, *user, f"--datadir={data}", f"--socket={socket}", f"--pid-file={folder / 'pid'}",
        f"--tmpdir={scratch}",
        "--skip-networking", "--skip-name-resolve", "--skip-log-bin", "--local-infile=OFF", "--performance-schema=OFF",
        "--character-set-server=utf8mb4", f"--max-connections={max_connections}", "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=64M", "--max-allowed-packet=4M", "--innodb-max-undo-log-size=10M",
        "--innodb-stats-persistent=OFF", *_caps(_SESSION_CAPS),
    ]  # fmt: skip
    if kind == "mariadb":
        steps, serve = _mariadb(binary, data, scratch, user, common)
    else:
        steps, serve = _mysql(binary, data, [*defaults, *user], common)
    # The version, not the folder: the template outlives this server.
    marks = [str(_TEMPLATE_VERSION), str(binary), said.stdout, *(" ".join(step) for step in steps)]
    key = hashlib.sha256("\n".join(marks).replace(str(folder), "").encode()).hexdigest()[:20]
    return ServerPlan(kind, store, data, steps, serve, f"{kind}-{key}")


def _mysql(binary: Path, data: Path, head: list[str], common: list[str]) -> tuple[list[list[str]], list[str]]:
    fast = [
        "--innodb-doublewrite=OFF", "--innodb-redo-log-capacity=32M", "--mysqlx=OFF", "--innodb-numa-interleave=OFF",
        "--innodb-parallel-read-threads=1",
    ]  # fmt: skip
    bounds = [
        f"--disabled-storage-engines={_MYSQL_WITHOUT}", "--global-connection-memory-tracking=ON",
        f"--connection-memory-limit={256 * _MIB}", f"--temptable-max-ram={128 * _MIB}",
        f"--temptable-max-mmap={128 * _MIB}", *_caps(_MYSQL_CAPS),
    ]  # fmt: skip
    initialise = [str(binary), *head, "--initialize-insecure", f"--datadir={data}", *fast[:2]]
    return [initialise], [str(binary), *common, *fast, *bounds, "--secure-file-priv=NULL"]


def _mariadb(
    binary: Path, data: Path, scratch: Path, user: list[str], common: list[str]
) -> tuple[list[list[str]], list[str]]:
    near = os.pathsep.join(
        (str(binary.parent), str(binary.parent.parent / "bin"), str(binary.parent.parent / "scripts"))
    )
    path = os.pathsep.join((near, os.environ.get("PATH", os.defpath), "/usr/bin", "/usr/local/bin"))
    installer = shutil.which("mariadb-install-db", path=path) or shutil.which("mysql_install_db", path=path)
    if installer is None or shutil.which("my_print_defaults", path=path) is None:
        missing = "mariadb-install-db" if installer is None else "my_print_defaults"
        raise BackendUnavailable(f"{binary} is there, but not its {missing}", hint=INSTALL_HINT)
    # Undo logs in the system's own file would make it grow for ever.
    undo = "--innodb-undo-tablespaces=2"
    install = [
        installer, "--no-defaults", *user, f"--datadir={data}", "--auth-root-authentication-method=normal",
        "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=8M", undo,
    ]  # fmt: skip
    fast = ["--innodb-doublewrite=0", "--innodb-flush-method=nosync", "--innodb-log-file-size=8M", undo]
    bounds = [
        "--enforce-storage-engine=InnoDB", "--skip-symbolic-links", "--innodb-undo-log-truncate=ON",
        "--loose-innodb-alter-copy-bulk=OFF",  # a table in the making is written where the quota sees it
        f"--max-session-mem-used={256 * _MIB}", f"--tmp-disk-table-size={256 * _MIB}",
        "--innodb-temp-data-file-path=ibtmp1:12M:autoextend:max:512M", *_caps(_MARIADB_CAPS),
    ]  # fmt: skip
    return [install], [str(binary), *common, *fast, *bounds, f"--secure-file-priv={scratch}"]


def _caps(sizes: dict[str, int]) -> Iterable[str]:
    return (f"--maximum-{name}={size * _MIB}" for name, size in sizes.items())
