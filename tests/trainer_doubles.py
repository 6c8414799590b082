"""A test double of a rollout service, for tests of the trainer alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.errors import UnknownPolicy
from envs.types import Action, EpisodeStatus, Observation, Task
from rollout_server.chat import ChatFormat
from rollout_server.service import EpisodeCallback
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import (
    Episode,
    FinishReason,
    Group,
    Message,
    PolicyVersion,
    Role,
    RolloutRequest,
    StepRecord,
    TaskRef,
    Turn,
)
from trainer.config import TrainConfig, parse_config


def make_episode(
    chat: ChatFormat,
    *,
    task: Task,
    seed: int,
    request: RolloutRequest,
    policy: str,
    index: int,
    status: EpisodeStatus = EpisodeStatus.COMPLETED,
    turns: int = 2,
) -> Episode:
    """An episode with real token ids: the prompt and replies through ``ChatFormat``, completions of a seeded text."""
    draw = random.Random(f"{seed}/{index}")
    prompt = (Message(Role.SYSTEM, "Play the game."), Message(Role.USER, f"Task {task.id}: find the mug."))
    made = []
    wins = 0
    for number in range(turns):
        word = draw.choice(["look", "go north", "take mug", "wait"])
        wins += word == "take mug"
        completion = (*chat.tokenizer.encode(word, markup=False), chat.tokenizer.end_of_turn_id)
        last = number == turns - 1
        reply = "" if last else f"You {word}."
        environment = () if last else tuple(chat.continuation((Message(Role.USER, reply),), closed=True))
        step = StepRecord(Action("take_action", {"action": word}), Observation(reply), 0.0, last, False, word != "wait")
        logprobs = tuple(-draw.random() for _ in completion)
        made.append(Turn(number, completion, logprobs, FinishReason.STOP, policy, word, (step,), reply, environment))
    reward = float(wins > 0)
    invalid = sum(t.text == "wait" for t in made)
    return Episode(
        id=f"ep-{seed}-{index}",
        group_id=f"g-{seed}",
        env=task.env,
        task=task,
        seed=seed,
        options={},
        protocol=request.protocol,
        engine="double",
        model="tiny",
        policy=policy,
        sampling=request.sampling,
        status=status,
        reward=reward if status.scored else None,
        reward_parts={"task": reward, "invalid_action": -request.rewards.invalid_action * invalid},
        initial=Observation("A room."),
        prompt=prompt,
        prompt_ids=tuple(chat.prompt(prompt)),
        turns=tuple(made),
        error="" if status.scored else "the double was told to fail",
        metadata=request.metadata,
    )


class ScriptedRollouts:
    """Test double of a ``RolloutService``: plays nothing, makes episodes from seeds, remembers what it was asked.

    ``fail`` names (request number, group, member) whose episode is an infrastructure error.
    """

    def __init__(self, tokenizer: HFTokenizer, *, fail: Sequence[tuple[int, int, int]] = ()) -> None:
        self._chat = ChatFormat(tokenizer)
        self._fail = set(fail)
        self.requests: list[RolloutRequest] = []
        self.known = [PolicyVersion()]
        self.episodes: list[Episode] = []

    async def rollouts(self, request: RolloutRequest, *, on_episode: EpisodeCallback | None = None) -> Sequence[Group]:
        await asyncio.sleep(0)
        policy = request.policy or self.known[-1].name
        if policy not in {p.name for p in self.known}:
            raise UnknownPolicy(f"no policy {policy}")
        number = len(self.requests)
        self.requests.append(request)
        groups = []
        for at, ref in enumerate(request.tasks):
            task = self._task(ref)
            members = [
                make_episode(
                    self._chat,
                    task=task,
                    seed=request.seed + at,
                    request=request,
                    policy=policy,
                    index=member,
                    status=(
                        EpisodeStatus.INFRASTRUCTURE_ERROR
                        if (number, at, member) in self._fail
                        else EpisodeStatus.COMPLETED
                    ),
                    turns=1 + (member + at) % 3,
                )
                for member in range(request.group_size)
            ]
            groups.append(Group(f"g-{number}-{at}", task, tuple(members)))
        self.episodes += [e for g in groups for e in g.episodes]
        return groups

    def _task(self, ref: TaskRef) -> Task:
        task_id = ref.task_id or f"{ref.split}/{ref.sample_seed}"
        return Task(ref.env, task_id, task_id.split("/")[0], ref.type or "pick", f"hash-of-{task_id}")

    async def publish_policy(self, name: str, adapter_path: Path) -> PolicyVersion:
        if name in {p.name for p in self.known}:
            raise AssertionError(f"the name {name} is used twice")
        version = PolicyVersion(name, len(self.known), str(adapter_path))
        self.known.append(version)
        return version

    async def policies(self) -> Sequence[PolicyVersion]:
        return list(self.known)

    async def close(self) -> None:
        return None


def grpo_recipe(model: Path, out: Path, **sets: Any) -> TrainConfig:
    """A small GRPO recipe; ``section__name=value`` sets one of its settings."""
    tree: dict[str, Any] = {
        "model": {
            "name": str(model),
            "dtype": "float32",
            "device": "cpu",
            "threads": 1,  # two of them wait for one another longer than so small a model computes
            "gradient_checkpointing": False,
        },
        "lora": {"r": 4, "alpha": 8},
        "data": {"sources": [{"env": "alfworld", "split": "generated"}]},
        "rollout": {"group_size": 4, "groups_per_step": 2, "max_tokens": 16, "reward_invalid_action": 0.1},
        "grpo": {"steps": 2, "learning_rate": 1e-3, "micro_batch": 4},
        "run": {"output_dir": str(out), "name": "test", "save_every": 1, "report_to": ["jsonl"]},
    }
    for key, value in sets.items():
        section, name = key.split("__")
        tree.setdefault(section, {})[name] = value
    return parse_config(tree)


class Watch:
    """Unpadded rows as they enter the loss: (prompt ids, completion ids, mask) with the row's advantage: one number,
    or where turns have their own one a token."""

    def __init__(self) -> None:
        self.rows: list[tuple[tuple[tuple[int, ...], ...], Any]] = []

    def loss(self, inputs: Mapping[str, Any]) -> None:
        for i in range(inputs["prompt_ids"].shape[0]):
            here = inputs["completion_mask"][i].bool()
            row = (
                tuple(inputs["prompt_ids"][i][inputs["prompt_mask"][i].bool()].tolist()),
                tuple(inputs["completion_ids"][i][here].tolist()),
                tuple(inputs["tool_mask"][i][here].tolist()),
            )
            assert not (inputs["tool_mask"] * inputs["completion_mask"])[i][~here].any(), "padding enters the loss"
            advantages = inputs["advantages"][i]
            self.rows.append((row, advantages[here].tolist() if advantages.dim() else advantages.item()))
