"""A test double of a rollout service whose tokens are real: sampled by the transformers engine from the published
adapters. Only the environment is made up, a game of words that a tiny random model learns in some dozens of steps.

A turn is good where most of its tokens lie on one side of the model's embedding space; an episode is won where
enough of its turns are good. Each fault that a run's log should show can be provoked by a setting of ``Game``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envs.types import Action, EpisodeStatus, Observation, Task
from rollout_server.chat import ChatFormat
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.transformers import TransformersEngine
from rollout_server.service import EpisodeCallback
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import (
    Completion,
    Episode,
    FinishReason,
    Group,
    Message,
    PolicyVersion,
    Role,
    RolloutRequest,
    StepRecord,
    Turn,
)

__all__ = ["Game", "SampledRollouts"]


@dataclass(frozen=True, slots=True)
class Game:
    """What the environment does. The defaults are a game that is well."""

    turns: int = 2
    good_share: float = 0.55
    """Share of a turn's tokens that must lie on the good side."""
    equal_rewards: bool = False
    """Every episode has the same reward."""
    lottery: float | None = None
    """Success is drawn with this chance, whatever was played; good turns only pay the shaping term."""
    shaping: float = 0.0
    """What each good turn pays."""
    invalid_above: float | None = None
    """A turn is invalid where its share of good tokens is below this."""
    loops: bool = False
    """The engine is asked for the likeliest token alone: every turn says the same."""
    impossible: str = ""
    """A task type that nobody wins."""
    dead: float = 0.0
    """Share of episodes that the machinery loses."""
    cut: float = 0.0
    """Share of lost episodes that ran out of tokens."""
    outlier: float = 0.0
    """Every so often (this share of the groups) an episode's shaping term is a thousand: a scoring gone wrong."""
    temperature: float | None = None
    """The engine samples at this temperature, whatever is asked for."""
    stale: bool = False
    """Published adapters never reach the engine: it goes on sampling from the base model under every name."""


