"""A stored episode on a terminal, turn by turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rollout_server.episode_store import EpisodeSummary
from rollout_server.types import Episode, StepRecord, Turn

__all__ = ["render_episode", "render_table", "show", "visible"]

# A model's text may carry escape sequences that a terminal would obey: shown as their pictures (U+2400 …) instead.
_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_CONTROL |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """The text with every control character but newline and tab replaced by a visible sign."""
    return text.translate(_CONTROL)


def show(episode: Episode, console: Console | None = None) -> None:
    """Print the episode."""
    (console or Console()).print(render_episode(episode))


def render_episode(episode: Episode) -> RenderableType:
    """Everything that was said and done, with rewards, policy versions and token counts."""
    return Group(_head(episode), *_opening(episode), *(_turn(turn) for turn in episode.turns), _foot(episode))


def render_table(summaries: Iterable[EpisodeSummary]) -> Table:
    """One line an episode."""
    table = Table(box=None, header_style="bold")
    for name in ("id", "started", "task", "policy", "status", "reward", "turns", "tokens"):
        right = name in ("reward", "turns", "tokens")
        table.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=name != "task",
            overflow="fold",
            min_width=16 if name == "task" else None,
        )
    for s in summaries:
        reward = "-" if s.reward is None else f"{s.reward:g}"
        cells = (s.id[:12], s.started_at[5:16], f"{s.env} {s.task_id}", s.policy, s.status.value, reward)
        table.add_row(*(Text(visible(cell)) for cell in cells), str(s.turns), str(s.tokens))
    return table


def _head(episode: Episode) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    rows = {
        "episode": episode.id,
        "task": f"{episode.env} {episode.task.id} ({episode.task.type}), seed {episode.seed}",
        "policy": f"{episode.policy} of {episode.model} on {episode.engine}",
        "protocol": episode.protocol,
        "started": f"{episode.started_at}, took {episode.duration_s:.2f} s",
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(visible(value)))
    return Panel(table, title="episode", title_align="left")


def _opening(episode: Episode) -> Iterator[RenderableType]:
    for message in episode.prompt:
        yield Panel(Text(visible(message.content)), title=message.role.value, title_align="left", border_style="dim")


def _turn(turn: Turn) -> RenderableType:
    mean = f", mean logprob {sum(turn.logprobs) / len(turn.logprobs):.3f}" if turn.logprobs else ""
    mean = ", given" if turn.given else mean
    tokens = f"{len(turn.completion_ids)} + {len(turn.environment_ids)} tokens"
    title = f"turn {turn.index} · {visible(turn.policy)} · {tokens}{mean} · {turn.finish_reason.value}"
    parts: list[RenderableType] = [Text(visible(turn.text), style="cyan")]
    parts += [part for step in turn.steps for part in _step(step)]
    answers = "\n".join(step.observation.text for step in turn.steps)
    if turn.reply and turn.reply != answers:
        parts.append(Text.assemble(("reply  ", "bold"), visible(turn.reply)))
    return Panel(Group(*parts), title=Text(title), title_align="left", border_style="cyan")


def _step(step: StepRecord) -> Iterator[RenderableType]:
    arguments = ", ".join(f"{name}={value!r}" for name, value in step.action.arguments.items())
    yield Text.assemble(("action ", "bold"), visible(f"{step.action.name}({arguments})"))
    marks = [f"reward {step.reward:g}"] if step.reward or step.terminated else []
    marks += [name for name in ("terminated", "truncated") if getattr(step, name)]
    marks += [] if step.valid else ["invalid"]
    yield Text.assemble(
        visible(step.observation.text), (f"  [{', '.join(marks)}]" if marks else "", "green" if step.valid else "red")
    )


def _foot(episode: Episode) -> RenderableType:
    reward = "none" if episode.reward is None else f"{episode.reward:g}"
    parts = ", ".join(f"{name} {value:g}" for name, value in episode.reward_parts.items())
    training = "" if episode.training_reward is None else f"; training reward {episode.training_reward:g} ({parts})"
    sampled = sum(episode.mask)
    total = len(episode.prompt_ids) + len(episode.completion_ids)
    text = Text(f"{episode.status.value}: reward {visible(reward)}{visible(training)}", style="bold")
    text.append(f"\n{len(episode.turns)} turns, {len(episode.steps)} steps, {total} tokens, {sampled} sampled")
    if episode.error:
        text.append(f"\n{visible(episode.error)}", style="red")
    return Panel(text, title="end", title_align="left", border_style="green" if episode.success else "yellow")
