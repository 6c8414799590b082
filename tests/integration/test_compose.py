"""compose.yaml brought up for real: one episode of each environment over HTTP, then nothing left (needs Docker)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def docker() -> str:
    path = shutil.which("docker")
    if path is None or subprocess.run([path, "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine answers here (docker info)")
    return path


@pytest.mark.timeout(1800)
def test_up_plays_each_environment_and_goes_without_a_trace(docker: str, repo_root: Path) -> None:
    done = subprocess.run(
        ["scripts/compose_smoke.sh", sys.executable], cwd=repo_root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("reward 1") == 2
    assert "left nothing behind" in done.stdout


def test_every_profile_is_a_valid_compose_file(docker: str, repo_root: Path) -> None:
    command = [docker, "compose", "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
