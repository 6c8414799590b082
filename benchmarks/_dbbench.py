"""What the benchmarks of DB Bench share: episodes that win, a service to play them on, and what is left behind."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from envs.base import EnvFamily
from envs.client import EnvClient, EpisodeView, NewEpisode
from envs.dbbench.connection import TidyConnection
from envs.dbbench.external_server import ServerAddress
from envs.dbbench.tables import quote
from envs.dbbench.tasks import DbTask, find_task_files
from envs.errors import EnvloopError
from envs.server_process import ServerProcess, server_process
from envs.types import Action

__all__ = [
    "ENV",
    "Script",
    "Timing",
    "cpu_seconds",
    "databases_of",
    "folder_of",
    "left_in",
    "left_on",
    "percentile",
    "play",
    "play_batch",
    "play_over_http",
    "scripts",
    "served",
    "sound",
]

ENV = "dbbench"
_LOOKS = ("SHOW TABLES", "SELECT COUNT(*) FROM {table}", "SELECT * FROM {table} LIMIT 3")
_LAST_LOOK = "SELECT {column} FROM {table} ORDER BY {column} LIMIT 5"
_OURS = r"LIKE 'envloop\_%'"
_LEFT = {
    "databases": f"SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name {_OURS} "  # noqa: S608
    "AND schema_name <> 'envloop_registry'",
    "users": f"SELECT COUNT(*) FROM mysql.user WHERE user {_OURS}",  # noqa: S608
    "connections": f"SELECT COUNT(*) FROM information_schema.processlist WHERE user {_OURS}",  # noqa: S608
    "registered_episodes": "SELECT COUNT(*) FROM envloop_registry.episodes",
    "registered_services": "SELECT COUNT(*) FROM envloop_registry.services",
}


@dataclass(frozen=True, slots=True)
class Script:
    """An episode that wins: four statements, of a change's task the gold one last, and the commit."""

    task_id: str
    statements: tuple[Action, ...]
    commit: Action

    @property
    def new(self) -> NewEpisode:
        return NewEpisode(env=ENV, task_id=self.task_id)


@dataclass(slots=True)
class Timing:
    """Seconds of each episode: all of it, and its beginning alone."""

    episodes: list[float] = field(default_factory=list)
    creates: list[float] = field(default_factory=list)


def scripts() -> list[Script]:
    """One for each task of AgentBench's development split: 60 tables of 12 to 76 rows, two in three changed."""
    return list(map(_script, find_task_files(None)[0].tasks))


def _script(task: DbTask) -> Script:
    table = task.tables[0]
    names = {"table": quote(table.name), "column": quote(table.columns[0])}
    looks = [text.format(**names) for text in _LOOKS]
    statements = [*looks, task.gold_sql[0] if task.gold_sql else _LAST_LOOK.format(**names)]
    return Script(
        f"{task.split}/{task.index}",
        tuple(Action("execute_sql", {"query": statement}) for statement in statements),
        Action("commit_final_answer", {"answers": list(task.gold_answers) or ["done"]}),
    )


def play(family: EnvFamily, script: Script, timing: Timing) -> None:
    """One episode in this process, which must win."""
    began = time.perf_counter()
    environment = family.make()
    try:
        environment.reset(family.task(script.task_id))
        timing.creates.append(time.perf_counter() - began)
        for action in script.statements:
            _must(environment.step(action).valid, script, "a statement failed")
        _must(environment.step(script.commit).reward == 1.0, script, "it lost")
    finally:
        environment.close()
    timing.episodes.append(time.perf_counter() - began)


async def play_over_http(client: EnvClient, script: Script, timing: Timing) -> None:
    """One episode by single requests, which must win."""
    began = time.perf_counter()
    view = await client.create(ENV, task_id=script.task_id)
    timing.creates.append(time.perf_counter() - began)
    for action in script.statements:
        view = await client.step(view, action)
        _must(view.valid, script, "a statement failed")
    view = await client.step(view, script.commit)
    await client.close_episode(view.id)
    _must(view.reward == 1.0, script, "it lost")
    timing.episodes.append(time.perf_counter() - began)


async def play_batch(client: EnvClient, batch: Sequence[Script], timing: Timing) -> None:
    """Episodes side by side by batch requests, each of which must win."""
    began = time.perf_counter()
    views = sound(await client.create_many(script.new for script in batch))
    timing.creates += [time.perf_counter() - began] * len(batch)
    for turn in range(len(batch[0].statements)):
        moves = [(view, script.statements[turn]) for view, script in zip(views, batch, strict=True)]
        views = sound(await client.step_many(moves))
        for view, script in zip(views, batch, strict=True):
            _must(view.valid, script, "a statement failed")
    ends = [(view, script.commit) for view, script in zip(views, batch, strict=True)]
    views = sound(await client.step_many(ends))
    sound(await client.close_many(view.id for view in views))
    for view, script in zip(views, batch, strict=True):
        _must(view.reward == 1.0, script, "it lost")
    timing.episodes += [time.perf_counter() - began] * len(batch)


def _must(good: bool, script: Script, what: str) -> None:
    if not good:
        raise SystemExit(f"{script.task_id}, an episode of the benchmark: {what}")


def sound(results: Sequence[EpisodeView | EnvloopError]) -> list[EpisodeView]:
    """The views of a batch's answer; its first error is raised."""
    for result in results:
        if isinstance(result, EnvloopError):
            raise result
    return [result for result in results if isinstance(result, EpisodeView)]


@contextlib.contextmanager
def served(folder: str, *, binary: str | None = None, **variables: str) -> Iterator[ServerProcess]:
    """``envloop env serve`` for DB Bench alone. ``folder`` is for its temporary files, and for what it keeps."""
    settings = {"TMPDIR": str(Path(folder, "tmp")), "ENVLOOP_CACHE_DIR": str(Path(folder, "cache")), "DBBENCH_URL": ""}
    Path(folder, "tmp").mkdir(exist_ok=True)
    if binary is not None:
        settings["DBBENCH_SERVER_BINARY"] = binary
    with server_process(["--env", ENV], env=settings | variables) as server:
        yield server


def databases_of(pid: int) -> list[psutil.Process]:
    """The database servers of a process: what its watchdogs run, and not an installer that is still at work."""
    found = {}
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if _option(child, "--socket") is not None:  # its name may be that of a loader
                found[child.pid] = child
    scripts_around = {child.ppid() for child in found.values()}
    return [child for number, child in found.items() if number not in scripts_around]


def folder_of(database: psutil.Process) -> Path:
    """The folder that was made for a private server."""
    socket = _option(database, "--socket")
    assert socket is not None
    return Path(socket).parent


def _option(process: psutil.Process, name: str) -> str | None:
    return next((text.partition("=")[2] for text in process.cmdline() if text.startswith(f"{name}=")), None)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, its threads included (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def left_on(address: ServerAddress) -> dict[str, int]:
    """What of the episodes a database server still has, asked as its administrator."""
    connection = TidyConnection(
        user=address.user, password=address.password, autocommit=True, **address.connect_arguments()
    )
    with contextlib.closing(connection), connection.cursor() as cursor:
        counts = {}
        for what, query in _LEFT.items():
            cursor.execute(query)
            counts[what] = int(cursor.fetchall()[0][0])
        return counts


def left_in(folder: str) -> int:
    """Files and folders in what ``served`` gave its process for temporary files."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(Path(folder, "tmp")))
