"""A run's log as the checks see it: ``metrics.jsonl``, ``config.json``, ``run.json`` and a sample of its episodes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from envs.errors import ConfigError, EnvloopError
from trainer.diagnose.stats import Series

__all__ = ["FINDINGS_FILE", "EpisodeFact", "RunLog", "guess_recipe", "read_document", "read_rows", "read_run"]

FINDINGS_FILE = "findings.jsonl"

_METRICS = "metrics.jsonl"
_EPISODES = 400


@dataclass(frozen=True, slots=True)
class EpisodeFact:
    """What the checks want to know of a stored episode. ``purpose`` is its metadata's (``grpo``, ``evaluation``, …)."""

    id: str
    env: str
    split: str
    task_id: str
    type: str
    content_hash: str
    purpose: str
    status: str
    scored: bool
    reward: float | None
    turns: int
    error: str


@dataclass(frozen=True, slots=True)
class RunLog:
    """One run. ``rows`` hold ``step`` and metrics, in the file's order. ``age_s``: seconds since the last line was
    written, None where nobody knows. ``problems``: lines that could not be read. ``stopped``: the doctor ended the
    run."""

    rows: tuple[Mapping[str, float], ...]
    recipe: str
    config: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    episodes: tuple[EpisodeFact, ...] = ()
    age_s: float | None = None
    problems: tuple[str, ...] = ()
    stopped: bool = False

    def series(self, *names: str) -> Series:
        """The first of these metrics that the log has, over the steps that have it; empty where it has none."""
        for name in names:
            found = [(int(row["step"]), row[name]) for row in self.rows if name in row]
            if found:
                return Series(name, tuple(s for s, _ in found), tuple(v for _, v in found))
        return Series(names[0], (), ())

    def has(self, name: str) -> bool:
        """Whether any step has this metric."""
        return any(name in row for row in self.rows)

    def names(self, prefix: str) -> list[str]:
        """Metrics that begin so, sorted."""
        return sorted(name for name in set[str]().union(*self.rows) if name.startswith(prefix))

    def setting(self, dotted: str, default: Any = None) -> Any:
        """A setting of the recipe (``grpo.beta``), or ``default`` where the recipe is not known or has none."""
        node: Any = self.config
        for part in dotted.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return default
            node = node[part]
        return node if node is not None else default

    def until(self, rows: int) -> RunLog:
        """The log as it was after so many lines."""
        return replace(self, rows=self.rows[:rows])

    @property
    def last_step(self) -> int:
        """The last line's step; 0 for an empty log."""
        return int(self.rows[-1]["step"]) if self.rows else 0


def guess_recipe(config: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> str:
    """``grpo``, ``ppo``, ``dpo``, ``kto`` or ``sft``: what the recipe says, or what the metrics look like."""
    named = config.get("recipe")
    if isinstance(named, str):
        return named
    seen = {name for row in rows[:50] for name in row}
    if "rewards/accuracies" in seen:
        return "dpo"
    if "rewards/margins" in seen:
        return "kto"
    played = any(name.startswith("rollout/") for name in seen) or seen & {"reward_std", "frac_reward_zero_std"}
    return "grpo" if played else "sft"


def read_run(path: Path) -> RunLog:
    """Read a run's folder, or a metrics file alone.

    Lines that are no JSON object with a step are kept as ``problems``: a killed run may leave half a line. Raises
    ConfigError where there is no log at all.
    """
    file = path / _METRICS if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
        age = max(0.0, time.time() - file.stat().st_mtime)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"no metrics can be read from {file}: {error}",
            hint="name a run's folder (with metrics.jsonl: run.report_to has jsonl) or a metrics file",
        ) from error
    rows, problems = read_rows(text.splitlines())
    if not rows:
        raise ConfigError(
            f"{file} holds no step of a run", hint="a metrics file has one JSON object a line, with a step"
        )
    folder = file.parent
    config = read_document(folder / "config.json")
    return RunLog(
        rows=tuple(rows),
        recipe=guess_recipe(config, rows),
        config=config,
        record=read_document(folder / "run.json"),
        episodes=_episodes(folder / "episodes.db"),
        age_s=age,
        problems=tuple(problems),
        stopped=_stopped(folder / FINDINGS_FILE),
    )


def _stopped(path: Path) -> bool:
    """Whether the live doctor ended the run."""
    if not path.is_file():
        return False
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(json.loads(line).get("stopped") for line in lines if line.strip())


def read_rows(lines: Iterable[str]) -> tuple[list[dict[str, float]], list[str]]:
    """Steps from lines of JSON, and what was wrong with the lines that are none. NaN becomes ``non_finite/NAME``."""
    rows: list[dict[str, float]] = []
    problems = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            numbers = {
                k: float(v) for k, v in document.items() if isinstance(v, int | float) and not isinstance(v, bool)
            }
            row = {k: v for k, v in numbers.items() if math.isfinite(v)}
            row |= {f"non_finite/{k}": 1.0 for k, v in numbers.items() if not math.isfinite(v)}
            row["step"] = int(document["step"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"line {number}: {error}")
        else:
            rows.append(row)
    return rows, problems


def read_document(path: Path) -> dict[str, Any]:
    """A JSON object from a file, empty where there is no file. Raises ConfigError for one that is broken."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="mend or remove it; metrics alone will do") from error
    return document if isinstance(document, dict) else {}


def _episodes(path: Path) -> tuple[EpisodeFact, ...]:
    """The newest episodes of the run's own store."""
    if not path.is_file():
        return ()
    from rollout_server.episode_store import EpisodeStore

    facts = []
    try:
        with EpisodeStore(f"sqlite:///{path.resolve()}") as store:
            for summary in store.query(limit=_EPISODES):
                e = store.get(summary.id)
                facts.append(
                    EpisodeFact(
                        id=e.id,
                        env=e.env,
                        split=e.task.split,
                        task_id=e.task.id,
                        type=e.task.type,
                        content_hash=e.task.content_hash,
                        purpose=str(e.metadata.get("purpose", "")),
                        status=e.status.value,
                        scored=e.status.scored,
                        reward=e.reward,
                        turns=len(e.turns),
                        error=e.error,
                    )
                )
    except EnvloopError as error:
        raise ConfigError(
            f"the episodes in {path} cannot be read: {error}", hint="move the file away to go on"
        ) from error
    return tuple(reversed(facts))
