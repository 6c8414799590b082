"""An environment server as a child process: for the demo, the benchmark and tests, on a free loopback port."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.errors import BackendUnavailable

__all__ = ["ServerProcess", "server_process", "write_ready_file"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server: its address and its process id."""

    url: str
    pid: int


@contextlib.contextmanager
def server_process(
    args: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    start_timeout_s: float = 120.0,
    stop_timeout_s: float = 30.0,
) -> Iterator[ServerProcess]:
    """``envloop env serve --port 0 ARGS`` for as long as the context lasts, and never longer than this process.

    ``env``: variables on top of this process's own. Raises BackendUnavailable with the server's last words where it
    does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="envloop-serve-") as folder, tempfile.TemporaryFile() as output:
        ready_file = Path(folder, "ready.json")
        command = [sys.executable, "-m", "envs.cli", "env", "serve", "--port", "0", "--stop-on-eof"]
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready_file), *args],
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,  # closed by the system if we die
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + start_timeout_s
            while not ready_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    said = output.read().decode(errors="replace").strip()[-2000:]
                    raise BackendUnavailable(
                        f"the env server did not start (exit status {process.poll()}): {said}",
                        hint="run 'envloop env serve' with the same settings to see why",
                    )
                time.sleep(0.02)
            yield ServerProcess(url=json.loads(ready_file.read_text())["url"], pid=process.pid)
        finally:
            _stop(process, stop_timeout_s)
            if logger.isEnabledFor(logging.DEBUG):
                output.seek(0)
                logger.debug("env server %d said: %s", process.pid, output.read().decode(errors="replace").strip())


def write_ready_file(path: Path, url: str, *, pid: int | None = None) -> None:
    """``{"url", "pid"}``, whole or not at all; ``pid`` is by default that of this process."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"url": url, "pid": pid or os.getpid()}))
    draft.replace(path)


def _stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
