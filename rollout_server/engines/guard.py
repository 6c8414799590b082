"""Ends an engine's processes when the process that owns them dies without a word (SIGKILL, out of memory).

vLLM's engine core is a child that would live on and keep the accelerator's memory. A guard is a tiny process of its
own, started before the engine: it reads process ids from a pipe, and when the pipe closes before it was dismissed, it
ends them.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

__all__ = ["ProcessGuard"]

_DISMISSED = "dismissed"
_GRACE_S = 20.0
_POLL_S = 1.0


class ProcessGuard:
    """Watches over processes on behalf of this one. Every method is safe to call again."""

    def __init__(self) -> None:
        self._watched: set[str] = set()
        # -I and -S: neither the working directory nor site packages are looked at, so it starts in milliseconds. A
        # session of its own: Ctrl-C at the terminal must not end the guard before those it watches.
        self._process: subprocess.Popen[str] | None = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int | None:
        """The guard's own process id, None once dismissed."""
        return self._process.pid if self._process else None

    def watch(self, pid: int, *, group: bool = False) -> None:
        """End this process when the current one dies; with ``group`` every process of the group that it leads, the
        children that it has by then among them."""
        line = f"{-pid if group else pid} {_started(pid)}"
        if line not in self._watched:
            self._watched.add(line)
            self._say(line)

    def dismiss(self) -> None:
        """End the guard and leave what it watched alone."""
        if self._process is None:
            return
        process, self._process = self._process, None
        self._say(_DISMISSED, process)
        if process.stdin:
            process.stdin.close()
        process.wait()

    def _say(self, line: str, process: subprocess.Popen[str] | None = None) -> None:
        process = process or self._process
        if process is None or process.stdin is None or process.poll() is not None:
            return
        process.stdin.write(line + "\n")
        process.stdin.flush()


def _started(pid: int) -> str:
    """When a process began, in clock ticks after boot: tells it from a later one with the same id. "" where unknown."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _alive(pid: int, started: str) -> bool:
    """Whether a process is there, or, for a negative number, anybody of the group that it led."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    # No new process takes a number that a group still bears: where a leader is gone, the group is still its own.
    return _started(abs(pid)) == started or (pid < 0 and not _started(-pid))


def _main() -> None:
    owner = os.getppid()
    watched: dict[int, str] = {}
    buffer = b""
    # A process forked from the owner may keep the pipe open, so the parent's id is looked at as well.
    while os.getppid() == owner:
        if not select.select([0], [], [], _POLL_S)[0]:
            continue
        chunk = os.read(0, 4096)
        if not chunk:
            break
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            pid, _, started = line.decode().partition(" ")
            if pid == _DISMISSED:
                return
            watched[int(pid)] = started
    _end(watched)


def _end(watched: dict[int, str]) -> None:
    deadline = time.monotonic() + _GRACE_S
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid, started in watched.items():
            if _alive(pid, started):
                os.kill(pid, number)
        while any(_alive(*item) for item in watched.items()) and time.monotonic() < deadline:
            time.sleep(0.1)


if __name__ == "__main__":
    _main()
