from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from trainer_doubles import ScriptedRollouts, make_episode

from envs.errors import ConfigError, UnknownPolicy
from envs.types import EpisodeStatus, Task
from rollout_server.chat import ChatFormat
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode, RolloutRequest, SamplingParams, TaskRef
from trainer.eval_figures import EvalReport
from trainer.evaluate import agentbench_score, evaluate, report_of, report_table, wilson_interval


@pytest.mark.parametrize(
    ("wins", "total", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),  # figures of Brown, Cai and DasGupta (2001) and of R's prop.test(correct = FALSE)
        (10, 10, 0.7225, 1.0),
        (8, 10, 0.4902, 0.9433),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_interval(wins: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(wins, total) == pytest.approx((low, high), abs=1e-4)


def episodes(chat: ChatFormat, env: str, results: Sequence[tuple[str, float | None]]) -> list[Episode]:
    made = []
    for number, (type_, reward) in enumerate(results):
        task = Task(env, f"dev/{number}", "dev", type_, "h")
        one = make_episode(chat, task=task, seed=0, request=RolloutRequest(tasks=()), policy="base", index=number)
        status = EpisodeStatus.COMPLETED if reward is not None else EpisodeStatus.INFRASTRUCTURE_ERROR
        made.append(replace(one, reward=reward, status=status, error="" if reward is not None else "db gone"))
    return made


def test_dbbench_score_is_the_mean_over_three_categories(chat: ChatFormat) -> None:
    played = episodes(
        chat,
        "dbbench",
        [("counting", 1), ("ranking", 1), ("other", 0), ("aggregation-SUM", 0), ("INSERT", 1), ("UPDATE", 0)],
    )
    assert agentbench_score("dbbench", played) == pytest.approx((0.5 + 1 + 0) / 3)
    assert agentbench_score("dbbench", played[:4]) == 0.5
    assert agentbench_score("dbbench", []) is None


def test_alfworld_score_is_passed_by_total(chat: ChatFormat) -> None:
    assert agentbench_score("alfworld", episodes(chat, "alfworld", [("a", 1), ("a", 1), ("b", 0), ("b", 0)])) == 0.5


def test_lost_episodes_are_in_no_mean_and_shown(chat: ChatFormat) -> None:
    played = episodes(chat, "dbbench", [("INSERT", 1), ("INSERT", None), ("UPDATE", 0)])
    report = report_of(played, env="dbbench", split="dev", seconds=2.0)
    assert report.score == 0.5
    assert (report.overall.episodes, report.overall.successes, report.episodes) == (2, 1, 3)
    assert report.statuses == {"completed": 2, "infrastructure_error": 1}
    assert report.errors == ("infrastructure_error: db gone",)
    assert [(t.type, t.episodes) for t in report.types] == [("INSERT", 1), ("UPDATE", 1)]
    scored = [played[0], played[2]]
    assert report.turns == sum(len(e.turns) for e in scored) / 2
    assert report.policy_tokens == sum(sum(e.mask) for e in scored) / 2
    assert json.loads(json.dumps(report.to_json()))["types"][0]["high"] == 1.0

    console = Console(width=120, record=True, file=None)
    with console.capture() as shown:
        console.print(report_table(report))
    assert "1 infrastructure error" in shown.get()
    assert "INSERT" in shown.get()


def test_nothing_but_lost_episodes_has_no_score(chat: ChatFormat) -> None:
    report = report_of(episodes(chat, "alfworld", [("a", None)]), env="alfworld", split="dev", seconds=1.0)
    assert report.score is None
    assert (report.overall.low, report.overall.high) == (0.0, 1.0)
    with pytest.raises(ConfigError):
        report_of([], env="alfworld", split="dev", seconds=1.0)


async def test_one_policy_plays_a_whole_evaluation(tokenizer: HFTokenizer) -> None:
    """Where others publish meanwhile, an open policy would be another one for later episodes."""
    service = ScriptedRollouts(tokenizer)
    await service.publish_policy("step-1", Path("step-1"))
    tasks = [TaskRef(env="alfworld", task_id="dev/0")]
    report = await evaluate(service, "alfworld", "dev", tasks=tasks)
    await evaluate(service, "alfworld", "dev", tasks=tasks, policy="base")
    assert [r.policy for r in service.requests] == ["step-1", "base"]
    assert report.policy == "step-1"


async def test_evaluation_is_greedy_and_of_one_split(tokenizer: HFTokenizer) -> None:
    service = ScriptedRollouts(tokenizer)
    tasks = [TaskRef(env="alfworld", task_id=f"dev/{n}") for n in range(3)]
    report = await evaluate(service, "alfworld", "dev", tasks=tasks)
    assert report.task_ids == ("dev/0", "dev/1", "dev/2")
    assert service.requests[0].sampling.temperature == 0
    with pytest.raises(ConfigError, match="not of alfworld/standard"):
        await evaluate(service, "alfworld", "standard", tasks=tasks)
    with pytest.raises(ConfigError, match="no task"):
        await evaluate(service, "alfworld", "dev", tasks=[])


async def test_samples_have_seeds_of_their_own_and_tell_pass_at_k(tokenizer: HFTokenizer) -> None:
    tasks = [TaskRef(env="alfworld", task_id=f"dev/{n}") for n in range(5)]
    hot = SamplingParams(temperature=0.7)

    async def play(samples: int, done: Sequence[Episode] = ()) -> tuple[EvalReport, ScriptedRollouts]:
        service = ScriptedRollouts(tokenizer)
        report = await evaluate(
            service, "alfworld", "dev", tasks=tasks, sampling=hot, samples=samples, run="eval-x", done=done, seed=3
        )
        return report, service

    report, service = await play(4)
    assert report.episodes == 20
    assert (report.overall.episodes, report.overall.tasks, report.samples) == (20, 5, 4)
    assert [p.k for p in report.pass_at_k] == [1, 2, 4]
    assert report.pass_at_k[0].value == pytest.approx(report.overall.success)
    assert len({r.sampling.seed for r in service.requests}) == 4
    assert {r.seed for r in service.requests} == {3}, "the environment is the same each time"
    assert {r.metadata["sample"] for r in service.requests} == {0, 1, 2, 3}
    assert {r.metadata["run"] for r in service.requests} == {"eval-x"}
    fewer, again = await play(2)
    asked = {r.metadata["sample"]: r.sampling.seed for r in service.requests}
    assert {r.metadata["sample"]: r.sampling.seed for r in again.requests}.items() <= asked.items()
    assert fewer.pass_at_k[-1].k == 2

    # What an earlier session played is not played again; a task's other samples are.
    held = [replace(e, metadata={"sample": n}) for n in range(2) for e in episodes_of(service, n)]
    more, rest = await play(4, done=held[:7])
    assert sum(len(r.tasks) for r in rest.requests) == 20 - 7
    assert (more.episodes, more.resumed) == (20, 7)
    assert {(row["task_id"], row["sample"]) for row in more.results} == {
        (f"dev/{n}", s) for n in range(5) for s in range(4)
    }


def episodes_of(service: ScriptedRollouts, number: int) -> list[Episode]:
    size = len(service.requests[number].tasks)
    return service.episodes[number * size : (number + 1) * size]


async def test_an_error_of_one_sample_is_raised_as_itself(tokenizer: HFTokenizer) -> None:
    tasks = [TaskRef(env="alfworld", task_id="dev/0")]
    with pytest.raises(UnknownPolicy, match="no policy never"):
        await evaluate(ScriptedRollouts(tokenizer), "alfworld", "dev", tasks=tasks, samples=3, policy="never")
