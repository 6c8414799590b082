"""Verifies many stored episodes at once: a window of them is stepped side by side, a request for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field

from envs.client import EnvClient, EpisodeView, NewEpisode
from envs.errors import (
    CapacityExceeded,
    Conflict,
    EnvloopError,
    InfrastructureError,
    InvalidAction,
    InvalidOption,
    NotFound,
    PayloadTooLarge,
    UnknownEpisode,
)
from rollout_server.replay import ReplayDifference, ReplayReport, end_difference, first_difference, step_difference
from rollout_server.types import Episode, StepRecord

__all__ = ["verify_many"]


async def verify_many(
    episodes: Iterable[Episode], client: EnvClient, *, window: int = 128
) -> AsyncIterator[ReplayReport]:
    """A report for each episode, as its replay ends. What is compared: see ``replay.verify``.

    ``window``: how many are live at once; fewer where the env server is full. An episode that never began is reported
    as skipped, a task that is gone as a difference. Raises: InfrastructureError; CapacityExceeded where there is no
    room for a single one. Whatever is live then is closed.
    """
    if window < 1:
        raise InvalidOption(f"the window is {window}", hint="1 or more")
    source = iter(episodes)
    waiting: list[_Replay] = []
    live: list[_Replay] = []
    try:
        while True:
            skipped, fresh = _next(source, window - len(live) - len(waiting))
            for report in skipped:
                yield report
            waiting += fresh
            if not waiting and not live and not fresh and not skipped:
                return
            began, waiting, full = await _begin(client, waiting)
            live += began
            if full is not None and not live:
                raise full
            await _step([replay for replay in live if replay.report is None], client)
            ended = [replay for replay in live if replay.report is not None]
            live = [replay for replay in live if replay.report is None]
            await _close(client, ended)
            for replay in ended:
                assert replay.report is not None
                yield replay.report
    finally:
        await _close(client, live)


@dataclass(slots=True)
class _Replay:
    """An episode under way. ``done`` steps were equal; ``report`` is there once it has ended."""

    episode: Episode
    steps: list[tuple[int, StepRecord]]
    view: EpisodeView | None = None
    done: int = 0
    report: ReplayReport | None = field(default=None)

    def end(self, difference: ReplayDifference | None = None) -> None:
        self.report = ReplayReport(self.episode.id, self.done, len(self.steps), difference)

    def began(self, view: EpisodeView) -> None:
        """Compare the beginning."""
        self.view = view
        wanted, found = self.episode.task.content_hash, view.task.content_hash
        if wanted != found:
            self.end(ReplayDifference("task", "content_hash", wanted, found))
        elif difference := first_difference(self.episode, view.observation):
            self.end(difference)
        elif not self.steps:
            self.end(end_difference(self.episode, view))

    def stepped(self, answer: EpisodeView | EnvloopError) -> None:
        """Compare a step. Raises InfrastructureError."""
        turn, record = self.steps[self.done]
        if isinstance(answer, UnknownEpisode):
            raise InfrastructureError(f"the env server lost the episode: {answer.message}") from answer
        if isinstance(answer, InvalidAction | Conflict | PayloadTooLarge):
            refused = f"refused: {answer}"
            self.end(ReplayDifference(f"step {self.done}", "action", "accepted", refused, turn, self.done))
        elif isinstance(answer, EnvloopError):
            raise answer
        elif difference := step_difference(turn, self.done, record, answer):
            self.end(difference)
        else:
            self.view = answer
            self.done += 1
            if self.done == len(self.steps):
                self.end(end_difference(self.episode, answer))


def _next(source: Iterator[Episode], count: int) -> tuple[list[ReplayReport], list[_Replay]]:
    skipped, fresh = [], []
    for _, episode in zip(range(count), source, strict=False):
        steps = [(turn.index, step) for turn in episode.turns for step in turn.steps]
        if not episode.turns and not episode.prompt:
            skipped.append(ReplayReport(episode.id, 0, 0, None, skipped=f"never began ({episode.status.value})"))
        else:
            fresh.append(_Replay(episode, steps))
    return skipped, fresh


async def _begin(
    client: EnvClient, waiting: list[_Replay]
) -> tuple[list[_Replay], list[_Replay], CapacityExceeded | None]:
    """Those that began (or ended with that), those that still wait, and why they do."""
    began, left = [], []
    full: CapacityExceeded | None = None
    new = [
        NewEpisode(env=e.env, task_id=e.task.id, seed=e.seed, options=dict(e.options))
        for e in (replay.episode for replay in waiting)
    ]
    answers = await client.create_many(new)
    failed: EnvloopError | None = None
    for replay, answer in zip(waiting, answers, strict=True):
        if isinstance(answer, EpisodeView):
            replay.began(answer)
            began.append(replay)
        elif isinstance(answer, CapacityExceeded):
            full = answer
            left.append(replay)
        elif isinstance(answer, NotFound | InvalidOption):
            replay.end(ReplayDifference("task", "start", "accepted", f"refused: {answer}"))
            began.append(replay)
        else:
            failed = failed or answer
    if failed is not None:
        await _close(client, began)
        raise failed
    return began, left, full


async def _step(replays: list[_Replay], client: EnvClient) -> None:
    items = [(r.view, r.steps[r.done][1].action) for r in replays if r.view is not None]
    for replay, answer in zip(replays, await client.step_many(items), strict=True):
        replay.stepped(answer)


async def _close(client: EnvClient, replays: list[_Replay]) -> None:
    """Close on the server. One that is gone there is closed."""
    await client.close_many([replay.view.id for replay in replays if replay.view is not None])
