"""512 live episodes of an environment that costs nothing, on one server process: ours, and OpenEnv's beside it.

    python benchmarks/env_load.py [--json] [--quick] [--openenv-python PATH]

The same toy on both, each with its own server and its own client in a process of its own, the journal on. OpenEnv
needs an interpreter with ``openenv`` (0.10 was measured), since it does not install beside our pins; without one the
ratios are left out, and the script says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from _chaos import free_port
from _figures import Figure, at_least, at_most, run, value

SESSIONS = 512
HERE = Path(__file__).parent


@contextlib.contextmanager
def server(command: list[str], port: int) -> Iterator[str]:
    """A server process, once it answers."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(url + "/healthz", trust_env=False)
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def ours(seconds: float, way: str) -> dict[str, float]:
    """Our figures."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="envloop-load-") as folder:
        script = [sys.executable, str(HERE / "_toy.py")]
        with server([*script, "serve", str(port), f"{folder}/journal.sqlite"], port) as url:
            return measured([*script, "load", url, str(SESSIONS), str(seconds), way])


def theirs(python: str, seconds: float) -> dict[str, float]:
    """OpenEnv's figures."""
    port = free_port()
    script = [python, str(HERE / "_openenv_side.py")]
    with server([*script, "serve", str(port), str(2 * SESSIONS)], port) as url:
        return measured([*script, "load", url, str(SESSIONS), str(seconds)])


def measured(command: list[str]) -> dict[str, float]:
    """What a load process prints."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    """Rounds in turn, medians."""
    rounds, seconds = (1, 4.0) if arguments.quick else (5, 10.0)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for way in ("batch", "stream", "single"):
            found.setdefault(way, []).append(ours(seconds, way))
        if arguments.openenv_python:
            found.setdefault("openenv", []).append(theirs(arguments.openenv_python, seconds))
    middle = {
        way: {name: statistics.median(one[name] for one in rows) for name in rows[0]} for way, rows in found.items()
    }
    for way, figures in middle.items():
        yield value(f"env.load.{way}.steps", figures["steps_per_s"], "/s")
        yield value(f"env.load.{way}.p50", figures["p50_ms"], "ms")
        yield value(f"env.load.{way}.p99", figures["p99_ms"], "ms")
    if "openenv" not in middle:
        print("# OpenEnv was not measured: name an interpreter that has it with --openenv-python", file=sys.stderr)
        return
    theirs_ = middle["openenv"]
    for way in ("batch", "stream"):
        yield at_least(f"env.load.{way}.steps_per_openenv", middle[way]["steps_per_s"] / theirs_["steps_per_s"], "", 3)
        yield at_most(f"env.load.{way}.p99_per_openenv", middle[way]["p99_ms"] / theirs_["p99_ms"], "", 0.5)
    yield value("env.load.single.steps_per_openenv", middle["single"]["steps_per_s"] / theirs_["steps_per_s"], "")


if __name__ == "__main__":
    run(
        __doc__ or "",
        measure,
        options=lambda parser: parser.add_argument("--openenv-python", help="an interpreter that has openenv"),
    )
