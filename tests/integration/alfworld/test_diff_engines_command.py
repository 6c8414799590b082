"""``envloop env diff-engines`` as people run it. What it plays needs the ``alfworld`` extra; what it refuses, not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import KNIFE_IN_SINK, MUG_IN_LIGHT, kitchen

from envs.alfworld.state import State
from envs.cli import main

needs_textworld = pytest.mark.skipif(
    importlib.util.find_spec("textworld") is None, reason="the alfworld extra is not installed"
)


def write(folder: Path, name: str, data: Any) -> None:
    path = folder / name / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))


def run(*arguments: object) -> int:
    return main(["env", "diff-engines", *map(str, arguments)])


@pytest.mark.textworld
@needs_textworld
@pytest.mark.slow
def test_a_folder_of_games_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a/one", kitchen(KNIFE_IN_SINK))
    write(tmp_path, "b/two", kitchen(MUG_IN_LIGHT, dialect="0.2"))
    write(tmp_path, "c/broken", kitchen() | {"pddl_problem": "(define"})
    write(tmp_path, "d/no-json", "{")
    how = ("--games", tmp_path, "--generated", 1, "--judge", "fast", "--jobs", 2, "--steps", 8)
    assert run(*how, "--json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["num_games"], report["num_refused"], report["num_episodes"], report["num_steps"]) == (3, 2, 12, 96)
    assert report["num_differences"] == 0
    assert report["first"] is None
    assert report["judge"].startswith("TextWorld 1.")
    assert report["judge"].endswith("fast")
    assert next(reason for game, reason in report["refused"] if "no-json" in game).endswith("(char 1)")
    assert len(err.splitlines()) == 5
    assert "5 of 5: 96 steps, 0 differences; generated/0" in err
    assert "unbalanced" in err

    assert run(*how, "--dialect", "0.2", "--walkers", "expert, random", "--limit", 1, "--total-steps", 50) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 games, ")
    assert "0 differences (judge: TextWorld" in out


@pytest.mark.textworld
@needs_textworld
def test_a_difference_is_shown_and_gives_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    correct = State.mark
    monkeypatch.setattr(
        State, "mark", lambda self, what, *a, **k: correct(self, what, *a, **k) if what != "istoggled" else None
    )
    write(tmp_path, "lamp", kitchen(MUG_IN_LIGHT))
    assert run("--games", tmp_path, "--judge", "fast", "--walkers", "expert,random") == 1
    out = capsys.readouterr().out
    assert "2 differences" in out
    assert "expert walker, seed 0: won differs after" in out
    assert "  > use desklamp 1\n  -True\n  +False" in out


@pytest.mark.textworld
@needs_textworld
def test_games_that_are_all_refused_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "broken", kitchen() | {"pddl_problem": "(define"})
    assert run("--games", tmp_path) == 2
    out, err = capsys.readouterr()
    assert "refused by the native engine: 1" in out
    assert "none of 1 games could be compared" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--games", "{}/none"), "is no folder"),
        (("--games", "{}"), "holds no game.tw-pddl"),
        (("--generated", "0"), "no game to compare"),
        (("--dialect", "0.3"), "no dialect '0.3'"),
        (("--walkers", "expert,drunk"), "no walker 'drunk'"),
        (("--walkers", ""), "no walker ''"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("envs.alfworld.textworld_engine._PACKAGES", ())  # refused before any worker starts
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1")
    assert run(*(argument.format(tmp_path) for argument in arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err
    assert "what to do: " in err


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.alfworld.textworld_engine._PACKAGES", ("no_such_package",))
    assert run("--generated", 1) == 2
    err = capsys.readouterr().err
    assert "no_such_package" in err
    assert "envloop[alfworld]" in err
