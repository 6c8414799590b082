"""Goes on from a turn of a stored episode with another policy, or by hand.

The first turns are not sampled again and not encoded again: the loop plays them with the recorded ids, on an
environment that is built anew by the recorded actions. What it then shows the policy must be what was recorded, token
by token, and every step must be what it was (observation, reward, ends, the state's hash); else nothing is played.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from envs.client import EnvClient
from envs.errors import Conflict, InfrastructureError, InvalidOption
from envs.types import EpisodeStatus, JsonObject
from rollout_server.agent_loop import EpisodePlan, play_episode, turn_seed
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.protocols import get_protocol
from rollout_server.replay import first_difference, step_difference
from rollout_server.replay_hand import HandEngine
from rollout_server.types import Completion, Episode, PolicyVersion, SamplingParams, Turn

__all__ = ["ForkRequest", "fork_episode", "same_policy", "sampled_by_another"]

_EMPTY: JsonObject = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRequest:
    """Where and how to go on.

    Args:
        at: how many turns stay; the first new one has this index.
        sampling: None: as the episode was sampled.
        seed: with ``member`` the seed of what is sampled from there on; never that of the episode itself.
        member: numbers the forks of one point.
        max_turns: counts the kept turns too; None: the protocol's.
        max_episode_tokens: as in a request; None: as much as the kept part, the engine and a further 4096 need.
        same_policy: whether the kept turns count as sampled by the policy that goes on. None: where engine, model and
            policy have the same names and no adapter is involved (a name of an adapter says nothing across runs).
        metadata: stored with the fork, beside where it comes from.
    """

    at: int
    sampling: SamplingParams | None = None
    seed: int = 0
    member: int = 0
    max_turns: int | None = None
    max_episode_tokens: int | None = None
    same_policy: bool | None = None
    group_id: str = ""
    metadata: JsonObject = field(default_factory=lambda: _EMPTY)


async def fork_episode(
    parent: Episode, request: ForkRequest, *, client: EnvClient, engine: Engine, policy: PolicyVersion
) -> Episode:
    """Play on from ``request.at``. The engine is started already.

    The kept turns are in the record with their text, steps and ids. Where another policy sampled them, their ids are
    the environment's (mask 0, no logprob, no version): nothing trains on what a policy did not say. The metadata's
    ``fork`` names the parent, the turn, who sampled the kept turns, and whether they are ``context`` or ``policy``.

    A person who stops leaves a CANCELLED episode. Raises: InvalidOption for a turn that is not there, that comes after
    the end, or has no room; Conflict where the environment, the protocol or the tokenizer no longer make of the
    recorded turns what was recorded; UnknownTask; InfrastructureError where the kept turns could not be rebuilt.
    """
    spec = (await client.env(parent.env)).spec
    protocol = get_protocol(parent.protocol)
    sampling = request.sampling or parent.sampling
    limit = protocol.max_turns(spec) if request.max_turns is None else request.max_turns
    _check(parent, request.at, limit)
    task = await client.task(parent.env, parent.task.id)
    if task.content_hash != parent.task.content_hash:
        raise Conflict(f"task {task.id} is no longer what episode {parent.id} was played on", hint="fork another")
    same = same_policy(parent, engine, policy) if request.same_policy is None else request.same_policy
    origin = {
        "parent": parent.id,
        "at_turn": request.at,
        "policy": parent.policy,
        "kept": "policy" if same else "context",
    }
    plan = EpisodePlan(
        env=spec,
        task=task,
        protocol=protocol,
        policy=policy,
        sampling=sampling.with_seed(turn_seed(request.seed, parent.id, request.member, request.at)),
        group_id=request.group_id,
        member=request.member,
        seed=parent.seed,
        options=parent.options,
        max_turns=limit,
        max_episode_tokens=_room(parent, request, engine, sampling.max_tokens),
        metadata={**request.metadata, "fork": origin},
    )
    resumed = _Resumed(engine, parent, request.at)
    played = await _play(client, resumed, plan, engine)
    if not resumed.went_on:
        if played.status is EpisodeStatus.INFRASTRUCTURE_ERROR:
            raise InfrastructureError(f"the first turns of episode {parent.id} could not be played: {played.error}")
        raise Conflict(
            f"episode {parent.id} ends before turn {request.at}: {played.status.value} {played.error}".rstrip(),
            hint="fork at an earlier turn, or give it more turns or tokens",
        )
    kept = [_kept(*pair, same=same) for pair in zip(parent.turns[: request.at], played.turns, strict=False)]
    return replace(played, turns=(*kept, *played.turns[request.at :]))


def same_policy(parent: Episode, engine: Engine, policy: PolicyVersion) -> bool:
    """Whether the policy that goes on is surely the one that played the episode."""
    names = (parent.engine, parent.model, parent.policy) == (engine.name, engine.model, policy.name)
    return names and policy.adapter_path is None and all(turn.policy == policy.name for turn in parent.turns)


def sampled_by_another(turn: Turn) -> Turn:
    """The turn as context: all its ids in order, none of them the policy's."""
    return replace(turn, completion_ids=(), logprobs=(), environment_ids=(*turn.completion_ids, *turn.environment_ids))


def _check(parent: Episode, at: int, limit: int) -> None:
    if not parent.prompt_ids:
        raise Conflict(f"episode {parent.id} never began ({parent.status}): there is nothing to go on from")
    if not 0 <= at <= len(parent.turns):
        raise InvalidOption(f"turn {at} is not in episode {parent.id}", hint=f"0 to {len(parent.turns)}")
    ended = next((t.index for t in parent.turns[:at] if any(s.terminated or s.truncated for s in t.steps)), None)
    if ended is not None:
        raise InvalidOption(f"episode {parent.id} ended in turn {ended}", hint=f"fork at turn {ended} or before")
    if limit <= at:
        raise InvalidOption(f"after {at} turns there is none left of {limit}", hint=f"max_turns above {at}")


