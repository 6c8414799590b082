"""ALFWorld as a family of environments: its tasks, its engines, its parsed games."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from envs.alfworld.dialect import DIALECTS
from envs.alfworld.engine import ENGINES, Engine
from envs.alfworld.env import AlfworldEnv, Workshop
from envs.alfworld.native_engine import NativeEngine
from envs.alfworld.tasks import DATA_DIR_VARIABLE, Tasks
from envs.errors import ConfigError
from envs.types import EnvSpec, Readiness, Split, Task, TaskPage

__all__ = ["AlfworldFamily"]


class AlfworldFamily:
    """Implements ``envs.base.EnvFamily``.

    Settings: ``data_dir`` (the official games; default the environment variable ``ALFWORLD_DATA``, then the folder that
    they are fetched to, else generated games alone), ``engine`` (default of the episodes; with ``textworld`` and with
    ``both`` the spec says ``blocking``), ``dialect`` (retell every game in ``0.2`` or ``0.4``, also one of an unknown
    grammar; None: as its file tells it), ``index_dir`` (folder of the index; default the user's cache), ``cache_size``
    (parsed games kept), ``textworld_workers`` (at most so many processes for either of ``textworld`` and ``both``).
    Raises ConfigError for a wrong setting.
    """

    def __init__(
        self,
        spec: EnvSpec,
        *,
        data_dir: str | Path | None = None,
        engine: str = "native",
        dialect: str | None = None,
        index_dir: str | Path | None = None,
        cache_size: int = 256,
        textworld_workers: int = 4,
    ) -> None:
        if engine not in ENGINES:
            msg = f"alfworld has no engine {engine!r}"
            raise ConfigError(msg, hint=f"known: {', '.join(ENGINES)}")
        if dialect not in (None, *DIALECTS):
            msg = f"alfworld has no dialect {dialect!r}"
            raise ConfigError(msg, hint=f"known: {', '.join(DIALECTS)}; without one, games are told as their files do")
        self.spec = replace(spec, blocking=spec.blocking or engine != "native")
        self._tasks = Tasks(
            spec.name,
            spec.task_types,
            data_dir,
            index_dir=index_dir,
            dialect=dialect,
            keep_refused=engine == "textworld",
        )
        self._native = NativeEngine(cache_size=cache_size)
        self._engines: dict[str, Engine] = {self._native.name: self._native}
        self._default_engine = engine
        self._textworld_workers = textworld_workers
        self._lock = threading.Lock()
        self._engine(engine)
        self._workshop = Workshop(
            spec=self.spec,
            find_game=self._tasks.source,
            find_engine=self._engine,
            parse_game=self._native.game,
            engine=engine,
        )

    def splits(self) -> Sequence[Split]:
        """The splits that can be played here."""
        return self._tasks.splits()

    def tasks(self, split: str, *, type: str | None = None, offset: int = 0, limit: int = 100) -> TaskPage:
        """A page of a split's tasks in a fixed order. Raises: UnknownSplit, UnknownTaskType."""
        return self._tasks.page(split, type=type, offset=offset, limit=limit)

    def by_difficulty(
        self, split: str, *, type: str | None = None, plan_length: tuple[int, int] | None = None
    ) -> Sequence[Task]:
        """An official split from easy to hard; see ``Tasks.by_difficulty``."""
        return self._tasks.by_difficulty(split, type=type, plan_length=plan_length)

    def task(self, task_id: str) -> Task:
        """The task with this id. Raises: UnknownTask."""
        return self._tasks.task(task_id)

    def sample(self, split: str, seed: int, *, type: str | None = None) -> Task:
        """A task drawn by seed. Raises: UnknownSplit, UnknownTaskType."""
        return self._tasks.sample(split, seed, type=type)

    def make(self) -> AlfworldEnv:
        """A new environment, not yet reset."""
        return AlfworldEnv(self._workshop)

    def ready(self) -> Readiness:
        """Whether episodes can be started, and whether the official games are here."""
        readiness = self._engine(self._default_engine).ready()
        if not readiness.ready:
            return readiness
        if self._tasks.data_dir is None:
            hint = f"set {DATA_DIR_VARIABLE} or run `envloop env fetch alfworld` for the official games"
            return Readiness(ready=True, detail=f"{readiness.detail}; generated games only", hint=hint)
        return Readiness(ready=True, detail=f"{readiness.detail}; official games in {self._tasks.data_dir}")

    def close(self) -> None:
        """End the engines and close the index. Idempotent."""
        self._tasks.close()
        with self._lock:
            engines = list(self._engines.values())
        for engine in engines:
            engine.close()

    def _engine(self, name: str) -> Engine:
        """An engine by name, started when it is first asked for. Raises ConfigError where its extra is missing."""
        with self._lock:
            if name not in self._engines:
                from envs.alfworld.both_engine import BothEngine
                from envs.alfworld.textworld_engine import TextWorldEngine

                both = name == "both"
                reference = TextWorldEngine(max_workers=self._textworld_workers, with_facts=both)
                self._engines[name] = BothEngine(self._native, reference) if both else reference
            return self._engines[name]