class SampledRollouts:
    """Plays ``Game`` with real sampling. Close it on the loop that opened it."""

    def __init__(self, model: Path, game: Game, *, seed: int = 0) -> None:
        import torch

        self._engine = TransformersEngine(str(model), dtype="float32", device="cpu", max_batch=64)
        self._chat = ChatFormat(HFTokenizer(model))
        self._game = game
        self._seed = seed
        self._model = model
        self._good: frozenset[int] = frozenset()
        self._torch = torch
        self.known = [PolicyVersion()]
        self.requests = 0

    async def _start(self) -> None:
        await self._engine.start()
        if not self._good:
            table = self._engine._net.get_input_embeddings().weight.detach()
            side = self._torch.randn(table.shape[1], generator=self._torch.Generator().manual_seed(self._seed))
            self._good = frozenset((table @ side > 0).nonzero().flatten().tolist())

    async def rollouts(self, request: RolloutRequest, *, on_episode: EpisodeCallback | None = None) -> Sequence[Group]:
        await self._start()
        policy = next(p for p in self.known if p.name == request.policy)
        self.requests += 1
        plays = []
        for at, ref in enumerate(request.tasks):
            task_id = ref.task_id or f"{ref.split}/{ref.sample_seed}"
            kind = "near" if random.Random(f"{task_id}").random() < 0.5 else "far"
            task = Task(ref.env, task_id, task_id.split("/")[0], kind, f"hash-of-{task_id}")
            plays.append([self._play(request, policy, task, at, member) for member in range(request.group_size)])
        groups = []
        for at, members in enumerate(plays):
            episodes = tuple(await asyncio.gather(*members)) if members else ()
            groups.append(Group(f"g-{self.requests}-{at}", episodes[0].task, episodes))
        return groups

    async def _play(self, request: RolloutRequest, policy: PolicyVersion, task: Task, at: int, member: int) -> Episode:
        game = self._game
        draw = random.Random(f"{request.seed} {at} {member}")
        prompt = (Message(Role.SYSTEM, "Play the game."), Message(Role.USER, f"Task {task.type}."))
        ids = tuple(self._chat.prompt(prompt))
        weights = PolicyVersion() if game.stale else policy
        turns: list[Turn] = []
        shares: list[float] = []
        context = ids
        for number in range(game.turns):
            sampling = replace(
                request.sampling,
                temperature=game.temperature or request.sampling.temperature,
                top_k=1 if game.loops and draw.random() < 0.9 else 0,
                seed=draw.getrandbits(31),
            )
            done = await self._engine.generate(GenerationRequest(context, sampling, weights))
            share = sum(i in self._good for i in done.token_ids) / len(done.token_ids)
            shares.append(share)
            turns.append(self._turn(number, done, share, policy.name, last=number == game.turns - 1))
            context = (*context, *turns[-1].completion_ids, *turns[-1].environment_ids)
        return self._scored(
            request, policy, task, draw, prompt, ids, turns, shares, f"ep-{self.requests}-{at}-{member}"
        )

    def _turn(self, number: int, done: Completion, share: float, policy: str, *, last: bool) -> Turn:
        words = self._chat.tokenizer.decode(done.token_ids)
        closed = done.finish_reason is FinishReason.STOP
        reply = "" if last else "Go on."
        environment = () if last else tuple(self._chat.continuation((Message(Role.USER, reply),), closed=closed))
        valid = self._game.invalid_above is None or share >= self._game.invalid_above
        step = StepRecord(Action("say", {"words": words}), Observation(reply), 0.0, last, False, valid)
        return Turn(
            number, done.token_ids, done.logprobs, done.finish_reason, policy, words, (step,), reply, environment
        )

    def _scored(
        self,
        request: RolloutRequest,
        policy: PolicyVersion,
        task: Task,
        draw: random.Random,
        prompt: tuple[Message, ...],
        ids: tuple[int, ...],
        turns: list[Turn],
        shares: list[float],
        id: str,
    ) -> Episode:
        game = self._game
        good = sum(share >= game.good_share for share in shares)
        won = good == len(shares) if game.lottery is None else draw.random() < game.lottery
        won = won and task.type != game.impossible
        lost = draw.random() < game.dead
        status = EpisodeStatus.INFRASTRUCTURE_ERROR if lost else EpisodeStatus.COMPLETED
        if not lost and not won and draw.random() < game.cut:
            status = EpisodeStatus.TRUNCATED_TOKENS
        reward = float(won and not game.equal_rewards)
        invalid = sum(not s.valid for t in turns for s in t.steps)
        parts = {"task": reward, "invalid_action": -request.rewards.invalid_action * invalid}
        if game.shaping or game.outlier:
            parts["shaping.potential"] = game.shaping * good + 1000.0 * (draw.random() < game.outlier)
        return Episode(
            id=id,
            group_id=f"g-{task.id}",
            env=task.env,
            task=task,
            seed=request.seed,
            options={},
            protocol=request.protocol,
            engine="transformers",
            model="tiny",
            policy=policy.name,
            sampling=request.sampling,
            status=status,
            reward=reward if status.scored else None,
            reward_parts=parts,
            initial=Observation("A game."),
            prompt=prompt,
            prompt_ids=ids,
            turns=tuple(turns),
            error="the double loses this episode" if lost else "",
        )

    async def publish_policy(self, name: str, adapter_path: Path) -> PolicyVersion:
        await self._start()
        version = PolicyVersion(name, len(self.known), str(adapter_path))
        if not self._game.stale:
            await self._engine.load_policy(version)
            for old in self.known[1:-1]:
                await self._engine.unload_policy(old.name)
        self.known.append(version)
        return version

    async def policies(self) -> Sequence[PolicyVersion]:
        return list(self.known)

    async def close(self) -> None:
        await self._engine.close()
