"""What a run is doing, as a file that anybody can read while it works: ``status.json`` in its folder.

Written whole each time. A run that dies without a word leaves ``running`` behind: whether its process is still there
says the rest (``read_status``).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from trainer.record import write_json

__all__ = ["STATUS_FILE", "RunState", "RunStatus", "StatusSink", "read_status", "run_status"]

STATUS_FILE = "status.json"
_EVERY_S = 2.0


class RunState(StrEnum):
    """How a run stands. ``DIED``: its process is gone, and said nothing. ``UNKNOWN``: it left no status."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    DIED = "died"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run's status as read. ``steps`` 0: not known yet. Times are ISO 8601 in UTC, "" where unknown."""

    state: RunState
    step: int = 0
    steps: int = 0
    started_at: str = ""
    updated_at: str = ""
    pid: int = 0
    host: str = ""
    error: str = ""


@contextmanager
def run_status(folder: Path) -> Iterator[None]:
    """Inside, the run in ``folder`` is running; its end is written down, and what ended it. One line in a recipe."""
    _update(folder, _begins())
    try:
        yield
    except KeyboardInterrupt:
        _update(folder, {"state": RunState.STOPPED, "error": "interrupted"})
        raise
    except BaseException as error:
        _update(folder, {"state": RunState.FAILED, "error": f"{type(error).__name__}: {error}"[:500]})
        raise
    _update(folder, {"state": RunState.FINISHED})


class StatusSink:
    """Keeps the step in ``status.json``: a sink among those of the metrics, so that every recipe has it."""

    def __init__(self, folder: Path, *, steps: int, after_step: int = 0) -> None:
        self._folder = folder
        self._step = after_step
        self._written = time.monotonic()
        begins = {} if _mine(_read(folder)) else _begins()
        _update(folder, {**begins, "step": after_step, "steps": steps, "closed": False})

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note the step, at most every two seconds: steps of some recipes take milliseconds."""
        del metrics
        self._step = step
        if time.monotonic() - self._written >= _EVERY_S:
            self._written = time.monotonic()
            _update(self._folder, {"step": step})

    def close(self) -> None:
        """Note the last step."""
        _update(self._folder, {"step": self._step, "closed": True})


def read_status(folder: Path) -> RunStatus:
    """The status of the run in ``folder``. A file that is missing or broken is ``UNKNOWN``."""
    document = _read(folder)
    try:
        state = RunState(document["state"])
        step, steps = int(document.get("step", 0)), int(document.get("steps", 0))
        if state is RunState.RUNNING and document.get("closed"):
            state = RunState.FINISHED if steps and step >= steps else RunState.STOPPED
        elif state is RunState.RUNNING and not _alive(document):
            state = RunState.DIED
        return RunStatus(
            state,
            step,
            steps,
            str(document.get("started_at", "")),
            str(document.get("updated_at", "")),
            int(document.get("pid", 0)),
            str(document.get("host", "")),
            str(document.get("error", "")),
        )
    except (KeyError, ValueError, TypeError):
        return RunStatus(RunState.UNKNOWN)


def _begins() -> dict[str, Any]:
    return {
        "state": RunState.RUNNING,
        "started_at": _now(),
        "pid": os.getpid(),
        "process_started": _process_started(os.getpid()),
        "host": socket.gethostname(),
        "boot": _boot(),
        "step": 0,
        "steps": 0,
        "closed": False,
        "error": "",
    }


def _update(folder: Path, fields: Mapping[str, Any]) -> None:
    write_json(folder / STATUS_FILE, {**_read(folder), **fields, "updated_at": _now()})


def _read(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / STATUS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _mine(document: Mapping[str, Any]) -> bool:
    """Whether this very process has begun the run."""
    here = (os.getpid(), _process_started(os.getpid()), RunState.RUNNING)
    return (document.get("pid"), document.get("process_started"), document.get("state")) == here and not document.get(
        "closed"
    )


def _alive(document: Mapping[str, Any]) -> bool:
    """Whether the process of a status still runs. One on another machine is believed."""
    if document.get("host") != socket.gethostname():
        return True
    if document.get("boot") != _boot():
        return False
    pid = int(document.get("pid", 0))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and another user's
    return _process_started(pid) == document.get("process_started")


def _process_started(pid: int) -> str:
    """When a process began, in clock ticks after boot: tells it from a later one with the same id. "" where unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
