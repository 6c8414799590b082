"""The environment's side of one episode: begun, stepped and closed on the env server, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from envs.client import EnvClient, EpisodeView
from envs.errors import (
    CapacityExceeded,
    Conflict,
    EnvloopError,
    InfrastructureError,
    InvalidAction,
    PayloadTooLarge,
    UnknownEpisode,
)
from envs.types import Action, JsonObject, Observation
from rollout_server.types import StepRecord

__all__ = ["EnvEpisode"]

_log = logging.getLogger(__name__)
_CREATE_ATTEMPTS = 6
_BACKOFF_S = 0.2
_BEAT_S = 60.0
_GRACE_S = 10.0  # how long a cancellation waits for the env server's answer


class EnvEpisode:
    """One live episode on an env server. ``view`` is the environment's last word; ``told`` what it said of the whole.

    ``told`` holds the ``backend`` that plays it and, by name, how often each of its ``limits`` was met.
    """

    def __init__(self, client: EnvClient) -> None:
        self._client = client
        self._view: EpisodeView | None = None
        self.told: dict[str, Any] = {}

    @property
    def view(self) -> EpisodeView:
        """The environment's view now."""
        assert self._view is not None, "no episode has begun"
        return self._view

    @property
    def reward(self) -> float:
        """The benchmark's reward: 0 unless the environment itself ended the episode."""
        return float(self._view.reward or 0.0) if self._view is not None and self._view.terminated else 0.0

    async def begin(self, env: str, *, task_id: str, seed: int, options: JsonObject) -> EpisodeView:
        """Begin. A full server is asked again for a while; where cancelled, nothing stays there.

        Raises InfrastructureError.
        """
        for attempt in range(_CREATE_ATTEMPTS):
            work = self._client.create(env, task_id=task_id, seed=seed, options=options)
            try:
                self._view = await _uncut(work, undo=lambda view: self._close(view.id))
                return self._view
            except CapacityExceeded as error:
                if attempt + 1 == _CREATE_ATTEMPTS:
                    raise InfrastructureError(
                        f"the env server stayed full: {error.message}", hint=error.hint
                    ) from error
            await asyncio.sleep(_BACKOFF_S * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def step_all(self, actions: tuple[Action, ...]) -> tuple[list[EpisodeView], list[StepRecord], bool]:
        """Apply actions in order until the environment ends.

        The flag says that it refused one for its shape: nothing has changed then, and the policy reads why.
        Raises InfrastructureError.
        """
        views: list[EpisodeView] = []
        steps: list[StepRecord] = []
        refused = False
        for action in actions:
            view = self.view
            if view.status.over:
                break
            try:
                view = await _ours(self._client.step(view, action))
            except (InvalidAction, PayloadTooLarge) as error:
                refused = True
                text = Observation(str(error), view.observation.admissible_actions)
                views.append(replace(view, observation=text, valid=False))
                continue
            self._view = view
            self._note(view.info)
            views.append(view)
            steps.append(
                StepRecord(
                    action=action,
                    observation=view.observation,
                    reward=view.reward or 0.0,
                    terminated=view.terminated,
                    truncated=view.truncated,
                    valid=view.valid,
                    state_hash=view.state_hash,
                    shaping=view.info.get("shaping", {}),
                )
            )
        return views, steps, refused

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep it alive on the server for as long as the context is open: a policy may think longer than it lives."""
        beating = asyncio.create_task(self._beat(self.view.id))
        try:
            yield
        finally:
            beating.cancel()

    async def _beat(self, episode_id: str) -> None:
        pause = _BEAT_S
        while True:
            await asyncio.sleep(pause)
            try:
                (lease,) = await self._client.touch([episode_id])
            except InfrastructureError as error:
                lease = error
            if isinstance(lease, EnvloopError):
                _log.warning("episode %s could not be kept alive: %s", episode_id, lease)
            else:
                pause = min(_BEAT_S, lease / 3)

    async def expert_action(self, expert: str | None = None) -> Action | None:
        """What an expert of the environment would do now; see ``AskExpert``."""
        return await _ours(self._client.expert_action(self.view.id, expert))

    async def close(self) -> None:
        """Close on the server, also when cancelled. A failure changes nothing about what was played."""
        await _uncut(self._close(self.view.id))

    async def _close(self, episode_id: str) -> None:
        try:
            await self._client.close_episode(episode_id)
        except (InfrastructureError, UnknownEpisode) as error:
            # Idle episodes are closed there in time.
            _log.warning("episode %s could not be closed: %s", episode_id, error)

    def _note(self, info: JsonObject) -> None:
        """Keep what a step's info says about the whole episode."""
        if "backend" in info:
            self.told["backend"] = info["backend"]
        for limit in info.get("limits", ()):
            met = self.told.setdefault("limits", {})
            met[limit] = met.get(limit, 0) + 1


async def _ours[T](work: Awaitable[T]) -> T:
    """An env server's answer about a live episode. That it is unknown there is our failure, not the policy's."""
    try:
        return await work
    except (UnknownEpisode, Conflict) as error:
        raise InfrastructureError(f"the env server lost the episode: {error.message}", hint=error.hint) from error


async def _uncut[T](work: Coroutine[Any, Any, T], *, undo: Callable[[T], Awaitable[None]] | None = None) -> T:
    """Await what must not be left half done: a cancellation waits for its end (and undoes it), then goes on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_GRACE_S)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        elif undo is not None and not task.cancelled() and task.exception() is None:
            await undo(task.result())
        raise
