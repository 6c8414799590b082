"""What may be asked of the sessions, from validated requests: shared by single requests, batches and streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b

from envs.base import EnvFamily
from envs.errors import EpisodeOver, InvalidOption
from envs.server.schemas import CreateEpisode, ForkRequest, StepItem, StepRequest
from envs.server.session import Session
from envs.server.sessions import SessionTable
from envs.types import Action, Task

__all__ = ["IN_ONE_GO", "Operations"]

# Items that are done in one go of the event loop; then whoever else waits has a turn.
IN_ONE_GO = 16


class Operations:
    """Raises what ``SessionTable`` raises."""

    def __init__(self, sessions: SessionTable, *, max_batch: int) -> None:
        self.sessions = sessions
        self.max_batch = max_batch

    async def create(self, request: CreateEpisode, header: str | None = None) -> Session:
        """Begin an episode; ``header`` is the idempotency key where the request itself has none."""
        key = request.idempotency_key or header
        asked = "" if key is None else _digest(request)
        pick = _pick(request)
        return await self.sessions.create(
            request.env, pick, seed=request.seed, options=request.options, key=key, asked=asked
        )

    async def step(self, episode_id: str, request: StepRequest) -> Session:
        """Take a step; it is written down when this returns."""
        return await self.sessions.step(episode_id, _action(request), request.step)

    async def first_half(self, item: StepItem) -> tuple[Session, bytes]:
        """Take the step; it need not be written down yet. With what is to be told then."""
        session = await self.sessions.step(item.episode_id, _action(item), item.step, settle=False)
        return session, session.body

    async def second_half(self, item: StepItem, session: Session, body: bytes) -> bytes:
        """Wait until it is written down."""
        settled = await self.sessions.settle(session, _action(item), item.step)
        return body if settled is session else settled.body

    async def fork(self, episode_id: str, request: ForkRequest, header: str | None = None) -> list[Session]:
        """Go on from a step of an episode, as often as asked."""
        self.check_size("count", request.count)
        key = request.idempotency_key or header
        asked = "" if key is None else _digest(request, episode_id)
        return await self.sessions.fork(episode_id, at_step=request.at_step, count=request.count, key=key, asked=asked)

    async def touch(self, episode_id: str) -> float:
        """Keep an episode alive; gives the seconds for which it is from now on."""
        session = await self.sessions.current(episode_id)
        if session.status.over:
            raise EpisodeOver(f"episode {session.id} has ended: {session.ended_because}", hint="create a new episode")
        return self.sessions.idle_timeout_s

    def check_size(self, what: str, size: int) -> None:
        """Raise InvalidOption for more than a batch may have."""
        if size > self.max_batch:
            raise InvalidOption(
                f"{what}: {size} at once, and the limit is {self.max_batch}", hint="send several requests"
            )


def _action(request: StepRequest) -> Action:
    return Action(request.action.name, request.action.arguments)


def _pick(request: CreateEpisode) -> Callable[[EnvFamily], Task]:
    task_id, sampler = request.task_id, request.sampler
    if task_id is not None:
        return lambda family: family.task(task_id)
    if sampler is None:
        raise InvalidOption("give either task_id or sampler")
    return lambda family: family.sample(sampler.split, sampler.seed, type=sampler.type)


def _digest(request: CreateEpisode | ForkRequest, episode_id: str = "") -> str:
    """Of what is asked for, whatever the key and however it is sent."""
    asked = json.dumps(request.model_dump(mode="json", exclude={"idempotency_key"}), sort_keys=True)
    return blake2b((episode_id + asked).encode(), digest_size=16).hexdigest()
