"""What a guard watches ends with the owner, even when the owner is killed; a dismissed guard ends nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rollout_server.engines.guard import ProcessGuard

SLEEPER = "import time; time.sleep(600)"
OWNER = f"""
import subprocess, sys, time
from rollout_server.engines.guard import ProcessGuard
guard = ProcessGuard()
child = subprocess.Popen([sys.executable, "-c", {SLEEPER!r}])
guard.watch(child.pid)
print(child.pid, guard.pid, flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process start times come from /proc")


def test_a_killed_owner_takes_its_children_along() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    child, guard = (psutil.Process(int(pid)) for pid in owner.stdout.readline().split())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    # Whatever adopts them may be slow to collect them: a zombie has ended too.
    for process in (child, guard):
        _wait_for_end(process)


def _wait_for_end(process: psutil.Process) -> None:
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        try:
            process.wait(timeout=0.1)
        except psutil.TimeoutExpired:
            continue


def test_a_dismissed_guard_leaves_processes_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", SLEEPER])
    guard = ProcessGuard()
    pid = guard.pid
    assert pid is not None
    guard.watch(child.pid)
    guard.watch(child.pid)
    guard.dismiss()
    guard.dismiss()
    assert guard.pid is None
    assert not psutil.pid_exists(pid)
    assert child.poll() is None
    child.kill()
    child.wait()
