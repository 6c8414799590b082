"""Rollouts as an answer that grows: an episode a line as it ends, and an end to everything when the caller goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Protocol

from starlette.requests import Request

from envs.errors import EnvloopError, TryAgain
from envs.server.guard import internal_error
from rollout_server.serialize import dumps, episode_to_json, group_to_json
from rollout_server.service import EpisodeCallback
from rollout_server.types import Episode, Group, RolloutRequest

__all__ = ["HEARTBEAT_S", "GrowingAnswer", "play_or_give_up", "unless_gone"]

HEARTBEAT_S = 10.0
_EARLY_S = 2.0


class _Player(Protocol):
    """What plays: a ``RolloutService``, or a server that brings one up first."""

    async def rollouts(
        self, request: RolloutRequest, *, on_episode: EpisodeCallback | None = None
    ) -> Sequence[Group]: ...


async def play_or_give_up(service: _Player, request: RolloutRequest, caller: Request) -> bytes:
    """Play everything and answer ``{"groups": […]}``; cancelled, episodes and all, where the caller goes away."""
    groups = await unless_gone(_play(service, request), caller)
    return await asyncio.to_thread(lambda: dumps({"groups": [group_to_json(group) for group in groups]}).encode())


async def unless_gone[T](work: Coroutine[Any, Any, T], caller: Request) -> T:
    """What the work gives; it is cancelled where the caller, whose request's body was read, goes away."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(caller))
    gone.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if gone.done() and not gone.cancelled():
            raise TryAgain("the caller has gone") from None  # which nobody hears, and no log takes for a fault
        raise
    finally:
        await _end(task, gone)


class GrowingAnswer:
    """Lines of JSON: ``{"episode": …}`` as each ends, at last ``{"groups": [{"id", "task", "episodes": [ids]}]}`` or
    ``{"error": …}``. An empty line every ten seconds says that the server is there."""

    def __init__(self, service: _Player, request: RolloutRequest, caller: Request) -> None:
        self._episodes: asyncio.Queue[Episode | None] = asyncio.Queue()
        self._task = asyncio.create_task(_play(service, request, self._episodes))
        self._task.add_done_callback(lambda _: self._episodes.put_nowait(None))
        self._gone = asyncio.create_task(_gone(caller))
        self._gone.add_done_callback(lambda _: self._task.cancel())

    async def begin(self) -> AsyncIterator[bytes]:
        """The lines. What fails at once (an unknown task, say) is raised here, so that it gets its own HTTP status."""
        try:
            done, _ = await asyncio.wait({self._task}, timeout=_EARLY_S)
            if done:
                self._task.result()
        except BaseException:
            await _end(self._task, self._gone)
            raise
        return self._lines()

    async def _lines(self) -> AsyncIterator[bytes]:
        try:
            while True:
                try:
                    episode = await asyncio.wait_for(self._episodes.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield b"\n"
                    continue
                if episode is None:
                    break
                yield await asyncio.to_thread(_line, episode)
            yield (dumps(self._last()) + "\n").encode()
        finally:
            await _end(self._task, self._gone)

    def _last(self) -> dict[str, Any]:
        try:
            groups = self._task.result()
        except EnvloopError as error:
            return {"error": error.to_json()}
        except asyncio.CancelledError:
            return {"error": {"code": "infrastructure_error", "message": "the rollouts were cancelled", "hint": ""}}
        except Exception as error:  # noqa: BLE001 - logged with an id; the caller sees that id
            return {"error": internal_error(error, "a rollout")}
        return {"groups": [_outline(group) for group in groups]}


async def _play(
    service: _Player, request: RolloutRequest, episodes: asyncio.Queue[Episode | None] | None = None
) -> Sequence[Group]:
    return await service.rollouts(request, on_episode=episodes.put_nowait if episodes is not None else None)


async def _gone(caller: Request) -> None:
    """Return when the caller has closed the connection. The request's body was read already."""
    while (await caller.receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _line(episode: Episode) -> bytes:
    return (dumps({"episode": episode_to_json(episode)}) + "\n").encode()


def _outline(group: Group) -> dict[str, Any]:
    document = group_to_json(Group(group.id, group.task, ()))
    return {"id": group.id, "task": document["task"], "episodes": [episode.id for episode in group.episodes]}
