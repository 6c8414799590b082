"""Thoughts say what was seen and what is done next; the seed chooses the words and nothing else."""

from __future__ import annotations

import re
import string

from envs.alfworld.explorer import Explorer
from envs.alfworld.explorer_goal import Request
from envs.alfworld.explorer_thoughts import _WORDINGS, Remark, describe_request, think
from envs.alfworld.game import parse_game
from envs.alfworld.generator import generate
from envs.alfworld.text import introduction

NAME = re.compile(r"\b[a-z]+ \d+\b")


def episode(seed: int, thoughts: int | None) -> list[tuple[str, str, str]]:
    """(thought, command, answer) up to the win."""
    state = parse_game(generate(seed).data).start()
    explorer = Explorer(introduction(state), thoughts=thoughts)
    turns = []
    for _ in range(50):
        thought, command = explorer.thought(), explorer.choose()
        text, won = state.step(command)
        turns.append((thought, command, text))
        if won:
            break
        explorer.observe(command, text)
    return turns


def test_a_thought_names_only_what_has_been_seen_and_leads_to_the_command() -> None:
    for seed in range(30):
        seen = introduction(parse_game(generate(seed).data).start())
        for thought, command, answer in episode(seed, seed):
            assert thought
            assert thought == thought.strip()
            names = set(NAME.findall(thought.lower()))
            assert names <= set(NAME.findall(seen)), thought
            if command.startswith(("take ", "open ", "clean ", "heat ", "cool ", "put ", "move ")):
                assert names & set(NAME.findall(command)), (thought, command)
            seen += f" {answer}"


def test_the_seed_chooses_the_words_alone() -> None:
    silent, first, again, other = (episode(3, thoughts) for thoughts in (None, 1, 1, 2))
    assert first == again
    assert [turn[1:] for turn in first] == [turn[1:] for turn in other] == [turn[1:] for turn in silent]
    assert first != other
    assert not any(thought for thought, _, _ in silent)


def test_every_situation_has_several_wordings_and_all_of_them_can_be_said() -> None:
    filled = Remark("task", "desk 1", "mug 1", "mug", "desklamp 1", "heat", "put a mug on the desk")
    for name, wordings in _WORDINGS.items():
        assert len(set(wordings)) == len(wordings) >= 3
        remark = Remark(name, filled.spot, filled.thing, filled.sought, filled.lamp, filled.how, filled.task)
        said = {think([remark], seed=seed, step=0) for seed in range(60)}
        assert len(said) == len(wordings)
        assert all("{" not in text and text[0] in string.ascii_uppercase for text in said)


def test_the_first_thought_tells_the_task_and_a_failure_is_noticed() -> None:
    explorer = Explorer("Looking quickly around you, you see a desk 1, and a shelf 1.\n\n"
                        "Your task is to: put a clean apple on shelf.", thoughts=5)  # fmt: skip
    assert "put a clean apple on the shelf" in explorer.thought()
    explorer.observe(explorer.choose(), "Nothing happens.")
    first = explorer.thought().partition(".")[0]
    assert first in {wording.partition(".")[0] for wording in _WORDINGS["failed"]}
    explorer = Explorer(
        "Looking quickly around you, you see a desk 1.\n\nYour task is to: put a mug in safe.", thoughts=0
    )
    explorer.observe(explorer.choose(), "You arrive at loc 1. On the desk 1, you see nothing.")
    assert "mug" in explorer.thought()
    assert "desk 1" in explorer.thought()


def test_requests_in_words() -> None:
    assert describe_request(Request("egg", "fridge", "heat")) == "put a hot egg in the fridge"
    assert describe_request(Request("watch", "desk", count=2)) == "put two watches on the desk"
    assert describe_request(Request("apple", lamps=("desklamp", "floorlamp"))) == (
        "look at an apple under a desklamp or floorlamp"
    )


def test_the_words_are_the_same_everywhere() -> None:
    """Drawn by what every version of Python promises; pinned, so that data for SFT can be made again."""
    remarks = [Remark("failed"), Remark("search", "desk 1", sought="apple")]
    assert [think(remarks, seed=seed, step=7) for seed in range(3)] == [
        "Nothing happened, so I have to go about it another way. I go to the desk 1 and see whether there is an apple.",
        "That had no effect. Next I check the desk 1 for an apple.",
        "Nothing happened, so I have to go about it another way. Next I check the desk 1 for an apple.",
    ]
