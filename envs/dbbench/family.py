"""All DB Bench episodes of this process: the tasks, and one database server that is started when first needed."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from hashlib import sha256

from envs.dbbench.backend import Limits
from envs.dbbench.backends import open_backend
from envs.dbbench.env import DbBenchEnv
from envs.dbbench.generator import GENERATED_SPLITS, MAX_INDEX, generate, index_of_type
from envs.dbbench.gold import GoldBook
from envs.dbbench.tasks import DbTask, TaskFile, fetched_data_dir, find_task_files
from envs.errors import ConfigError, UnknownSplit, UnknownTask, UnknownTaskType
from envs.types import EnvSpec, Readiness, Split, Task, TaskPage

__all__ = ["DbBenchFamily"]


_DEFAULTS = Limits()


class DbBenchFamily:
    """DB Bench, by the ``EnvFamily`` protocol.

    ``url`` (or ``DBBENCH_URL``) names a running server, or several that are parted by blanks or commas; ``sqlite:`` is
    an approximation without any. Without it a private server is started from ``server_binary`` (or
    ``DBBENCH_SERVER_BINARY``, or what is installed) on first need or by ``start()``; ``max_data_bytes`` bounds all its
    data. ``data_dir`` (or ``DBBENCH_DATA``, or where ``envloop env fetch dbbench`` puts them) is a folder with
    ``standard.jsonl`` and other task files. ``max_connections`` bounds the episodes that are live at once on each
    server, ``spare_databases`` of them are made ahead. The other limits are those of ``Limits``.

    Raises: ConfigError for a wrong setting, TaskDataError for a broken task file, when it is first read.
    """

    def __init__(
        self,
        spec: EnvSpec,
        *,
        url: str | None = None,
        server_binary: str | None = None,
        data_dir: str | None = None,
        max_connections: int = 256,
        admin_connections: int = 8,
        spare_databases: int = 8,
        max_data_bytes: int = 2 * 2**30,
        statement_timeout_s: float = _DEFAULTS.seconds,
        max_rows: int = _DEFAULTS.rows,
        max_bytes: int = _DEFAULTS.bytes,
        max_statements: int = _DEFAULTS.statements,
        max_database_bytes: int = _DEFAULTS.database_bytes,
        max_database_rows: int = _DEFAULTS.database_rows,
    ) -> None:
        counts = (max_connections, admin_connections, max_rows, max_bytes, max_statements)
        if min(*counts, max_database_bytes, max_database_rows) < 1 or statement_timeout_s <= 0:
            raise ConfigError("a limit of dbbench is below 1", hint="all but spare_databases must be positive")
        if spare_databases < 0 or max_data_bytes < 0:
            raise ConfigError("a setting of dbbench is below 0", hint="0 spare databases makes none ahead")
        self.spec = spec
        self._limits = Limits(
            seconds=statement_timeout_s,
            rows=max_rows,
            bytes=max_bytes,
            statements=max_statements,
            database_bytes=max_database_bytes,
            database_rows=max_database_rows,
        )
        self._backend = open_backend(
            url or os.environ.get("DBBENCH_URL"),
            server_binary or os.environ.get("DBBENCH_SERVER_BINARY"),
            max_live=max_connections,
            admin_connections=admin_connections,
            spare=spare_databases,
            max_data_bytes=max_data_bytes,
        )
        folder = data_dir or os.environ.get("DBBENCH_DATA") or fetched_data_dir()
        self._files = {file.name: file for file in find_task_files(folder)}
        self._gold = GoldBook(limits=self._limits)
        self._closed = False

    # Tasks.

    def splits(self) -> Sequence[Split]:
        """The files' splits, and the endless generated ones, of which ``generated_eval`` is for evaluation."""
        return (
            *(file.split for file in self._files.values()),
            *(Split(self.spec.name, it.name, it.role, None, it.description) for it in GENERATED_SPLITS.values()),
        )

    def tasks(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        """A page of a split's tasks, in the file's order or by index."""
        self._check_type(type)
        offset, limit = max(offset, 0), max(limit, 0)
        file = self._file(split)
        if file is None:
            indices = (index_of_type(type, i) if type else i for i in range(offset, offset + limit))
            return TaskPage(tuple(generate(split, index).public for index in indices), offset, None)
        found = [task for task in file.tasks if type is None or task.type == type]
        return TaskPage(tuple(task.public for task in found[offset : offset + limit]), offset, len(found))

    def task(self, task_id: str) -> Task:
        """The task ``split/index``."""
        return self._find(task_id).public

    def sample(self, split: str, seed: int, *, type: str | None = None) -> Task:
        """A task drawn by seed."""
        self._check_type(type)
        raw = sha256(f"{split}:{seed}:{type or ''}".encode()).digest()
        file = self._file(split)
        if file is None:
            position = int.from_bytes(raw[:5], "big")
            return generate(split, index_of_type(type, position) if type else position).public
        found = [task for task in file.tasks if type is None or task.type == type]
        if not found:
            raise UnknownTaskType(f"{split} has no task of type {type!r}")
        return found[random.Random(int.from_bytes(raw[:8], "big")).randrange(len(found))].public  # noqa: S311

    def _check_type(self, type: str | None) -> None:
        if type is not None and type not in self.spec.task_types:
            known = ", ".join(self.spec.task_types)
            raise UnknownTaskType(f"dbbench has no task type {type!r}", hint=f"known: {known}")

    def _file(self, split: str) -> TaskFile | None:
        """The split's file; None for a generated one."""
        if split in GENERATED_SPLITS:
            return None
        if split not in self._files:
            known = ", ".join((*self._files, *GENERATED_SPLITS))
            hint = f"known: {known}; standard.jsonl is read from the folder DBBENCH_DATA"
            raise UnknownSplit(f"dbbench has no split {split!r} here", hint=hint)
        return self._files[split]

    def _find(self, task_id: str) -> DbTask:
        split, _, number = task_id.rpartition("/")
        index = int(number) if number.isascii() and number.isdecimal() and len(number) <= 15 else -1
        if index < 0 or str(index) != number or (split not in self._files and split not in GENERATED_SPLITS):
            raise UnknownTask(f"dbbench has no task {task_id[:100]!r}", hint="an id is split/index, as in dev/0")
        file = self._file(split)
        if file is not None:
            return file.task(index)
        if index >= MAX_INDEX:
            raise UnknownTask(f"no task {task_id}", hint=f"indices go up to {MAX_INDEX - 1}")
        return generate(split, index)

    def _find_with_gold(self, task_id: str) -> DbTask:
        """The task to be played: where its file has the statement alone, the database says what it finds."""
        return self._gold.complete(self._find(task_id), self._backend)

    # The server.

    def start(self) -> None:
        """Start the server now instead of with the first episode. Raises BackendUnavailable, ConfigError."""
        self._backend.start()

    def server_version(self) -> str:
        """What the server calls itself, as in ``10.11.6-MariaDB``. Starts it where needed."""
        return self._backend.version()

    def make(self) -> DbBenchEnv:
        """A new environment. The first call starts the server."""
        self._backend.start()
        return DbBenchEnv(self._backend, self._find_with_gold, self._limits)

    def ready(self) -> Readiness:
        """Whether episodes can start; a private server that has not been started yet is no obstacle."""
        problem = "the environment has been closed" if self._closed else self._backend.problem()
        hint = "" if not problem else "install a server, restart the service, or set DBBENCH_URL"
        return Readiness(not problem, problem, hint)

    @property
    def live_databases(self) -> int:
        """How many episodes hold a database now."""
        return self._backend.live

    def figures(self) -> Mapping[str, float]:
        """Databases in use and made ahead, servers there are and in use."""
        return self._backend.figures()

    def close(self) -> None:
        """Drop what is live on an external server, or end the private one. Idempotent."""
        self._closed = True
        self._backend.close()
