"""Folders for vLLM's sockets: gone with their engine, or with the next one where their process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollout_server.engines.sockets import SocketFolder

OWNER = "import time; from rollout_server.engines.sockets import SocketFolder; s = SocketFolder()"
OLD = time.time() - 3600


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(tmp_path))


def owner() -> tuple[subprocess.Popen[str], Path]:
    """Another process with a folder, made an hour ago."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{OWNER}; print(s.path, flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    Path(folder, "a-socket").touch()
    os.utime(folder / ".lock", (OLD, OLD))
    return process, folder


def test_a_folder_goes_with_its_engine(tmp_path: Path) -> None:
    sockets = SocketFolder()
    Path(sockets.path, "a-socket").touch()
    sockets.remove()
    sockets.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_start_and_what_lives_stays(tmp_path: Path) -> None:
    process, folder = owner()
    try:
        first = SocketFolder()
        assert Path(folder, "a-socket").exists(), "its process lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
        second = SocketFolder()
        assert {p.name for p in tmp_path.iterdir()} == {Path(first.path).name, Path(second.path).name}
        first.remove()
        second.remove()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_what_is_not_ours_or_has_no_lock_stays(tmp_path: Path) -> None:
    kept = [tmp_path / "envloop-vllm-unlocked", tmp_path / "other"]
    for folder in kept:
        folder.mkdir()
    (kept[1] / ".lock").touch()
    os.utime(kept[1] / ".lock", (OLD, OLD))
    SocketFolder().remove()
    assert all(folder.exists() for folder in kept)
