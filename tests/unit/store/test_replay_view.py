"""A terminal shows the whole episode and obeys nothing in it."""

from __future__ import annotations

import dataclasses
import io

from episode_samples import sample_episode
from rich.console import Console

from envs.types import EpisodeStatus
from rollout_server.episode_store import summarize
from rollout_server.replay_view import render_table, show, visible


def printed(*things, width=100):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    for thing in things:
        console.print(thing)
    return out.getvalue()


def test_every_turn_is_shown():
    out = io.StringIO()
    show(sample_episode(), Console(file=out, width=200, force_terminal=False))
    text = out.getvalue()
    for part in ("I look. go to bed 1", "On the bed 1, you see a book 1.", "turn 1 · step-1", "3 + 3 tokens"):
        assert part in text
    for part in (
        "completed: reward 1",
        "task 1, invalid_action -0.1",
        "training reward 0.9",
        "5 sampled",
        "terminated",
    ):
        assert part in text


def test_markup_and_escape_sequences_are_only_text():
    turn = dataclasses.replace(sample_episode().turns[0], text="[bold red]x[/] \x1b]0;owned\x07 \x9b31m")
    out = io.StringIO()
    show(sample_episode(turns=(turn,)), Console(file=out, width=200, force_terminal=True, color_system=None))
    assert "[bold red]x[/]" in out.getvalue()
    assert "\x1b]" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "\x9b" not in out.getvalue()


def test_visible_keeps_lines_and_tabs():
    assert visible("a\n\tb\r\x00\x7f") == "a\n\tb\u240d\u2400\u2421"


def test_a_failed_episode_shows_why_and_no_reward():
    failed = EpisodeStatus.INFRASTRUCTURE_ERROR
    out = io.StringIO()
    show(sample_episode(status=failed, reward=None, error="the engine died"), Console(file=out, width=120))
    assert "infrastructure_error: reward none" in out.getvalue()
    assert "the engine died" in out.getvalue()


def test_the_table_has_the_task_even_on_a_narrow_terminal():
    text = printed(render_table([summarize(sample_episode())]), width=80)
    assert "0f3a5c7e9b1d" in text
    assert "generated/7" in text
