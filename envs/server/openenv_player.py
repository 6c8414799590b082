"""An OpenEnv session: which of our episodes it plays, before and after its connection dropped.

OpenEnv gives every connection an environment of its own: a client whose socket drops is given a blank one in silence.
Here the episode is the server's. A session that has a name finds its episode again, on another connection, another
process, or after a restart; one without a name is told that there is none.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from envs.base import EnvFamily
from envs.errors import InvalidOption, UnknownEpisode
from envs.server.families import Families
from envs.server.openenv_messages import Reset, ToolCall, seen, state_of
from envs.server.session import Session
from envs.server.sessions import SessionTable
from envs.types import Action, EnvSpec, SplitRole, Task

__all__ = ["Player"]

_NO_EPISODE_HINT = (
    "reset first; to go on with an episode after a dropped connection, connect to .../sessions/NAME from the start"
)


class Player:
    """What one client does, in one environment. ``name`` is what the client calls its session, if it does."""

    def __init__(self, spec: EnvSpec, families: Families, sessions: SessionTable, name: str | None = None) -> None:
        self._spec = spec
        self._families = families
        self._sessions = sessions
        self._keys = f"openenv/{spec.name}/{'' if name is None else _digest(name)}/"
        self._named = name is not None
        self._episode: str | None = None

    async def reset(self, asked: Reset) -> dict[str, Any]:
        """Begin an episode and show it; the session's last one is closed where it still runs.

        Raises: InvalidOption; what ``SessionTable.create`` raises.
        """
        before = await self._known()
        own = secrets.token_hex(12) if asked.episode_id is None else _digest(asked.episode_id)
        split = asked.split
        if asked.task_id is None and split is None:
            split = _first_split(await self._families.get(self._spec.name))
        session = await self._sessions.create(
            self._spec.name,
            _pick(asked, split),
            seed=0 if asked.seed is None else asked.seed,
            options=asked.options,
            key=self._keys + own,
            asked=_digest(asked.model_dump_json()),
        )
        self._episode = session.id
        if before is not None and before != session.id:
            await self._close(before)
        return seen(session, fresh=session.steps == 0)

    async def step(self, call: ToolCall, episode_id: str | None = None) -> dict[str, Any]:
        """Take a step of the session's episode, or of the one that is named, and show it.

        Raises: InvalidAction; UnknownEpisode where the session has none; what ``SessionTable.step`` raises.
        """
        if episode_id is not None:
            await self._check(episode_id)
        else:
            episode_id = await self._known()
        if episode_id is None:
            raise UnknownEpisode("this connection plays no episode", hint=_NO_EPISODE_HINT)
        session = await self._sessions.step(episode_id, Action(call.tool_name, call.arguments), call.metadata.step)
        return seen(session)

    async def state(self, episode_id: str | None = None) -> dict[str, Any]:
        """Where the session's episode stands, or the one that is named. Raises what ``SessionTable.current`` raises."""
        episode_id = episode_id or await self._known()
        return state_of(None if episode_id is None else await self._check(episode_id))

    async def close(self) -> None:
        """The client says that it is done: its episode ends where it still runs."""
        episode_id, self._episode = await self._known(), None
        if episode_id is not None:
            await self._close(episode_id)

    async def _close(self, episode_id: str) -> None:
        with contextlib.suppress(UnknownEpisode):  # forgotten long ago
            await self._sessions.close(episode_id)

    async def _known(self) -> str | None:
        """The episode that the session plays; a named one may have begun on a connection that dropped."""
        if self._named and self._episode is None:
            self._episode = await self._sessions.newest(self._keys)
        return self._episode

    async def _check(self, episode_id: str) -> Session:
        session = await self._sessions.current(episode_id)
        if session.spec.name != self._spec.name:
            raise InvalidOption(
                f"episode {episode_id} is one of {session.spec.name}", hint=f"use /openenv/{session.spec.name}"
            )
        return session


def _digest(text: str) -> str:
    """In hexadecimal digits, which every database compares alike."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _first_split(family: EnvFamily) -> str:
    splits = family.splits()
    return next((split.name for split in splits if split.role is SplitRole.TRAIN), splits[0].name)


def _pick(asked: Reset, split: str | None) -> Callable[[EnvFamily], Task]:
    task_id, kind = asked.task_id, asked.type
    if task_id is not None:
        if split is not None or kind is not None:
            raise InvalidOption("give either task_id, or split and type", hint="a task has a split and a type already")
        return lambda family: family.task(task_id)
    drawn = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    return lambda family: family.sample(str(split), drawn, type=kind)
