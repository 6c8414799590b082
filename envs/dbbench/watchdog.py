"""Run a database server so that it never outlives the service that wants it. Standard library only.

``python watchdog.py FD PLAN`` where FD is the reading end of a pipe that the service holds open and PLAN is JSON:
``{"folder": path, "steps": [argv, …], "serve": argv}``. The steps are run in turn, then the server.
When the pipe closes (the service closed it, ended or was killed with SIGKILL) the server is killed, since its data is
thrown away; it is waited for, and only then the folder is removed: a server that still runs would go on writing into
unlinked files. On Linux the children die with this process too.

Exit status: 0 after the pipe closed, 1 where a step or the server ended by itself (its last words go to stderr).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_LOG_TAIL = 1500  # characters


def main(argv: list[str]) -> int:
    """Run the plan; see the module's text."""
    pipe = int(argv[0])
    plan = json.loads(argv[1])
    folder = Path(plan["folder"])
    # Ctrl-C in a terminal reaches the service, which then closes the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)  # a handler, unlike SIG_IGN, is not handed down to the server
    try:
        with (folder / "server.log").open("ab") as log:
            for step in plan["steps"]:
                status = _run(step, log.fileno(), pipe)
                if status is None:
                    return 0
                if status != 0:
                    _explain(folder, f"{step[0]} failed with status {status}")
                    return 1
            status = _run(plan["serve"], log.fileno(), pipe)
        if status is None:
            return 0
        _explain(folder, f"{plan['serve'][0]} ended with status {status}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ignore(signal_number: int, frame: object) -> None:
    """Do nothing."""


def _run(command: list[str], log: int, pipe: int) -> int | None:
    """The command's status, or None where the pipe closed first (the command has ended then too)."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - this process has one thread
    )
    while True:
        # The pipe is only ever closed: readable means the end of it.
        readable, _, _ = select.select([pipe], [], [], 0.1)
        if readable:
            _stop(child)
            return None
        status = child.poll()
        if status is not None:
            return status


def _stop(child: subprocess.Popen[bytes]) -> None:
    # The whole session: an installer may have started the server as its own child.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _die_with_parent() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def _explain(folder: Path, what: str) -> None:
    with contextlib.suppress(OSError):
        tail = (folder / "server.log").read_text(errors="replace")[-_LOG_TAIL:]
        sys.stderr.write(f"{what}\n{tail}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
