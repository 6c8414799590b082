"""The watch over secrets fails a run that logs one, in whatever way, and no other run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from secret_watch import GOLD_MARKER, SECRETS

TESTS = Path(__file__).resolve().parents[1]
SECRET = "tok-" + "leaked-here"  # in two parts, or pytest's own words about this test would hold it
WAYS = {
    "a debug record": "logging.getLogger('envs.somewhere').debug('%s', SECRET)",
    "a record of another's": "logging.getLogger('uvicorn.error').warning(SECRET)",
    "a traceback": "try:\n        raise ValueError(SECRET)\n    except ValueError:\n        logging.exception('oh')",
    "standard output": "print(SECRET)",
    "standard error of another process": (
        "subprocess.run([sys.executable, '-c', 'import sys; sys.stderr.write(sys.argv[1])', SECRET])"
    ),
    "a server's own output": (
        "from envs.server_process import server_process\n"
        "    with pytest.raises(Exception), server_process(['--env', SECRET], start_timeout_s=60):\n        pass"
    ),
}


def run(folder: Path, *bodies: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    text = f"import logging, subprocess, sys\nimport pytest\nSECRET = {SECRET!r}\n"
    text += "".join(f"def test_{number}():\n    {body}\n" for number, body in enumerate(bodies))
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(folder), "-p", "secret_watch"]
    return subprocess.run(
        [*command, *options, "-p", "no:cacheprovider", str(folder / "test_it.py")],
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_secret_that_is_logged_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, *WAYS.values())
    assert f"{len(WAYS)} passed" in done.stdout, done.stdout + done.stderr
    assert (done.returncode, "secrets that were logged" in done.stdout) == (1, True)
    for number, way in enumerate(WAYS):
        assert f"test_it.py::test_{number}: tok-… " in done.stdout, way
    assert SECRET not in done.stdout


def test_a_distributed_run_fails_as_well(tmp_path: Path) -> None:
    done = run(tmp_path, WAYS["a debug record"], options=("-n", "1"))
    assert (done.returncode, "test_it.py::test_0: tok-… " in done.stdout) == (1, True), done.stdout


def test_a_run_without_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "logging.getLogger('envs').debug('a token of nobody')")
    assert (done.returncode, "secrets" in done.stdout) == (0, False)


def test_it_knows_gold_and_tokens(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("secret-watch-of-the-run")
    for word in (f"{GOLD_MARKER}select", "tok-openenv-play", "token-of-the-server"):
        assert SECRETS.search(f"x{word}y")
    assert not SECRETS.search("max_tokens tokenizer token_ids gold-marker-")
