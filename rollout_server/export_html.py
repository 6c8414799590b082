"""An episode as one self-contained HTML page: nothing is loaded, and nothing in it can run but our script.

Every text of the episode is escaped, and a content security policy allows exactly one style sheet and one script, by
their hashes: what a model or an environment wrote stays inert even where escaping should fail.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from envs.errors import ConfigError
from rollout_server.engines.base import Tokenizer
from rollout_server.replay_view import visible
from rollout_server.types import Episode, StepRecord, Turn

__all__ = ["episode_to_html", "find_tokenizer"]

_SHADES = 10


def episode_to_html(episode: Episode, tokenizer: Tokenizer | None = None) -> str:
    """The page. With the tokenizer that sampled the episode it also shows every token, shaded by its logprob."""
    style, script = _asset("episode.css"), _asset("episode.js")
    page = _asset("episode.html")
    body = "\n".join((_head(episode, tokenizer is not None), _opening(episode), *_turns(episode, tokenizer)))
    # One pass over the template, so that a text that holds a placeholder is not filled in again.
    values = {
        "policy": f"default-src 'none'; style-src 'sha256-{_hash(style)}'; script-src 'sha256-{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
        "title": _text(f"{episode.env} {episode.task.id}: {episode.status.value}"),
        "style": style,
        "body": body,
        "script": script,
    }
    parts = page.split("%%")
    return "".join(values[part] if index % 2 else part for index, part in enumerate(parts))


def find_tokenizer(episode: Episode, name: str | None = None) -> Tokenizer | None:
    """The tokenizer of this name, or for scripted episodes the one they were played with; None where there is none.

    Raises ConfigError where the named one gives other texts than the episode's own.
    """
    from rollout_server.engines.factory import make_engine
    from rollout_server.tokenizer import ByteTokenizer

    if name is None:
        own = ByteTokenizer()
        return own if episode.engine in ("scripted", "hand") and _fits(episode, own) else None
    tokenizer = make_engine("noop", model=name).tokenizer
    if not _fits(episode, tokenizer):
        raise ConfigError(
            f"{name} is not the tokenizer of episode {episode.id}: its tokens read as another text",
            hint=f"name the tokenizer of {episode.model}",
        )
    return tokenizer


def _fits(episode: Episode, tokenizer: Tokenizer) -> bool:
    end = tokenizer.end_of_turn_id
    try:
        return all(
            tokenizer.decode(turn.completion_ids[:-1] if turn.completion_ids[-1:] == (end,) else turn.completion_ids)
            == turn.text
            for turn in episode.turns
            if turn.completion_ids  # none: the context of an earlier envloop's fork
        )
    except (IndexError, KeyError, OverflowError, ValueError):  # ids that it does not have
        return False


def _asset(name: str) -> str:
    return (files("rollout_server") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(value: object) -> str:
    """Any text, inert: escaped, control characters made visible, lone surrogates replaced."""
    return escape(visible(str(value)).encode("utf-8", "replace").decode("utf-8"), quote=True)


def _head(episode: Episode, tokens: bool) -> str:
    sampled = sum(episode.mask)
    total = len(episode.prompt_ids) + len(episode.completion_ids)
    training = "none" if episode.training_reward is None else f"{episode.training_reward:g}"
    parts = ", ".join(f"{name} {value:g}" for name, value in episode.reward_parts.items())
    rows = {
        "Episode": episode.id,
        "Task": f"{episode.env} {episode.task.id}",
        "Type": episode.task.type,
        "Status": episode.status.value,
        "Reward": "none" if episode.reward is None else f"{episode.reward:g}",
        "Training reward": training + (f" ({parts})" if parts else ""),
        "Policy": f"{episode.policy} of {episode.model} on {episode.engine}",
        "Protocol": episode.protocol,
        "Seed": episode.seed,
        "Started": f"{episode.started_at}, took {episode.duration_s:.2f} s",
        "Size": f"{len(episode.turns)} turns, {len(episode.steps)} steps, {total} tokens, {sampled} sampled",
    }
    if episode.error:
        rows["Error"] = episode.error
    cells = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows.items())
    outcome = "won" if episode.success else "lost" if episode.status.scored else "failed"
    button = '<button type="button" id="view" aria-pressed="false">Tokens (t)</button>' if tokens else ""
    return (
        f'<header class="{outcome}"><h1>{_text(episode.task.id)}</h1><dl>{cells}</dl>'
        f'<p class="keys">{button}<span>j / k: next, previous turn · g / G: first, last</span></p></header>'
    )


def _opening(episode: Episode) -> str:
    messages = "".join(
        f'<div class="message"><h3>{_text(message.role.value)}</h3><pre>{_text(message.content)}</pre></div>'
        for message in episode.prompt
    )
    title = f"First prompt, {len(episode.prompt_ids)} tokens"
    return f'<details class="opening"><summary>{title}</summary>{messages}</details>'


def _turns(episode: Episode, tokenizer: Tokenizer | None) -> Iterator[str]:
    for turn in episode.turns:
        mean = f" · mean logprob {sum(turn.logprobs) / len(turn.logprobs):.3f}" if turn.logprobs else ""
        mean = " · given" if turn.given else mean
        counts = f"{len(turn.completion_ids)} + {len(turn.environment_ids)} tokens"
        title = f"Turn {turn.index} · {turn.policy} · {counts}{mean} · {turn.finish_reason.value}"
        steps = "".join(map(_step, turn.steps))
        answers = "\n".join(step.observation.text for step in turn.steps)
        reply = _reply(turn) if turn.reply not in ("", answers) else ""
        tokens = f'<div class="tokens">{_tokens(turn, tokenizer)}</div>' if tokenizer is not None else ""
        yield (
            f'<section class="turn" tabindex="-1" id="turn-{turn.index}"><h2>{_text(title)}</h2>'
            f'<div class="text"><pre class="policy">{_text(turn.text)}</pre>{steps}{reply}</div>{tokens}</section>'
        )


def _reply(turn: Turn) -> str:
    title = "reply as the policy saw it"
    return f'<details><summary>{title}</summary><pre class="environment">{_text(turn.reply)}</pre></details>'


def _step(step: StepRecord) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in step.action.arguments.items())
    marks = [f"reward {step.reward:g}"] if step.reward or step.terminated else []
    marks += [name for name in ("terminated", "truncated") if getattr(step, name)]
    marks += [] if step.valid else ["invalid"]
    shown = "".join(f'<span class="mark">{_text(mark)}</span>' for mark in marks)
    choices = "".join(f"<li>{_text(action)}</li>" for action in step.observation.admissible_actions)
    listed = f"<details><summary>admissible actions</summary><ul>{choices}</ul></details>" if choices else ""
    return (
        f'<h3>action {shown}</h3><pre class="action">{_text(step.action.name)}({_text(arguments)})</pre>'
        f'<h3>observation</h3><pre class="environment">{_text(step.observation.text)}</pre>{listed}'
    )


def _tokens(turn: Turn, tokenizer: Tokenizer) -> str:
    if turn.given:
        return f"<pre>{_given((*turn.completion_ids, *turn.environment_ids), tokenizer)}</pre>"
    sampled = "".join(
        f'<span class="p s{_shade(logprob)}" title="{token} · logprob {logprob:.4f}">'
        f"{_text(tokenizer.decode([token]))}</span>"
        for token, logprob in zip(turn.completion_ids, turn.logprobs, strict=True)
    )
    return f"<pre>{sampled}{_given(turn.environment_ids, tokenizer)}</pre>"


def _given(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    return "".join(f'<span class="e" title="{token}">{_text(tokenizer.decode([token]))}</span>' for token in ids)


def _shade(logprob: float) -> int:
    """0 for a certain token to 9 for a probability of e^-9 or less."""
    return _SHADES - 1 if not math.isfinite(logprob) else min(_SHADES - 1, max(0, round(-logprob)))
