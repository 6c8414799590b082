"""``envloop replay …`` on a stored episode, and how little it loads to say what it can."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from episode_samples import sample_episode
from typer.testing import CliRunner

from envs.errors import InvalidOption, UnknownEpisode
from rollout_server.cli import rollout_app
from rollout_server.episode_store import EpisodeStore
from rollout_server.replay_cli import replay_app
from rollout_server.serialize import episode_from_json
from trainer.cli import eval_app, train_app
from trainer.demo import app as demo_app


@pytest.fixture
def run(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'episodes.db'}"
    with EpisodeStore(url) as store:
        store.add_many([sample_episode(), sample_episode(id="ffff", env="dbbench", metadata={"run": "second"})])
    monkeypatch.setenv("ENVLOOP_STORE_URL", url)

    def invoke(*args):
        return CliRunner().invoke(replay_app, args, catch_exceptions=False)

    return invoke


def test_list(run):
    found = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert {s["id"] for s in found} == {"0f3a5c7e9b1d", "ffff"}
    (one,) = [json.loads(line) for line in run("list", "--json", "--run", "second").stdout.splitlines()]
    assert (one["id"], one["reward"], one["status"]) == ("ffff", 1.0, "completed")
    assert "0f3a5c7e9b1d" in run("list", "--env", "alfworld").stdout


def test_show_by_the_beginning_of_an_id(run):
    assert "go to bed 1" in run("show", "0f3a").stdout


def test_export_json_is_the_whole_episode(run, tmp_path):
    assert episode_from_json(json.loads(run("export", "0f3a", "--format", "json").stdout)) == sample_episode()
    assert run("export", "0f3a", "--format", "json", "-o", str(tmp_path / "e.json")).exit_code == 0
    assert episode_from_json(json.loads((tmp_path / "e.json").read_text())) == sample_episode()


def test_export_html(run, tmp_path):
    run("export", "0f3a", "-o", str(tmp_path / "e.html"))
    assert (tmp_path / "e.html").read_text().startswith("<!doctype html>")


def test_what_is_not_there_is_said(run):
    with pytest.raises(UnknownEpisode):
        run("show", "nothing")
    with pytest.raises(InvalidOption, match="json or html"):
        run("export", "0f3a", "--format", "pdf")


def test_a_status_that_does_not_exist_is_refused_with_those_that_do(run):
    with pytest.raises(InvalidOption, match="no status 'bogus'") as refused:
        run("list", "--status", "bogus")
    assert "completed" in refused.value.hint
    assert "truncated_tokens" in refused.value.hint
    assert "0f3a5c7e9b1d" in run("list", "--status", "completed").stdout
    assert run("list", "--status", "cancelled", "--json").stdout == ""


@pytest.mark.parametrize("app", [rollout_app, replay_app, train_app, eval_app, demo_app])
def test_no_app_offers_to_complete_a_part_of_the_command(app):
    assert "completion" not in CliRunner().invoke(app, ["--help"], catch_exceptions=False).stdout


@pytest.mark.parametrize("command", ["replay", "rollout"])
def test_help_loads_no_heavy_library(command):
    code = (
        "import sys; from envs.cli import main; status = main([sys.argv[1], '--help']); "
        "heavy = {'torch', 'vllm', 'transformers', 'sqlalchemy', 'fastapi', 'alembic'}; "
        "print(sorted(heavy & set(sys.modules)), status)"
    )
    out = subprocess.run([sys.executable, "-c", code, command], capture_output=True, check=True, text=True)
    assert out.stdout.splitlines()[-1] == "[] 0"
