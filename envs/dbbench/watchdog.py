"""Run a database server so that it never outlives the service that wants it. Standard library only.

``python watchdog.py FD PLAN`` where FD is the reading end of a pipe that the service holds open and PLAN is JSON:
``{"folder", "store", "data", "size", "template", "steps": [argv, …], "serve": argv}``. The folder ``store`` gets a file
system in memory of ``size`` bytes at most (0: none), mounted where only this process and its children see it, so that
it goes with the last of them. In it, ``data`` is filled from the folder ``template`` where there is one, else by the
steps, and then kept as the template. The file ``storage`` in the folder tells what came of both. Then the server runs.

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
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000
_MNT_DETACH = 0x2
_STALE_S = 600
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
            data, template = Path(plan["data"]), Path(plan["template"]) if plan["template"] else None
            uncapped = _cap(data.parent, plan["size"])
            data.mkdir()
            (data.parent / "tmp").mkdir()
            copied = template is not None and _copied(template, data)
            (folder / "storage").write_text(json.dumps({"uncapped": uncapped, "copied": copied}), encoding="utf-8")
            for step in [] if copied else plan["steps"]:
                status = _run(step, log.fileno(), pipe)
                if status is None:
                    return 0
                if status != 0:
                    _explain(folder, f"{step[0]} failed with status {status}")
                    return 1
            if template is not None and not copied:
                _keep(data, template)
            status = _run(plan["serve"], log.fileno(), pipe)
        if status is None:
            return 0
        _explain(folder, f"{plan['serve'][0]} ended with status {status}")
        return 1
    finally:
        if sys.platform.startswith("linux"):  # a mounted folder cannot be removed; where none is, this does nothing
            ctypes.CDLL(None).umount2(os.fsencode(plan["store"]), _MNT_DETACH)
        shutil.rmtree(folder, ignore_errors=True)


def _ignore(signal_number: int, frame: object) -> None:
    """Do nothing."""


def _cap(store: Path, size: int) -> str:
    """Mount a file system of so many bytes on the folder, for this process alone; why not, or an empty text."""
    store.mkdir()
    if not size:
        return "no size was asked for"
    if not sys.platform.startswith("linux"):
        return "this system has no mount namespaces"
    library = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if library.unshare(_CLONE_NEWNS) != 0:
        # Without the right, a name space of users gives it, where the system lets anyone have one.
        if library.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
            return os.strerror(ctypes.get_errno())
        try:
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
        except OSError as error:
            return str(error)
    # Private first: the mount must not appear to others, nor stay after this process.
    if library.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return os.strerror(ctypes.get_errno())
    options = f"size={size},mode=0700,uid={uid},gid={gid}".encode()
    if library.mount(b"envloop", os.fsencode(store), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options) != 0:
        return os.strerror(ctypes.get_errno())
    return ""


def _copied(template: Path, data: Path) -> bool:
    """Fill the data folder from the template; False where there is none that is whole."""
    try:
        shutil.copytree(template, data, dirs_exist_ok=True)
    except OSError:  # none yet, or somebody removes it just now
        for left in data.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return False
    # MySQL's name for itself is drawn anew by each server.
    (data / "auto.cnf").unlink(missing_ok=True)
    return True


def _keep(data: Path, template: Path) -> None:
    """Keep a fresh data folder as the template. It appears whole or not at all; failing to is no failure."""
    partial = template.with_name(f"{template.name}.{os.getpid()}.part")
    try:
        template.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in template.parent.glob(f"{template.name}.*.part"):  # what a killed one has left
            if time.time() - old.stat().st_mtime > _STALE_S:
                shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(data, partial)
        partial.chmod(0o700)
        partial.rename(template)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)


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
