"""Goes on from a turn of a stored episode with another policy, or by hand.

The first turns are a ``Prefix``: the loop plays them with the recorded ids, on an environment that is built anew by the
recorded actions. What it then shows the policy must be what was recorded, token by token, and every step must be what
it was (observation, reward, ends, the state's hash); else nothing is sampled.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from envs.client import EnvClient
from envs.errors import Conflict, InfrastructureError, InvalidOption
from envs.types import EpisodeStatus, JsonObject
from rollout_server.agent_loop import EpisodePlan, play_episode, turn_seed
from rollout_server.engines.base import Engine
from rollout_server.prefix import Prefix
from rollout_server.protocols import get_protocol
from rollout_server.replay_hand import HandEngine
from rollout_server.types import Episode, PolicyVersion, SamplingParams

__all__ = ["ForkRequest", "fork_episode", "same_policy"]

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

    The kept turns are in the record with their text, steps and ids. Where another policy sampled them, they are
    ``given`` (mask 0, no logprob, no version): nothing trains on what a policy did not say. What was given to the
    parent stays so. The metadata's ``fork`` names the parent, the turn, who sampled the kept turns, and whether they
    are ``context`` or ``policy``.

    A person who stops leaves a CANCELLED episode. Raises: InvalidOption for a turn that is not there, that comes after
    the end, or has no room; Conflict where the environment, the protocol or the tokenizer no longer make of the
    recorded turns what was recorded, or where one does not tell what was sampled (see ``Prefix``); UnknownTask;
    InfrastructureError where the kept turns could not be rebuilt.
    """
    spec = (await client.env(parent.env)).spec
    protocol = get_protocol(parent.protocol)
    sampling = request.sampling or parent.sampling
    limit = protocol.max_turns(spec) if request.max_turns is None else request.max_turns
    prefix = _prefix(parent, request.at, limit)
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
        max_episode_tokens=_room(prefix, request, engine, sampling.max_tokens),
        metadata={**request.metadata, "fork": origin},
        prefix=prefix,
    )
    played = await _play(client, engine, plan)
    if played.status is EpisodeStatus.INFRASTRUCTURE_ERROR and not _rebuilt(played, request.at):
        raise InfrastructureError(f"the first turns of episode {parent.id} could not be played: {played.error}")
    if not same:
        return played
    kept = [replace(turn, given=was.given) for was, turn in zip(prefix.turns, played.turns, strict=False)]
    return replace(played, turns=(*kept, *played.turns[request.at :]))


def same_policy(parent: Episode, engine: Engine, policy: PolicyVersion) -> bool:
    """Whether the policy that goes on is surely the one that played the episode."""
    names = (parent.engine, parent.model, parent.policy) == (engine.name, engine.model, policy.name)
    return names and policy.adapter_path is None and all(turn.policy == policy.name for turn in parent.turns)


def _prefix(parent: Episode, at: int, limit: int) -> Prefix:
    if not parent.prompt_ids:
        raise Conflict(f"episode {parent.id} never began ({parent.status}): there is nothing to go on from")
    prefix = Prefix(parent, at)
    ended = next((t.index for t in prefix.turns if any(s.terminated or s.truncated for s in t.steps)), None)
    if ended is not None:
        raise InvalidOption(f"episode {parent.id} ended in turn {ended}", hint=f"fork at turn {ended} or before")
    if limit <= at:
        raise InvalidOption(f"after {at} turns there is none left of {limit}", hint=f"max_turns above {at}")
    return prefix


def _room(prefix: Prefix, request: ForkRequest, engine: Engine, turn_tokens: int) -> int:
    kept = prefix.tokens
    context: int | None = getattr(engine, "max_model_len", None)
    room = request.max_episode_tokens
    if room is None:
        room = kept + max(4096, 8 * turn_tokens)
        room = min(room, context) if context else room
    if context and room > context:
        raise InvalidOption(f"{room} tokens are more than the engine's context of {context}", hint="ask for fewer")
    if kept + turn_tokens > room:
        raise InvalidOption(
            f"{request.at} turns of episode {prefix.episode.id} have {kept} tokens, which leaves no room for a turn of "
            f"{turn_tokens} in {room}",
            hint="fewer tokens a turn, or more an episode",
        )
    return room


def _rebuilt(played: Episode, at: int) -> bool:
    """Whether an episode came to the turn where the policy goes on."""
    kept = played.turns[:at]
    return bool(played.prompt_ids) and len(kept) == at and all(turn.environment_ids for turn in kept)


async def _play(client: EnvClient, engine: Engine, plan: EpisodePlan) -> Episode:
    """Play; a person who stops cancels the play, and what there is counts as the episode."""
    cancelled: list[Episode] = []
    playing = asyncio.create_task(play_episode(client, engine, plan, on_cancelled=cancelled.append))
    if isinstance(engine, HandEngine):
        engine.on_stop(playing.cancel)
    try:
        return await playing
    except asyncio.CancelledError:
        if not (isinstance(engine, HandEngine) and engine.stopped and cancelled):
            raise
        return cancelled[0]
