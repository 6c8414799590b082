"""An episode as a line of AgentBench's ``runs.jsonl``, which its assigner resumes from and its tasks score.

Source: AgentBench v0.2, ``src/assigner.py`` (writes and reads the file), ``src/typings/output.py``, ``general.py`` and
``status.py`` (what a line must be), ``src/server/tasks/{alfworld,dbbench}`` (what a result holds and how it is scored).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from envs.errors import EnvloopError
from envs.types import EpisodeStatus
from rollout_server.export_messages import conversation
from rollout_server.types import Episode, Role

__all__ = ["agentbench_row", "sample_index"]

_STATUSES = {
    EpisodeStatus.COMPLETED: "completed",
    EpisodeStatus.TRUNCATED_TURNS: "task limit reached",
    EpisodeStatus.TRUNCATED_TOKENS: "agent context limit",
}
_MUTATIONS = ("INSERT", "UPDATE", "DELETE")


def agentbench_row(episode: Episode) -> dict[str, Any] | str:
    """The line; a text says why there is none: AgentBench writes what failed to another file.

    Its history knows the roles ``user`` and ``agent`` alone: system and tool messages are the user's, calls are in the
    agent's own text.
    """
    if not episode.status.scored:
        return f"no result ({episode.status.value})"
    roles = {Role.ASSISTANT: "agent"}
    history = [
        {"role": roles.get(message.role, "user"), "content": message.content}
        for message in conversation(episode).messages
    ]
    ended = _ended(episode)
    output = {
        "index": None,
        "status": _STATUSES.get(episode.status) or _refused(episode),
        "result": _dbbench_result(episode) if episode.env == "dbbench" else _alfworld_result(episode),
        "history": history,
    }
    return {
        "index": sample_index(episode.env, episode.task.id),
        "error": None,
        "info": None,
        "output": output,
        "time": {"timestamp": int(ended.timestamp() * 1000), "str": ended.strftime("%Y-%m-%d %H:%M:%S")},
    }


def sample_index(env: str, task_id: str) -> int | str:
    """AgentBench's index of a task: its place in the list or file that it is from; elsewhere the task's id.

    A game that stands twice in a list has its first place.
    """
    split, _, name = task_id.partition("/")
    if env == "alfworld":
        return _alfworld_places(split).get(name, task_id)
    generated = split.startswith("generated")
    return int(name) if env == "dbbench" and name.isascii() and name.isdecimal() and not generated else task_id


@cache
def _alfworld_places(split: str) -> dict[str, int]:
    from envs.alfworld.lists import AGENTBENCH_LISTS

    games = AGENTBENCH_LISTS[split].games() if split in AGENTBENCH_LISTS else ()
    return {game.name: place for place, game in reversed(list(enumerate(games)))}


def _refused(episode: Episode) -> str:
    """How AgentBench calls a turn that its protocol cannot take."""
    return "agent validation failed" if episode.env == "dbbench" else "agent invalid action"


def _ended(episode: Episode) -> datetime:
    try:
        began = datetime.fromisoformat(episode.started_at)
        began = began.replace(tzinfo=UTC) if began.tzinfo is None else began
        return datetime.fromtimestamp(began.timestamp() + episode.duration_s, UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)


def _alfworld_result(episode: Episode) -> dict[str, Any]:
    log: list[dict[str, Any]] = []
    admissible = episode.initial.admissible_actions
    for turn in episode.turns:
        for step in turn.steps:
            entry = {
                "round": len(log) + 1,
                "output": turn.text,
                "action": next(iter(step.action.arguments.values()), ""),
                "admissible_commands": list(admissible),
                "observation": step.observation.text,
                "done": step.terminated or step.truncated,
            }
            log.append(entry)
            admissible = step.observation.admissible_actions
    first = episode.prompt[-1].content if episode.prompt else ""
    return {"log": log, "init_prompt": first, "result": int(episode.success)}


def _dbbench_result(episode: Episode) -> dict[str, Any]:
    """What the scorer compares: an answer's text; for a change the table's hash, as the server would print it."""
    answer = ""
    last = episode.steps[-1].action if episode.steps else None
    if last is not None and last.name == "commit_final_answer":
        given = last.arguments.get("answers", "")
        answer = given if isinstance(given, str) else str(list(given))
    if episode.task.type in _MUTATIONS:
        answer = _gold_hash(episode.task.id) if episode.success else ""
    return {"answer": answer, "type": episode.task.type, "error": "", "is_correct": episode.success}


def _gold_hash(task_id: str) -> str:
    """The hash of a table that was changed as wanted, which is the gold one; "" where the task's data is not here."""
    split, _, number = task_id.partition("/")
    hashes = _gold_hashes(split)
    index = int(number) if number.isdecimal() else -1
    return f"[('{hashes[index]}',)]" if 0 <= index < len(hashes) and hashes[index] else ""


@cache
def _gold_hashes(split: str) -> tuple[str, ...]:
    import os

    from envs.dbbench.tasks import fetched_data_dir, find_task_files

    try:
        files = {file.name: file for file in find_task_files(os.environ.get("DBBENCH_DATA") or fetched_data_dir())}
        return tuple(task.gold_hash for task in files[split].tasks) if split in files else ()
    except EnvloopError:
        return ()
