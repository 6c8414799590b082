"""Episodes that several servers may hold: brought here from the journal, and dropped where another has gone on."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

from envs.errors import BackendUnavailable, InfrastructureError, TryAgain
from envs.server.families import Families
from envs.server.forks import Branch, close_quietly
from envs.server.journal import Journal
from envs.server.lives import Lives
from envs.server.restoring import UNSEEN, failure_text, final_text, replay_of, restored, same_task, view_of
from envs.server.session import Session
from envs.types import EpisodeStatus

__all__ = ["TRIES", "SharedLives"]

TRIES = 3  # another server may be at the same episode


class SharedLives(Lives):
    """Lives whose episodes may be played again here. Without a journal there are none but this process's own."""

    def __init__(self, families: Families, **settings: Any) -> None:
        super().__init__(families, **settings)
        self._restoring: dict[str, asyncio.Task[Session]] = {}

    async def current(self, episode_id: str) -> Session:
        """The session as the last server left it. Raises UnknownEpisode; what playing it again raises."""
        for _ in range(TRIES):
            session = await self._held(episode_id)
            self._touch(session)
            async with session.lock:
                if await session.settled() and (session.status.over or await self._stands(session)):
                    return session
        raise TryAgain(f"episode {episode_id} is being stepped elsewhere", hint="send it again")

    async def _stands(self, session: Session) -> bool:
        """Whether nobody else has gone on with it; else it is stale. For whoever holds its lock."""
        if self._journal is None:
            return True
        here = (session.status.value, session.steps)
        head = await self._written(self._journal.head(session.id))
        if here != (session.status.value, session.steps):
            return await session.settled()  # a step was taken here meanwhile, and the journal judges that
        session.stale = session.stale or head is None or (head.status, head.steps) != here
        return not session.stale

    async def _held(self, episode_id: str) -> Session:
        """The session that is held here, or one that is played again from the journal."""
        session = self._live.get(episode_id) or self._ended.get(episode_id)
        if session is not None and not session.stale:
            return session
        if self._journal is None:
            return self.read(episode_id)  # which says that there is none
        if session is not None:
            await self._let_go(session)
        restoring = self._restoring.get(episode_id)
        if restoring is None:
            restoring = self._restoring[episode_id] = asyncio.create_task(self._restore(self._journal, episode_id))
            restoring.add_done_callback(lambda _: self._restoring.pop(episode_id, None))
        return await asyncio.shield(restoring)

    async def _restore(self, journal: Journal, episode_id: str) -> Session:
        kept = await self._written(journal.load(episode_id))
        if kept is None:
            return self.read(episode_id)  # which says that there is none
        family = await self._families.get(kept.begun.env)
        running = not EpisodeStatus(kept.head.status).over
        task = await self._run(True, lambda: family.task(kept.begun.task_id))
        if not running and kept.final is not None:
            session = restored(kept, family.spec, self._shared(family.spec.name, task), None, view_of(kept.final))
            self._retire(session)
            return session

        async def play() -> list[Branch]:
            same_task(kept, task)
            return [await self._run(True, replay_of(kept, family, task).play)]

        environment, view = None, UNSEEN
        try:
            with self._places(1) if running else contextlib.nullcontext():
                (branch,) = await self._whole(play())
            environment, view = branch.environment, branch.view
        except BackendUnavailable as error:
            raise TryAgain(error.message, hint=error.hint) from error
        except InfrastructureError as error:
            if running:
                text = failure_text(error)
                status = EpisodeStatus.INFRASTRUCTURE_ERROR.value
                await self._written(
                    journal.end(
                        episode_id, steps=kept.head.steps, status=status, reason=error.message, failure=text,
                        final=final_text(UNSEEN),
                    )
                )  # fmt: skip
                return await self._restore(journal, episode_id)
        if not running and environment is not None:
            await self._run(True, partial(close_quietly, environment))
            environment = None
        session = restored(kept, family.spec, self._shared(family.spec.name, task), environment, view)
        self._metrics.restored.labels(family.spec.name).inc()
        if running:
            self._live[session.id] = session
        else:
            self._retire(session)
        return session

    async def _written[T](self, future: asyncio.Future[T]) -> T:
        """What the journal answers. Raises TryAgain where it fails."""
        try:
            return await asyncio.shield(future)
        except TryAgain:
            raise
        except BackendUnavailable as error:
            raise TryAgain(error.message, hint=error.hint) from error
