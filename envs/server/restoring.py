"""Episodes between the journal and this process: what is written of a session, and a session made of what was."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from envs.base import EnvFamily
from envs.errors import EnvloopError, InfrastructureError, error_from_json
from envs.server.forks import Replay
from envs.server.history import History, read_action
from envs.server.journal_records import Begun, Kept
from envs.server.session import Session, SharedTask
from envs.types import EnvSpec, EpisodeStatus, Observation, StepResult, Task
from envs.wire import ForkOrigin, dumps, observation_to_json

__all__ = [
    "UNSEEN",
    "begun_of",
    "failure_text",
    "final_text",
    "fork_key",
    "replay_of",
    "restored",
    "same_task",
    "view_of",
]

# What is shown of an episode that was abandoned and cannot be played again.
UNSEEN = StepResult(Observation("", ()), 0.0, terminated=False, truncated=False)


def begun_of(session: Session, *, key: str | None, asked: str, steps: tuple[tuple[int, bytes], ...]) -> Begun:
    """What is written when an episode begins."""
    origin = session.forked_from
    return Begun(
        id=session.id,
        key=key,
        asked=asked,
        env=session.spec.id,
        task_id=session.task.id,
        content_hash=session.task.content_hash,
        seed=session.seed,
        options=dumps(session.options),
        origin=None if origin is None else origin.episode,
        origin_step=0 if origin is None else origin.at_step,
        first_digest=session.history.first_digest,
        steps=steps,
    )


def fork_key(key: str, number: int) -> str:
    """Under which one fork of a request is known by the request's key."""
    return f"fork:{blake2b(key.encode(), digest_size=16).hexdigest()}:{number}"


def final_text(view: StepResult) -> bytes:
    """The last view of an episode, to be read after its end."""
    fields = ("reward", "terminated", "truncated", "valid", "state_hash", "info")
    return dumps({"observation": observation_to_json(view.observation), **{f: getattr(view, f) for f in fields}})


def view_of(final: bytes) -> StepResult:
    """The view that ``final_text`` wrote."""
    body: dict[str, Any] = json.loads(final)
    seen = body.pop("observation")
    return StepResult(Observation(seen["text"], tuple(seen["admissible_actions"])), **body)


def failure_text(failure: EnvloopError | None) -> bytes | None:
    """The error that ended an episode."""
    return None if failure is None else dumps({"error": failure.to_json()})


def same_task(kept: Kept, task: Task) -> None:
    """Raise InfrastructureError where the task is another than when the episode began: a file has changed."""
    if task.content_hash != kept.begun.content_hash:
        raise InfrastructureError(
            f"episode {kept.begun.id} cannot go on: the task {task.id} has changed since it began",
            hint="begin a new episode; the environment's data are others than those of the server that began it",
        )


def replay_of(kept: Kept, family: EnvFamily, task: Task) -> Replay:
    """How to come to where the episode stands."""
    begun = kept.begun
    steps = [(digest, read_action(text)) for digest, text in kept.steps]
    options = json.loads(begun.options)
    return Replay(begun.id, family, task, begun.seed, options, begun.first_digest, steps, what="restored")


def restored(kept: Kept, spec: EnvSpec, task: SharedTask, environment: Any, view: StepResult) -> Session:
    """The session of an episode that was written down."""
    begun = kept.begun
    if kept.final is None and EpisodeStatus(kept.head.status).over:
        view = replace(view, info={**view.info, "ended_because": kept.reason})
    origin = None if begun.origin is None else ForkOrigin(begun.origin, begun.origin_step)
    session = Session(
        begun.id,
        spec=spec,
        task=task,
        seed=begun.seed,
        options=json.loads(begun.options),
        environment=environment,
        view=view,
        history=History.of(begun.first_digest, kept.steps),
        steps=kept.head.steps,
        forked_from=origin,
    )
    status = EpisodeStatus(kept.head.status)
    if status.over:
        failure = None if kept.failure is None else error_from_json(json.loads(kept.failure), http_status=503)
        because = status.value if view.done else f"{status.value}, {kept.reason}"
        session.restore_end(status, because, failure)
    return session
