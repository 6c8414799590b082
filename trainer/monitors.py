"""Where metrics go: console, a JSONL file, TensorBoard, wandb, trackio; and one episode, its trained tokens marked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.text import Text

from rollout_server.engines.base import Tokenizer
from trainer.config import TrainConfig
from trainer.diagnose.live import DoctorSink
from trainer.record import write_json
from trainer.status import StatusSink
from trainer.trackers import TrackioSink, WandbSink

__all__ = [
    "METRICS_FILE",
    "ConsoleSink",
    "JsonlSink",
    "MetricSink",
    "TensorBoardSink",
    "TextSink",
    "example_text",
    "finite_numbers",
    "open_sinks",
]

METRICS_FILE = "metrics.jsonl"

_SHOWN = (
    ("loss", "loss", ".4f"),
    ("rollout/reward", "reward", ".3f"),
    ("rollout/success", "success", ".0%"),
    ("rollout/group_reward_std", "group std", ".3f"),
    ("rollout/turns", "turns", ".1f"),
    ("rollout/invalid_turns", "invalid", ".0%"),
    ("rollout/infrastructure_failures", "infra", ".0f"),
    ("sampling/sampling_logp_difference/mean", "|Δlogp|", ".4f"),
    ("rewards/margins", "margin", ".3f"),
    ("rewards/accuracies", "pairs right", ".0%"),
    ("critic/explained_variance", "critic", ".2f"),
    ("grad_norm", "grad", ".3f"),
    ("mean_token_accuracy", "accuracy", ".3f"),
    ("rollout/tokens_per_s", "tok/s", ".0f"),
)


class MetricSink(Protocol):
    """Takes the metrics of each step."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report one step."""
        ...

    def close(self) -> None:
        """Flush and free."""
        ...


@runtime_checkable
class TextSink(Protocol):
    """A sink that takes texts too: samples of episodes."""

    def write_text(self, step: int, name: str, text: str) -> None:
        """Show a text in Markdown at a step."""
        ...


class ConsoleSink:
    """One line a step."""

    def __init__(self, console: Console, *, steps: int) -> None:
        self._console = console
        self._steps = steps

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the figures that are there, in a fixed order."""
        parts = [f"{label} {metrics[key]:{form}}" for key, label, form in _SHOWN if key in metrics]
        self._console.print(Text(f"step {step}/{self._steps}  " + "  ".join(parts)))

    def close(self) -> None:
        """Nothing to free."""


class JsonlSink:
    """One JSON object a step. On resume, what an abandoned continuation wrote after ``after_step`` is dropped."""

    def __init__(self, path: Path, *, after_step: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]  # a kill may have cut the last one
            kept = [line for line in whole if line.strip() and json.loads(line)["step"] <= after_step]
        path.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append and flush: a killed run keeps its metrics."""
        self._file.write(json.dumps({"step": step, **metrics}, sort_keys=True) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardSink:
    """Event files for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar a metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def write_text(self, step: int, name: str, text: str) -> None:
        """One entry in the texts."""
        self._writer.add_text(name, text, step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


def open_sinks(config: TrainConfig, console: Console, *, steps: int, after_step: int = 0) -> list[MetricSink]:
    """The sinks that ``run.report_to`` names, the one that keeps the run's status, and the doctor."""
    folder = config.run.output_dir
    makers: dict[str, Any] = {
        "console": lambda: ConsoleSink(console, steps=steps),
        "jsonl": lambda: JsonlSink(folder / METRICS_FILE, after_step=after_step),
        "tensorboard": lambda: TensorBoardSink(folder / "tensorboard"),
        "wandb": lambda: WandbSink(config, after_step=after_step),
        "trackio": lambda: TrackioSink(config, after_step=after_step),
    }
    document = config.model_dump(mode="json")
    write_json(folder / "config.json", document)
    sinks: list[MetricSink] = [makers[name]() for name in dict.fromkeys(config.run.report_to)]
    sinks.append(StatusSink(folder, steps=steps, after_step=after_step))
    if config.doctor.every:  # the last one: what it says stands below the step's own line
        doctor = DoctorSink(
            folder,
            document,
            every=config.doctor.every,
            stop_on=config.doctor.stop_on,
            console=console if "console" in config.run.report_to else None,
            after_step=after_step,
        )
        sinks.append(doctor)
    return sinks


def finite_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among metrics, as floats. A figure NAME that is NaN or infinite becomes ``non_finite/NAME``:
    1.0, for no JSON can hold it and nobody should miss it."""
    numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {k if math.isfinite(v) else f"non_finite/{k}": v if math.isfinite(v) else 1.0 for k, v in numbers.items()}


def example_text(
    prompt_ids: Sequence[int], completion_ids: Sequence[int], mask: Sequence[int], tokenizer: Tokenizer
) -> Text:
    """A training row as a reader sees it: trained tokens in green, everything else dimmed."""
    text = Text()
    text.append(tokenizer.decode(prompt_ids), style="dim")  # as the style of all it would dim the green too
    start = 0
    for end in range(1, len(mask) + 1):
        if end == len(mask) or mask[end] != mask[start]:
            text.append(tokenizer.decode(completion_ids[start:end]), style="bold green" if mask[start] else "dim")
            start = end
    return text
