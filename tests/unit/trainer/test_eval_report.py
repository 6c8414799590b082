"""Reports on disk, comparisons with stored evaluations, and what makes two evaluations the same."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from trainer_doubles import make_episode

from envs.errors import ConfigError
from envs.types import EpisodeStatus, Task
from rollout_server.chat import ChatFormat
from rollout_server.episode_store import EpisodeStore
from rollout_server.types import Episode, RolloutRequest
from trainer.config import parse_config
from trainer.eval_compare import compare_reports, comparison_view, load_baseline
from trainer.eval_figures import EvalReport, report_of
from trainer.eval_identity import (
    evaluation_key,
    evaluation_run,
    evaluation_settings,
    folder_digest,
    played_before,
    policy_identity,
)
from trainer.eval_report import report_slug, write_report


def played(
    chat: ChatFormat, won: list[bool], *, samples: int = 1, run: str = "eval-k", kind: str = "pick"
) -> list[Episode]:
    made = []
    for number, success in enumerate(won):
        task = Task("alfworld", f"dev/{number // samples}", "dev", kind if number % 2 else "heat", "h")
        one = make_episode(chat, task=task, seed=number, request=RolloutRequest(tasks=()), policy="base", index=0)
        more = {"run": run, "sample": number % samples}
        made.append(
            replace(one, id=f"{run}-{number}", reward=float(success), status=EpisodeStatus.COMPLETED, metadata=more)
        )
    return made


def reported(
    chat: ChatFormat, won: list[bool], *, samples: int = 1, run: str = "eval-k", **settings: Any
) -> EvalReport:
    known = {"protocol": "agentbench_fc", "temperature": 0.0, "samples": samples, **settings}
    return report_of(
        played(chat, won, samples=samples, run=run),
        env="alfworld",
        split="dev",
        seconds=1.0,
        samples=samples,
        run=run,
        key="0123456789ab",
        store="sqlite:///x y.db",
        settings=known,
        policy_is={"engine": "double"},
    )


def test_a_report_has_figures_plots_and_commands_to_replay_what_failed(tmp_path: Path, chat: ChatFormat) -> None:
    report = reported(chat, [True, False, True, False, False, True, False, True], samples=4, temperature=0.7)
    path = write_report(report, tmp_path)
    assert path == tmp_path / "eval-alfworld-dev-agentbench_fc-t0.7-n4-base-0123456789ab" / "report.md"
    text = path.read_text()
    for part in ("## Settings", "| temperature | 0.7 |", "## Success", "## pass@k", "| 4 |", "## How episodes ended"):
        assert part in text
    assert "envloop replay list --run eval-k --max-reward 0.999 --store 'sqlite:///x y.db'" in text
    assert text.count("envloop replay show eval-k-") == 4
    assert "envloop replay show eval-k-0 " not in text, "that one was won"
    for name in ("success", "turns", "endings", "pass_at_k"):
        assert f"({name}.png)" in text
        assert (path.parent / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    document = json.loads((tmp_path / "eval-alfworld-dev.json").read_text())
    assert document == json.loads((path.parent / "report.json").read_text())
    assert len(document["results"]) == 8
    assert document["pass_at_k"][-1]["k"] == 4

    again = write_report(reported(chat, [True] * 8, samples=4, temperature=0.7), tmp_path, plots=False)
    assert again == path
    assert not list(path.parent.glob("*.png")), "plots of other figures"
    assert "they were not asked for" in path.read_text()
    assert "None." in path.read_text()


def test_nothing_scored_is_reported_too(tmp_path: Path, chat: ChatFormat) -> None:
    lost = [
        replace(e, reward=None, status=EpisodeStatus.INFRASTRUCTURE_ERROR, error="gone") for e in played(chat, [True])
    ]
    path = write_report(report_of(lost, env="alfworld", split="dev", seconds=1.0), tmp_path)
    assert "without a result: infrastructure_error: gone" in path.read_text()


def test_a_report_needs_no_matplotlib_and_loads_it_late(tmp_path: Path) -> None:
    code = "import sys, trainer.eval_report; print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.split() == ["False", "False"]


def test_comparison_with_a_report_a_folder_and_a_run(tmp_path: Path, chat: ChatFormat) -> None:
    before = [False] * 8 + [True, True]
    write_report(reported(chat, before, run="eval-a", temperature=1.0), tmp_path)
    url = f"sqlite:///{tmp_path / 'episodes.db'}"
    with EpisodeStore(url) as store:
        store.add_many(played(chat, before, run="eval-a"))
    now = reported(chat, [True] * 8 + [True, False], run="eval-b")
    for target in (str(tmp_path), str(tmp_path / "eval-alfworld-dev.json"), "eval-a", "base"):
        found = compare_reports(now, load_baseline(target, env="alfworld", split="dev", store_url=url))
        overall = found.paired.overall
        assert (overall.pairs, overall.only_b, overall.only_a) == (10, 8, 1)
        assert overall.difference == pytest.approx(0.7)
        assert overall.p_success == pytest.approx(2 * 10 / 2**9)  # the exact binomial tail
        assert found.mean == pytest.approx(0.7)
        assert found.low > 0
        assert found.differing == (() if target in ("eval-a", "base") else ("temperature",))
    path = write_report(now, tmp_path / "now", comparison=found)
    assert "## Against base" in path.read_text()
    assert json.loads((path.parent / "report.json").read_text())["comparison"]["paired"]["overall"]["only_b"] == 8
    console = Console(width=140)
    with console.capture() as shown:
        console.print(comparison_view(found))
    assert "+70.0%" in shown.get()


def test_several_samples_are_compared_task_by_task(tmp_path: Path, chat: ChatFormat) -> None:
    before, now = reported(chat, [False] * 12, samples=3), reported(chat, [True, False, False] * 4, samples=3)
    write_report(before, tmp_path)
    found = compare_reports(now, load_baseline(str(tmp_path), env="alfworld", split="dev", store_url="sqlite://"))
    assert (found.paired.overall.pairs, found.paired.overall.tasks) == (12, 4)
    assert found.mean == pytest.approx(1 / 3)
    assert found.low < 1 / 3 < found.high
    assert "not independent" in found.paired.overall.note


def test_what_cannot_be_compared_is_refused(tmp_path: Path, chat: ChatFormat) -> None:
    url = f"sqlite:///{tmp_path / 'episodes.db'}"

    def load(target: Path | str, split: str = "dev") -> Any:
        return load_baseline(str(target), env="alfworld", split=split, store_url=url)

    with pytest.raises(ConfigError, match="no such report, folder, run or policy"):
        load("eval-nothing")
    with pytest.raises(ConfigError, match="holds no evaluation of alfworld/dev"):
        load(tmp_path)
    write_report(reported(chat, [True]), tmp_path)
    with pytest.raises(ConfigError, match="is of alfworld/dev, not of alfworld/standard"):
        load(tmp_path / "eval-alfworld-dev.json", "standard")
    (tmp_path / "old.json").write_text('{"score": 1}')
    with pytest.raises(ConfigError, match="no report of an evaluation with its episodes"):
        load(tmp_path / "old.json")
    other = [replace(e, task=replace(e.task, id="dev/99")) for e in played(chat, [True])]
    strange = report_of(other, env="alfworld", split="dev", seconds=1.0)
    with pytest.raises(ConfigError, match="no task in common"):
        compare_reports(strange, load(tmp_path))


def test_a_key_tells_how_it_is_played_and_by_whom_and_not_how_much(tmp_path: Path) -> None:
    def key(tree: dict[str, Any] | None = None, *, adapter: Path | None = None, split: str = "dev") -> str:
        config = parse_config({"rollout": {"engine": "random"}, **(tree or {})})
        settings = evaluation_settings(config, "alfworld", split, type=None, max_episode_tokens=100)
        return evaluation_key(settings, policy_identity(config, with_model=False, policy="base", adapter=adapter))

    hot = {"eval": {"temperature": 0.5}}
    assert key(hot) == key({"eval": {"temperature": 0.5, "samples": 4, "limit": 9}})
    seen = [key(), key(hot), key(split="standard"), key({"run": {"seed": 1}}), key({"rollout": {"engine": "noop"}})]
    seen.append(key({"rollout": {"engine": "random", "protocol": "agentbench_classic"}}))
    assert len(set(seen)) == len(seen)

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"1" * 10)
    first = key({"rollout": {"engine": "openai"}}, adapter=tmp_path / "a")
    assert first == key({"rollout": {"engine": "openai"}}, adapter=tmp_path / "a")
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"2" * 10)
    assert first != key({"rollout": {"engine": "openai"}}, adapter=tmp_path / "a")
    with pytest.raises(ConfigError, match="holds no weights"):
        folder_digest(tmp_path)


def test_runs_are_numbered_and_resumed_by_their_last(chat: ChatFormat) -> None:
    with EpisodeStore("sqlite://") as store:
        assert evaluation_run(store, "k", resume=True) == evaluation_run(store, "k", resume=False) == "eval-k"
        first = played(chat, [True, False, True], run="eval-k")
        again = replace(first[0], id="again", reward=0.0, started_at="2030")
        dead = replace(first[2], id="dead", reward=None, status=EpisodeStatus.INFRASTRUCTURE_ERROR)
        other = replace(first[0], id="other", metadata={"run": "eval-k", "sample": 1})
        store.add_many([first[0], first[1], again, dead, other])
        assert evaluation_run(store, "k", resume=True) == "eval-k"
        assert evaluation_run(store, "k", resume=False) == "eval-k-2"
        assert {e.id for e in played_before(store, "eval-k")} == {first[0].id, first[1].id, "other"}
        store.add_many(played(chat, [True], run="eval-k-2"))
        assert evaluation_run(store, "k", resume=True) == "eval-k-2"


def test_an_adapters_time_stamp_is_not_in_the_name_of_its_report(chat: ChatFormat) -> None:
    report = replace(reported(chat, [True]), policy="eval-best-18e4fa9b3c2d1e00")
    assert report_slug(report) == "alfworld-dev-agentbench_fc-t0-n1-eval-best-0123456789ab"
