"""A few episodes of a batch to read while a run goes on: the best, the worst and the longest, each with its replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rollout_server.replay_view import visible
from rollout_server.types import Episode
from trainer.config import TrainConfig
from trainer.monitors import MetricSink, TextSink
from trainer.services import store_url

__all__ = ["EpisodeSamples", "choose_samples", "replay_command", "samples_text"]

_TEXT = 600
_TURNS = 12


class EpisodeSamples:
    """Writes ``samples/step-N.md`` every ``run.samples_every`` steps, and the same to every sink that takes texts.

    Call it with the episodes of each batch and the step that they are trained in.
    """

    def __init__(self, config: TrainConfig, sinks: Sequence[MetricSink]) -> None:
        self._folder = config.run.output_dir / "samples"
        self._every = config.run.samples_every
        self._sinks = sinks
        self._command = replay_command(config)
        self._next = 0

    def __call__(self, episodes: Sequence[Episode], *, step: int) -> Path | None:
        """The file that was written, None where it is not the time for one or nothing was scored."""
        chosen = choose_samples(episodes) if self._every and step >= self._next else {}
        if not chosen:
            return None
        self._next = step + self._every
        text = samples_text(chosen, step=step, command=self._command)
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"step-{step}.md"
        file.write_text(text, encoding="utf-8")
        for sink in self._sinks:
            if isinstance(sink, TextSink):
                sink.write_text(step, "samples", text)
        return file


def choose_samples(episodes: Sequence[Episode]) -> dict[str, Episode]:
    """``best`` and ``worst`` by training reward and ``longest`` by turns, of the scored ones; each episode once."""
    scored = [e for e in episodes if e.status.scored]
    chosen: dict[str, Episode] = {}
    for label, key in _ORDERS.items():
        rest = [e for e in scored if e not in chosen.values()]
        if rest:
            chosen[label] = max(rest, key=key)
    return chosen


def _reward(episode: Episode) -> float:
    return episode.training_reward or 0.0


# Of equal ones the shorter says more.
_ORDERS: dict[str, Callable[[Episode], tuple[float, float]]] = {
    "best": lambda e: (_reward(e), -len(e.turns)),
    "worst": lambda e: (-_reward(e), -len(e.turns)),
    "longest": lambda e: (len(e.turns), len(e.completion_ids)),
}


def replay_command(config: TrainConfig) -> Callable[[str], str]:
    """How to look at an episode of this run, by its id. A store's password is in no command."""
    store = store_url(config)
    if config.rollout.url is not None:
        return lambda episode: f"envloop replay show {episode}   # in the store of the rollout server"
    if "@" in store:
        return lambda episode: f"envloop replay show {episode}   # ENVLOOP_STORE_URL names the run's store"
    return lambda episode: f"envloop replay show {episode} --store {store}"


def samples_text(chosen: dict[str, Episode], *, step: int, command: Callable[[str], str]) -> str:
    """The samples in Markdown. What the model and the environment said stands in code blocks, cut where it is long."""
    parts = [f"# Step {step}"]
    for label, episode in chosen.items():
        reward = "none" if episode.reward is None else f"{episode.reward:g}"
        parts.append(
            f"## {label}: {episode.env} {episode.task.type or episode.task.split}\n\n"
            f"| task | policy | ending | reward | training reward | turns |\n|---|---|---|---|---|---|\n"
            f"| {_cell(episode.task.id)} | {_cell(episode.policy)} | {episode.status.value} | {reward} | "
            f"{_reward(episode):.3f} | {len(episode.turns)} |\n\n"
            f"    {command(episode.id)}"
        )
        parts.append(_block(f"{episode.initial.text}"))
        shown = episode.turns if len(episode.turns) <= _TURNS else episode.turns[: _TURNS - 2]
        for turn in shown:
            parts.append(
                f"{turn.index + 1}.\n\n" + _block(turn.text) + ("\n\n" + _block(turn.reply) if turn.reply else "")
            )
        if len(shown) < len(episode.turns):
            parts.append(f"… {len(episode.turns) - len(shown)} more turns")
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return visible(text).replace("|", "\\|").replace("\n", " ")


def _block(text: str) -> str:
    """A text as an indented code block: nothing in it is markup."""
    cut = text if len(text) <= _TEXT else f"{text[:_TEXT]} … {len(text) - _TEXT} more characters"
    return "\n".join("    " + line for line in visible(cut).splitlines()) or "    (nothing)"
