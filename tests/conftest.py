"""Fixtures for every test."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from postgres_server import PostgresServer

pytest_plugins = ["secret_watch"]

ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run, so that a change and not luck decides; ENVLOOP_NEW_EXAMPLES=1 looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("ENVLOOP_NEW_EXAMPLES"):
    hypothesis.settings.load_profile("repeatable")

# Started in a shell's background, the tests ignore Ctrl-C, and so would every process that they start and signal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the product caches for its user goes to a folder of this run, in every process that a test starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVLOOP_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder like ``tmp_path`` whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="envloop-t-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real game files and tasks beside the checkout, where there are any: tests of parity with them skip without."""
    path = Path(os.environ.get("ENVLOOP_SHARED", ROOT.parent / "shared"))
    if not (path / "data").is_dir():
        pytest.skip("no shared data beside the checkout; set ENVLOOP_SHARED to its folder")
    return path


@pytest.fixture(scope="session")
def smollm2_dir() -> Path:
    """SmolLM2-135M-Instruct in Hugging Face's format, converted once into the checkout's cache."""
    from rollout_server.smollm2 import ensure_smollm2

    return ensure_smollm2(ROOT / ".cache" / "models")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this run."""
    from postgres_server import find_postgres, postgres_server

    programs = find_postgres()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed; scripts/bootstrap.sh --tests installs one")
    with postgres_server(programs) as server:
        yield server
