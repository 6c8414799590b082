"""The doctor beside a run: the same checks every so many steps, each finding told once, a stop where one is wanted."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from trainer.diagnose.checks import examine
from trainer.diagnose.findings import Finding, Severity
from trainer.diagnose.log import FINDINGS_FILE, RunLog, read_document, read_rows
from trainer.diagnose.thresholds import Thresholds

__all__ = ["DoctorSink", "stop_if_asked"]

logger = logging.getLogger(__name__)
_COLOURS = {Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}


class DoctorSink:
    """A metric sink that examines the log so far every ``every`` steps, and at the end.

    A new finding is printed (``console`` None prints nothing) and appended to ``findings.jsonl`` of the run's folder;
    one that has become worse is told again. The first warning of a check in ``stop_on`` sets ``stop``.

    Args:
        folder: the run's folder; its ``run.json`` is read at each look, and on resume its ``metrics.jsonl``.
        config: the recipe as JSON.
        after_step: the step that a resumed run goes on from.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        every: int,
        stop_on: Iterable[str] = (),
        console: Console | None = None,
        after_step: int = 0,
        thresholds: Thresholds | None = None,
    ) -> None:
        self.stop: Finding | None = None
        self._folder = folder
        self._config = config
        self._every = every
        self._stop_on = frozenset(stop_on)
        self._console = console
        self._thresholds = thresholds
        self._rows: list[Mapping[str, float]] = []
        self._told: dict[tuple[str, str], Severity] = {}
        self._looked_at = 0
        self._broken = False
        self._take_up(after_step)

    def _take_up(self, after_step: int) -> None:
        """What an earlier part of the run left, up to the step that this one goes on from."""
        metrics, findings = self._folder / "metrics.jsonl", self._folder / FINDINGS_FILE
        if after_step and metrics.is_file():
            rows, _ = read_rows(metrics.read_text(encoding="utf-8").splitlines())
            self._rows = [row for row in rows if row["step"] <= after_step]
            self._looked_at = len(self._rows)
        kept = []
        if findings.is_file():
            for line in findings.read_text(encoding="utf-8").splitlines():
                document = json.loads(line)
                if document["first_step"] <= after_step:
                    kept.append(json.dumps({**document, "stopped": False}, sort_keys=True))
                    self._told[document["check"], document["subject"]] = Severity(document["severity"])
            findings.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take a step's metrics; look where it is time."""
        self._rows.append({**metrics, "step": float(step)})
        if len(self._rows) - self._looked_at >= self._every:
            self.look()

    def close(self) -> None:
        """Look once more, so that the end of the run is seen too."""
        if len(self._rows) > self._looked_at:
            self.look()

    def look(self) -> list[Finding]:
        """Examine the log now; gives what was not told before."""
        self._looked_at = len(self._rows)
        if self._broken:
            return []
        try:
            record = read_document(self._folder / "run.json")
            log = RunLog(tuple(self._rows), str(self._config.get("recipe", "grpo")), self._config, record)
            found, _ = examine(log, self._thresholds)
        except Exception:  # training of hours must not die of a check that fails
            self._broken = True
            logger.exception("the doctor's checks failed and are off for the rest of this run")
            return []
        new = [f for f in found if f.key not in self._told or f.severity.rank > self._told[f.key].rank]
        for finding in new:
            self._told[finding.key] = finding.severity
            if finding.check in self._stop_on and finding.severity is not Severity.NOTE and self.stop is None:
                self.stop = finding
            self._tell(finding)
        return new

    def _tell(self, finding: Finding) -> None:
        line = json.dumps({**finding.to_json(), "stopped": self.stop is finding}, sort_keys=True)
        with (self._folder / FINDINGS_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._console is not None:
            self._console.print(Text(f"doctor: {finding.sentence()}", style=_COLOURS[finding.severity]))
            if self.stop is finding:
                self._console.print(Text(f"doctor: the run stops here: doctor.stop_on has {finding.check}"))


def stop_if_asked(sinks: Iterable[object], control: Any) -> None:
    """Let transformers' trainer save and end where a sink asks for it. Call it from ``on_log``, after the sinks."""
    if any(getattr(sink, "stop", None) is not None for sink in sinks):
        control.should_save = True
        control.should_training_stop = True
