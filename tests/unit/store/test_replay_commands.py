"""``envloop replay …`` on a stored episode, and how little it loads to say what it can."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from episode_samples import sample_episode
from typer.testing import CliRunner

from envs.errors import ConfigError, InvalidOption, UnknownEpisode
from envs.types import Task
from rollout_server.cli import rollout_app
from rollout_server.episode_store import EpisodeStore
from rollout_server.replay_cli import replay_app
from rollout_server.serialize import episode_from_json
from trainer.cli import train_app
from trainer.demo import app as demo_app
from trainer.eval_cli import eval_app


@pytest.fixture
def store_url(tmp_path):
    return f"sqlite:///{tmp_path / 'episodes.db'}"


@pytest.fixture
def run(store_url, monkeypatch):
    with EpisodeStore(store_url) as store:
        store.add_many([sample_episode(), sample_episode(id="ffff", env="dbbench", metadata={"run": "second"})])
    monkeypatch.setenv("ENVLOOP_STORE_URL", store_url)

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


def test_every_filter_is_an_option_and_repeats(run):
    def found(*args):
        return {json.loads(line)["id"] for line in run("list", "--json", *args).stdout.splitlines()}

    both = {"0f3a5c7e9b1d", "ffff"}
    assert found("--env", "alfworld", "--env", "dbbench") == both
    assert found("--status", "completed", "--status", "cancelled", "--min-reward", "1", "--max-reward", "1") == both
    assert found("--type", "pick_and_place_simple", "--split", "generated", "--task", "generated/7") == both
    assert found("--protocol", "agentbench_fc", "--engine", "scripted", "--model", "expert", "--group", "g1") == both
    assert found("--policy", "base", "--run", "second") == {"ffff"}
    assert found("--since", "2026-01-02", "--until", "2026-01-03") == both
    assert found("--since", "2026-01-03T00:00") == set()
    for bad in (("--since", "soon"), ("--status", "bogus")):
        with pytest.raises(InvalidOption):
            run("list", *bad)


def test_stats(run):
    rows = [json.loads(line) for line in run("stats", "--by", "env,run", "--json").stdout.splitlines()]
    assert [(row["key"], row["episodes"], row["success"]) for row in rows] == [
        ({"env": "alfworld", "run": "first"}, 1, 1.0),
        ({"env": "dbbench", "run": "second"}, 1, 1.0),
    ]
    assert "100.0 %" in run("stats", "--by", "task", "--by", "type", "--env", "alfworld").stdout
    with pytest.raises(InvalidOption, match="no key colour"):
        run("stats", "--by", "colour")


def test_prune_says_what_went(run):
    assert run("prune", "--keep-last", "1", "--dry-run").stdout.startswith("would delete 1 of 2 episodes")
    assert run("prune", "--keep-last", "0", "--env", "dbbench").stdout.startswith("deleted 1 of 1 episodes")
    report = json.loads(run("prune", "--older-than", "1d", "--max-bytes", "1G", "--json", "--dry-run").stdout)
    assert (report["matched"], report["deleted"]) == (1, 1)
    with pytest.raises(InvalidOption, match="nothing says which"):
        run("prune")
    with pytest.raises(InvalidOption, match="is no size"):
        run("prune", "--max-bytes", "lots")


def test_export_of_many(run, tmp_path):
    path = tmp_path / "all.jsonl"
    told = run("export", "--format", "jsonl", "--all", "-o", str(path))
    assert "2 episodes of alfworld/generated (1), dbbench/generated (1)" in told.stderr
    assert len(path.read_text().splitlines()) == 2
    (line,) = run("export", "ffff", "--format", "jsonl").stdout.splitlines()
    assert episode_from_json(json.loads(line)).id == "ffff"
    (row,) = [json.loads(line) for line in run("export", "--run", "first", "--format", "chat").stdout.splitlines()]
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert run("export", "--env", "alfworld", "--format", "parquet", "-o", str(tmp_path / "e.parquet")).exit_code == 0
    assert len(run("export", "--all", "--format", "agentbench").stdout.splitlines()) == 2
    for bad in (("--format", "jsonl"), ("--all", "--format", "html"), ("ffff", "--all", "--format", "jsonl")):
        with pytest.raises(InvalidOption):
            run("export", *bad)


def test_an_evaluation_split_goes_into_training_data_only_by_its_name(run, store_url):
    held_out = sample_episode(id="eval", task=Task("alfworld", "valid_seen/1", "valid_seen", "t", "h"))
    with EpisodeStore(store_url) as store:
        store.add(held_out)
    with pytest.raises(ConfigError, match="an evaluation split"):
        run("export", "--all", "--format", "chat")
    named = run("export", "--all", "--format", "chat", "--allow-eval-split", "alfworld/valid_seen")
    assert len(named.stdout.splitlines()) == 3


def test_compare(run, store_url):
    with EpisodeStore(store_url) as store:
        for n in range(12):
            task = Task("alfworld", f"generated/{n}", "generated", ("heat", "cool")[n % 2], "h")
            for policy, reward in (("old", float(n < 2)), ("new", float(n < 10))):
                name = f"{policy}-{n}"
                changes = {"policy": policy, "reward": reward, "metadata": {"run": f"run-{policy}"}}
                store.add(sample_episode(id=name, task=task, **changes))
    told = json.loads(run("compare", "old", "new", "--json").stdout)
    assert (told["overall"]["only_a"], told["overall"]["only_b"], told["overall"]["pairs"]) == (0, 8, 12)
    assert told["overall"]["p_success"] == 2 / 2**8
    assert json.loads(run("compare", "run-old", "run=run-new", "--json").stdout)["overall"] == told["overall"]
    few = json.loads(run("compare", "old", "policy=new,type=heat", "--type", "cool", "--json").stdout)
    assert few["overall"]["pairs"] == 0
    shown = run("compare", "old", "new", "--flips", "3")
    for part in ("A: old", "+66.7", "0.0078", "heat: too few: 4 of 6 pairs differ", "+ generated/2"):
        assert part in shown.stdout
    assert "5 more flipped" in shown.stderr
    with pytest.raises(InvalidOption, match="no episode is of 'nobody'"):
        run("compare", "old", "nobody")


def test_commands_that_touch_episodes_need_some_named(run):
    for args in (
        ("verify",),
        ("rescore", "--rules", "fc"),
        ("verify", "ffff", "--all"),
        ("export", "--format", "chat"),
    ):
        with pytest.raises(InvalidOption, match=r"no episode is named|not taken together"):
            run(*args)
    for args in (("fork", "ffff", "--at", "1"), ("fork", "ffff", "--at", "1", "--by-hand", "--engine", "noop")):
        with pytest.raises(InvalidOption, match="who goes on"):
            run(*args)
    with pytest.raises(InvalidOption, match="by hand one episode"):
        run("fork", "ffff", "--at", "1", "--by-hand", "--count", "2")
    with pytest.raises(InvalidOption, match="an adapter needs a name"):
        run("fork", "ffff", "--at", "1", "--engine", "noop", "--adapter", "x")


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