def _room(parent: Episode, request: ForkRequest, engine: Engine, turn_tokens: int) -> int:
    kept = len(_ids(parent, request.at))
    context: int | None = getattr(engine, "max_model_len", None)
    room = request.max_episode_tokens
    if room is None:
        room = kept + max(4096, 8 * turn_tokens)
        room = min(room, context) if context else room
    if context and room > context:
        raise InvalidOption(f"{room} tokens are more than the engine's context of {context}", hint="ask for fewer")
    if kept + turn_tokens > room:
        raise InvalidOption(
            f"{request.at} turns of episode {parent.id} have {kept} tokens, which leaves no room for a turn of "
            f"{turn_tokens} in {room}",
            hint="fewer tokens a turn, or more an episode",
        )
    return room


def _ids(parent: Episode, turns: int) -> tuple[int, ...]:
    """Every recorded id up to a turn, the prompt's first."""
    parts = ((turn.completion_ids, turn.environment_ids) for turn in parent.turns[:turns])
    return (*parent.prompt_ids, *itertools.chain.from_iterable(itertools.chain.from_iterable(parts)))


def _kept(recorded: Turn, played: Turn, *, same: bool) -> Turn:
    """A kept turn: as recorded, and with the reply that an episode's last turn may not have yet."""
    there = len(recorded.completion_ids) + len(recorded.environment_ids)
    new = (*played.completion_ids, *played.environment_ids)[there:]
    turn = replace(recorded, reply=played.reply, environment_ids=(*recorded.environment_ids, *new))
    return turn if same else sampled_by_another(turn)


async def _play(client: EnvClient, resumed: _Resumed, plan: EpisodePlan, engine: Engine) -> Episode:
    """Play; a person who stops cancels the play, and what there is counts as the episode."""
    cancelled: list[Episode] = []
    playing = asyncio.create_task(play_episode(client, resumed, plan, on_cancelled=cancelled.append))
    if isinstance(engine, HandEngine):
        engine.on_stop(playing.cancel)
    try:
        return await playing
    except asyncio.CancelledError:
        if not (isinstance(engine, HandEngine) and engine.stopped and cancelled):
            raise
        return cancelled[0]


class _Resumed:
    """An engine that says the recorded turns first, if the loop shows it what was recorded, then asks the real one."""

    def __init__(self, engine: Engine, parent: Episode, at: int) -> None:
        self.name = engine.name
        self.model = engine.model
        self.tokenizer = engine.tokenizer
        self.went_on = False
        self._engine = engine
        self._parent = parent
        self._at = at

    async def start(self) -> None:
        """Nothing: the real engine is started already."""

    async def generate(self, request: GenerationRequest) -> Completion:
        """The recorded turn, or the engine's. Raises Conflict where the loop or the environment differs."""
        assert request.script is not None, "the agent loop tells the turn"
        turn = request.script.turn
        if turn > self._at:
            return await self._engine.generate(request)
        self._compare(request)
        if turn == self._at:
            self.went_on = True
            return await self._engine.generate(request)
        said = self._parent.turns[turn]
        if not said.completion_ids:  # a fork's own context, which was another's turn
            ids = _said_before(self._parent, turn, self.tokenizer.end_of_turn_id)
            return Completion(ids, (0.0,) * len(ids), said.finish_reason, said.policy)
        return Completion(said.completion_ids, said.logprobs, said.finish_reason, said.policy)

    async def load_policy(self, policy: PolicyVersion) -> None:
        """The real engine's."""
        await self._engine.load_policy(policy)

    async def unload_policy(self, name: str) -> None:
        """The real engine's."""
        await self._engine.unload_policy(name)

    async def close(self) -> None:
        """Nothing: whoever opened the real engine closes it."""

    def __getattr__(self, name: str) -> Any:
        """What else an engine may have, such as ``max_model_len``."""
        return getattr(self._engine, name)

    def _compare(self, request: GenerationRequest) -> None:
        parent, script = self._parent, request.script
        assert script is not None
        wanted, shown = _ids(parent, script.turn), request.prompt_ids
        # The last turn of an episode has no reply yet: what follows it is new.
        shown = shown[: len(wanted)] if script.turn == len(parent.turns) else shown
        recorded = [(turn.index, step) for turn in parent.turns[: script.turn] for step in turn.steps]
        difference = first_difference(parent, script.initial)
        for number, ((turn, record), step) in enumerate(zip(recorded, script.steps, strict=False)):
            difference = difference or step_difference(turn, number, record, step)
        if difference is not None:
            raise Conflict(
                f"episode {parent.id} no longer plays as recorded: {difference}", hint="see envloop replay verify"
            )
        if len(recorded) != len(script.steps) or any(
            record.action != step.action for (_, record), step in zip(recorded, script.steps, strict=True)
        ):
            raise Conflict(
                f"the protocol reads other actions from the first {script.turn} turns of episode {parent.id}",
                hint="it was played by another version of envloop",
            )
        if wanted != shown:
            at = next((i for i, (a, b) in enumerate(zip(wanted, shown, strict=False)) if a != b), len(shown))
            raise Conflict(
                f"before turn {script.turn} of episode {parent.id} the tokens differ from the recorded ones at {at}",
                hint="go on with the tokenizer of the model that played it: --model",
            )


def _said_before(parent: Episode, turn: int, end: int) -> tuple[int, ...]:
    """What of a context turn's ids was sampled: those up to its end-of-turn token, which closes every turn."""
    ids = parent.turns[turn].environment_ids
    return ids[: ids.index(end) + 1] if end in ids else ids
