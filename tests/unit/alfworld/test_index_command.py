"""``envloop env index alfworld`` and ``envloop env tasks alfworld``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs import cli
from envs.alfworld.export import write_generated_games
from envs.alfworld.lists import official_names


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six games: one of valid_unseen, five of train, of which one is broken and one known as unsolvable."""
    monkeypatch.setenv("ENVLOOP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    write_generated_games(tmp_path / "data", 6, difficulty="easy")
    broken, unsolvable, official, *_ = sorted((tmp_path / "data").glob("json_2.1.1/train/*/*"))
    (broken / "game.tw-pddl").write_text("{")
    game = json.loads((unsolvable / "game.tw-pddl").read_text())
    (unsolvable / "game.tw-pddl").write_text(json.dumps(game | {"solvable": False}))
    target = tmp_path / "data" / "json_2.1.1" / "valid_unseen" / official_names("valid_unseen")[0]
    target.parent.mkdir(parents=True)
    official.rename(target)
    return tmp_path / "data"


def test_it_says_what_is_here_missing_and_left_out(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["env", "index", "alfworld", "--data-dir", str(data_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["train", "3", "of", "3553", "games", "are", "here"]
    assert lines[1] == "  left out, as alfworld does: 1 (known as unsolvable)"
    assert lines[2].startswith(f"  refused: {data_dir}/json_2.1.1/train/")
    assert "cannot be read as a game" in lines[2]
    assert "valid_unseen               1 of 134 games are here" in lines
    assert f"  missing: {official_names('valid_unseen')[1]}" in lines
    assert "  missing: 130 more; --json names all" in lines
    (index,) = (tmp_path / "cache" / "alfworld").glob("*.sqlite3")
    assert lines[-1] == f"the index is {index}"


def test_json_names_every_missing_game(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "index", "alfworld", "--data-dir", str(data_dir), "--json"]) == 0
    rows = {row["split"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["train"]["skipped"] == {"known as unsolvable": 1}
    assert len(rows["train"]["refused"]) == 1
    assert rows["valid_unseen"]["missing"] == list(official_names("valid_unseen")[1:])
    assert len(rows["agentbench_new_std"]["missing"]) + rows["agentbench_new_std"]["num_games"] == 109


def test_tasks_are_listed_with_their_measures(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["env", "tasks", "alfworld", "--data-dir", str(data_dir)]
    assert cli.main([*how, "--split", "train", "--json"]) == 0
    tasks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(tasks) == 3
    assert all(task["metadata"].keys() == {"plan_length", "receptacles_to_search"} for task in tasks)
    assert cli.main(how) == 0
    assert "ALFWorld's official train games (3 of 3553 are here; 1 refused" in capsys.readouterr().out


def test_without_games_there_is_nothing_to_index(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["env", "index", "alfworld"]) == 2
    assert "envloop env fetch alfworld" in capsys.readouterr().err
    assert cli.main(["env", "index", "dbbench"]) == 2
    assert "nothing to index for 'dbbench'" in capsys.readouterr().err
