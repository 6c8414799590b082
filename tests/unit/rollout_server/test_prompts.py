"""AgentBench's prompts are byte for byte its own: a score is comparable only then."""

from __future__ import annotations

import hashlib

import pytest

from envs.errors import ConfigError
from envs.registry import ALFWORLD
from rollout_server.protocols.prompts import prompt_text, worked_example


@pytest.mark.parametrize(
    ("name", "length", "digest"),
    [
        ("alfworld_fc", 1419, "5e2729cf7fbbca0a"),
        ("dbbench_fc", 1328, "08d53fb9ebd2c4d9"),
        ("alfworld_classic", 1334, "45929e9d559a3203"),
        ("dbbench_classic", 1313, "b4d40c8bfe1e9ea9"),
    ],
)
def test_no_byte_of_a_prompt_has_changed(name: str, length: int, digest: str) -> None:
    text = prompt_text(name)
    assert (len(text), hashlib.sha256(text.encode()).hexdigest()[:16]) == (length, digest)


def test_every_task_type_has_a_worked_example_that_ends_with_the_assistant() -> None:
    for task_type in ALFWORLD.task_types:
        example = worked_example(task_type)
        assert "Your task is to:" in example[0]
        assert len(example) % 2 == 0
        assert all(text.startswith("ACTION: ") for text in example[1::2])
    with pytest.raises(ConfigError, match="movable"):
        worked_example("pick_and_place_with_movable_recep")
