"""Metrics to wandb and to trackio. Both go on with the same run where a run is resumed."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from trainer.config import TrainConfig
from trainer.shown_settings import shown_settings

__all__ = ["TrackioSink", "WandbSink"]


class WandbSink:
    """A run on Weights & Biases. Project, entity, key and mode come from wandb's own environment variables."""

    def __init__(self, config: TrainConfig, *, after_step: int = 0) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("run.report_to names wandb, which is not installed", hint="pip install wandb") from error
        self._html: Any = wandb.Html
        self._run: Any = wandb.init(
            id=_run_id(config.run.output_dir, "wandb", keep=after_step > 0),
            resume="allow",
            name=config.run.policy_prefix,
            config=shown_settings(config.model_dump(mode="json")),
            dir=str(config.run.output_dir),
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one step."""
        self._run.log(dict(metrics), step=step)

    def write_text(self, step: int, name: str, text: str) -> None:
        """Log a text, as it is, beside the metrics of the step."""
        from html import escape

        self._run.log({name: self._html(f"<pre>{escape(text)}</pre>", inject=False)}, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class TrackioSink:
    """A run in trackio's local database (``TRACKIO_DIR``, else the Hugging Face cache). ``trackio show`` opens it.

    The project is ``TRACKIO_PROJECT`` or ``envloop``. Nothing leaves this machine unless its own variables say so.
    """

    def __init__(self, config: TrainConfig, *, after_step: int = 0) -> None:
        try:
            import trackio
        except ImportError as error:
            hint = "pip install trackio"
            raise ConfigError("run.report_to names trackio, which is not installed", hint=hint) from error
        self._trackio: Any = trackio
        # Runs are told apart by their names there.
        name = f"{config.run.policy_prefix}-{_run_id(config.run.output_dir, 'trackio', keep=after_step > 0)}"
        with contextlib.redirect_stdout(sys.stderr):  # it prints, and our standard output is a command's answer
            self._run: Any = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", "envloop"),
                name=name,
                resume="allow",
                config=shown_settings(config.model_dump(mode="json")),
                embed=False,
            )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one step."""
        self._run.log(dict(metrics), step=step)

    def write_text(self, step: int, name: str, text: str) -> None:
        """Log a text in Markdown beside the metrics of the step."""
        self._run.log({name: self._trackio.Markdown(text)}, step=step)

    def close(self) -> None:
        """Write what is left to the database."""
        with contextlib.redirect_stdout(sys.stderr):
            self._trackio.finish()


def _run_id(folder: Path, tracker: str, *, keep: bool) -> str:
    """The id that the run in ``folder`` has at a tracker: a new one, or with ``keep`` the one that it had."""
    file = folder / f"{tracker}-run-id"
    if keep and file.is_file():
        return file.read_text(encoding="utf-8").strip()
    made = secrets.token_hex(4)
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(made + "\n", encoding="utf-8")
    return made
