"""Episodes with real token ids whose words a test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.types import Action, EpisodeStatus, Observation, Task
from rollout_server.chat import ChatFormat
from rollout_server.types import Episode, FinishReason, Message, Role, SamplingParams, StepRecord, Turn

TASK = Task("dbbench", "generated/3", "generated", "SELECT", "abc")


def say(
    chat: ChatFormat,
    words: Sequence[str],
    *,
    reward: float | None,
    id: str,
    task: Task = TASK,
    replies: Sequence[str] = (),
    given: int = 0,
    invalid: Sequence[int] = (),
    cut: Sequence[int] = (),
    question: str = "How many?",
    **more: Any,
) -> Episode:
    """An episode in which the policy says ``words``; the environment answers each but the last, by its word unless
    ``replies`` say otherwise. ``given``, ``invalid``, ``cut``: such turns."""
    prompt = (Message(Role.SYSTEM, "Ask the database."), Message(Role.USER, f"Task {task.id}: {question}"))
    turns = []
    for at, word in enumerate(words):
        closed = at not in cut
        ids = tuple(chat.tokenizer.encode(word, markup=False)) + (chat.tokenizer.end_of_turn_id,) * closed
        last = at == len(words) - 1
        reply = "" if last else (replies[at] if replies else f"rows of {word}")
        after = () if last else tuple(chat.continuation((Message(Role.USER, reply),), closed=closed))
        step = StepRecord(
            Action("execute_sql", {"query": word}), Observation(reply), 0.0, last, False, at not in invalid
        )
        reason = FinishReason.STOP if closed else FinishReason.LENGTH
        turns.append(Turn(at, ids, (-0.5,) * len(ids), reason, "base", word, (step,), reply, after, given=at < given))
    scored = reward is not None
    return Episode(
        id=id,
        group_id="g",
        env=task.env,
        task=task,
        seed=0,
        options={},
        protocol="agentbench_fc",
        engine="double",
        model="tiny",
        policy="base",
        sampling=SamplingParams(),
        status=EpisodeStatus.COMPLETED if scored else EpisodeStatus.INFRASTRUCTURE_ERROR,
        reward=reward,
        reward_parts={"task": reward} if scored else {},
        initial=Observation("A table."),
        prompt=prompt,
        prompt_ids=tuple(chat.prompt(prompt)),
        turns=tuple(turns),
        **more,
    )
