"""The figures of an evaluation's episodes: success by task type with an interval, AgentBench's aggregate, pass@k.

Scores follow AgentBench (THUDM/AgentBench): ALFWorld is passed / total; DB Bench is the mean of the accuracies of
SELECT-like, INSERT and UPDATE tasks. Episodes that our machinery lost are in no mean; they are counted and shown.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from rich.table import Table

from envs.errors import ConfigError
from rollout_server.episode_store import summarize
from rollout_server.types import Episode
from trainer.batch import invalid_turn
from trainer.eval_stats import PassAtK, TaskTrials, clustered_interval, pass_curve, wilson_interval

__all__ = ["EvalReport", "TypeScore", "agentbench_score", "report_of", "report_table", "sample_of", "task_trials"]

_MUTATIONS = ("INSERT", "UPDATE")


@dataclass(frozen=True, slots=True)
class TypeScore:
    """Scored episodes of one task type. ``low`` and ``high`` bound the success rate with 95 % confidence.

    With several episodes of a task, ``success`` is the mean over tasks of their rates (pass@1), and the interval a
    bootstrap over tasks; with one it is Wilson's.
    """

    type: str
    episodes: int
    successes: int
    success: float
    low: float
    high: float
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class EvalReport:
    """An evaluation. ``score`` is AgentBench's aggregate, None where nothing was scored.

    ``turns`` and ``policy_tokens`` are means over scored episodes; ``statuses`` counts every episode, those of
    infrastructure errors and cancellations too, which are in nothing else. ``errors`` are the first messages of these.

    ``samples``: episodes of each task; ``pass_at_k`` tells more where they are several. ``settings`` and ``policy_is``
    say what was played and by whom, ``key`` is their hash; episodes are stored under ``run`` in ``store``. ``resumed``
    of them had been played before; ``seconds`` and ``tokens_per_s`` are of this session alone. ``results`` are the
    episodes' summaries, each with its ``sample``. ``length_unit`` is bytes where no tokenizer is known.
    """

    env: str
    split: str
    engine: str
    model: str
    policy: str
    protocol: str
    episodes: int
    score: float | None
    overall: TypeScore
    types: tuple[TypeScore, ...]
    turns: float
    policy_tokens: float
    invalid_turns: float
    statuses: dict[str, int]
    errors: tuple[str, ...]
    seconds: float
    tokens_per_s: float
    task_ids: tuple[str, ...]
    samples: int = 1
    pass_at_k: tuple[PassAtK, ...] = ()
    length_unit: str = "tokens"
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy_is: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    run: str = ""
    store: str = ""
    resumed: int = 0
    results: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {"schema": "envloop.eval_report/1", **asdict(self)}


def agentbench_score(env: str, scored: Sequence[Episode]) -> float | None:
    """AgentBench's aggregate in [0, 1]: for DB Bench the mean over the categories played, else the success rate."""
    if not scored:
        return None
    groups: dict[str, list[bool]] = defaultdict(list)
    for e in scored:
        category = (e.task.type if e.task.type in _MUTATIONS else "SELECT") if env == "dbbench" else ""
        groups[category].append(e.success)
    return fmean(fmean(values) for values in groups.values())


def sample_of(episode: Episode) -> int:
    """Which of its task's episodes it is, from 0."""
    return int(episode.metadata.get("sample", 0))


def task_trials(scored: Sequence[Episode]) -> dict[str, TaskTrials]:
    """Trials and successes by task id."""
    trials, wins = Counter(e.task.id for e in scored), Counter(e.task.id for e in scored if e.success)
    return {task: TaskTrials(n, wins[task]) for task, n in trials.items()}


def report_of(
    episodes: Sequence[Episode],
    *,
    env: str,
    split: str,
    seconds: float,
    samples: int = 1,
    seed: int = 0,
    resumed: Sequence[Episode] = (),
    **more: Any,
) -> EvalReport:
    """The figures of played episodes; ``more`` are further fields. Raises ConfigError for none at all.

    ``resumed``: those of them that an earlier session had played. ``seed`` is that of the bootstrap.
    """
    if not episodes:
        raise ConfigError(f"no episode of {env}/{split} was played", hint="raise the limit or choose other task types")
    scored = [e for e in episodes if e.status.scored]
    by_type: dict[str, list[Episode]] = defaultdict(list)
    for e in scored:
        by_type[e.task.type].append(e)
    turns = [t for e in scored for t in e.turns if not t.given]
    tokens = sum(sum(e.mask) for e in scored)
    before = {e.id for e in resumed}
    tokens_now = sum(sum(e.mask) for e in scored if e.id not in before)
    lost = [f"{e.status.value}: {e.error}" for e in episodes if not e.status.scored]
    first = episodes[0]
    return EvalReport(
        env=env,
        split=split,
        engine=first.engine,
        model=first.model,
        policy=first.policy,
        protocol=first.protocol,
        episodes=len(episodes),
        score=agentbench_score(env, scored),
        overall=_score("all", scored, seed=seed),
        types=tuple(_score(name, by_type[name], seed=seed) for name in sorted(by_type)),
        turns=fmean(len(e.turns) for e in scored) if scored else 0.0,
        policy_tokens=tokens / len(scored) if scored else 0.0,
        invalid_turns=fmean(invalid_turn(t) for t in turns) if turns else 0.0,
        statuses={str(k): v for k, v in sorted(Counter(e.status.value for e in episodes).items())},
        errors=tuple(dict.fromkeys(lost))[:5],
        seconds=seconds,
        tokens_per_s=tokens_now / seconds if seconds > 0 else 0.0,
        task_ids=tuple(dict.fromkeys(e.task.id for e in episodes)),
        samples=samples,
        pass_at_k=pass_curve(list(task_trials(scored).values()), samples=samples, seed=seed),
        resumed=len(resumed),
        results=tuple({**summarize(e).to_json(), "sample": sample_of(e)} for e in episodes),
        **more,
    )


def report_table(report: EvalReport) -> Table:
    """The report to look at."""
    score = "none" if report.score is None else f"{report.score:.1%}"
    table = Table(
        title=f"{report.env} {report.split}: {report.model} ({report.policy}), {report.protocol}: {score}",
        caption=f"{report.turns:.1f} turns and {report.policy_tokens:.0f} {report.length_unit} an episode, "
        f"{report.invalid_turns:.0%} invalid turns; "
        + ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in report.statuses.items()),
    )
    table.add_column("task type")
    for name in ("episodes", "success", "95 % interval"):
        table.add_column(name, justify="right")
    for row in (*report.types, report.overall):
        table.add_row(
            row.type,
            str(row.episodes),
            f"{row.success:.1%}",
            f"{row.low:.1%} … {row.high:.1%}",
            end_section=row is report.types[-1] if report.types else False,
        )
    if report.samples > 1:
        table.caption = f"{table.caption}; " + ", ".join(f"pass@{p.k} {p.value:.1%}" for p in report.pass_at_k)
    return table


def _score(name: str, scored: Sequence[Episode], *, seed: int) -> TypeScore:
    wins = sum(e.success for e in scored)
    trials = task_trials(scored)
    if all(t.trials == 1 for t in trials.values()):
        low, high = wilson_interval(wins, len(scored))
        success = wins / len(scored) if scored else 0.0
    else:
        rates = [t.successes / t.trials for t in trials.values()]
        low, high = clustered_interval(rates, seed=seed)
        success = fmean(rates)
    return TypeScore(name, len(scored), wins, success, low, high, len(trials))
