"""``envloop demo`` on real parts: it does what it says, and Ctrl-C in its midst leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder for everything that the demo starts: short, since a database's socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # a database server may run as another user
        yield folder


def start_demo(folder: Path, temporary: Path, said: Path, *options: str) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own, as a shell starts it; what it says goes to a file."""
    with said.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "envs.cli", "demo", "--engine", "transformers", "--output", str(folder), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )


def wait_for(process: subprocess.Popen[bytes], said: Path, text: str) -> None:
    while text not in said.read_text():
        assert process.poll() is None, f"the demo ended before it said {text!r}:\n{said.read_text()[-4000:]}"
        time.sleep(0.1)


def test_ctrl_c_leaves_no_process_and_no_folder(tmp_path: Path, temporary: Path) -> None:
    said = tmp_path / "said.txt"
    process = start_demo(tmp_path / "demo", temporary, said)
    started = psutil.Process(process.pid)
    descendants: list[psutil.Process] = []
    try:
        wait_for(process, said, "dbbench: expert")
        descendants = started.children(recursive=True)
        arguments = [argument for one in descendants for argument in one.cmdline()]
        data = [Path(a.partition("=")[2]) for a in arguments if a.startswith("--datadir=")]
        assert data, "the demo has a database of its own"
        assert all(folder.is_dir() for folder in data)
        assert list(temporary.glob("envloop-*"))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == 130
        _, alive = psutil.wait_procs(descendants, timeout=20)
        assert not alive
        assert not [folder for folder in data if folder.parent.exists()]
        assert not list(temporary.glob("envloop-*"))
    finally:
        for one in (started, *descendants):
            if one.is_running():
                one.kill()
        process.wait()


def test_the_demo_does_what_it_says(tmp_path: Path, temporary: Path) -> None:
    """Its exit status is ``run_demo``'s: 0 where experts won, policies were swapped and episodes replayed."""
    said = tmp_path / "said.txt"
    process = start_demo(tmp_path / "demo", temporary, said, "--steps", "1")
    try:
        assert process.wait(800) == 0, said.read_text()[-4000:]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    assert (tmp_path / "demo" / "grpo" / "metrics.jsonl").is_file()
    assert not list(temporary.glob("envloop-*"))
