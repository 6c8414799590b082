"""Tasks whose gold answers, statements, hashes and plans are words that stand nowhere else, to hunt for leaks with."""

from __future__ import annotations

import json
from pathlib import Path

from secret_watch import GOLD_MARKER

from envs.alfworld.export import write_generated_games
from envs.registry import ALFWORLD, DBBENCH

__all__ = ["GOLD_HASH", "QUESTIONS", "write_marked_games", "write_marked_tasks"]

GOLD_HASH = "5eed0fda7e57ab1e5eed0fda7e57ab1e"
CHANGES = {
    "INSERT": f"INSERT INTO things VALUES ('{GOLD_MARKER}insert', '1')",
    "UPDATE": f"UPDATE things SET name = '{GOLD_MARKER}update'",
    "DELETE": f"DELETE FROM things WHERE name <> '{GOLD_MARKER}delete'",
}
QUESTIONS = tuple(kind for kind in DBBENCH.task_types if kind not in CHANGES)


def _row(kind: str, *, typed: bool = False, **more: object) -> str:
    columns = [{"name": "name", "type": "text"}, {"name": "size", "type": "text"}]
    table = {"table_name": "things", "table_info": {"columns": columns, "rows": [["cup", "3"], ["mug", "4"]]}}
    row = {"type": [kind], "description": f"A task of {kind}", "typed": typed, "table": [table] if typed else table}
    return json.dumps({**row, **more})


def write_marked_tasks(folder: Path) -> int:
    """``marked.jsonl``: every type with stored gold, then with gold that a statement finds, then broken gold."""
    rows = []
    for number, kind in enumerate(QUESTIONS):
        query = {"query": f"SELECT '{GOLD_MARKER}untrusted'"}
        rows.append(_row(kind, label=[f"{GOLD_MARKER}label{number}", f"{GOLD_MARKER}second{number}"], sql=query))
    for kind, statement in CHANGES.items():
        rows.append(_row(kind, label=[statement], answer_md5=f"[('{GOLD_HASH}',)]"))
    for kind in QUESTIONS[:2]:
        rows.append(_row(kind, typed=True, sql={"query": f"SELECT '{GOLD_MARKER}found' FROM things LIMIT 1"}))
    for kind, statement in CHANGES.items():
        rows.append(_row(kind, typed=True, sql={"query": statement}))
    good = len(rows)
    rows.append(_row("other", typed=True, sql={"query": f"SELECT {GOLD_MARKER.replace('-', '_')}x FROM nowhere"}))
    rows.append(_row("other", typed=True, sql={"query": f"SELECT '{GOLD_MARKER}syntax FROM"}))
    rows.append(_row("INSERT", typed=True, sql={"query": f"INSERT INTO gone VALUES ('{GOLD_MARKER}gone')"}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "marked.jsonl").write_text("\n".join(rows) + "\n")
    return good


def write_marked_games(folder: Path) -> None:
    """A game of each type in the official layout, with another's plan in place of its own."""
    for game in write_generated_games(folder, len(ALFWORLD.task_types), difficulty="easy", split="valid_seen"):
        content = json.loads(game.path.read_text())
        content["walkthrough"] = [f"{GOLD_MARKER}walk", f"{GOLD_MARKER}there"]
        game.path.write_text(json.dumps(content))
        beside = game.path.with_name("traj_data.json")
        trajectory = json.loads(beside.read_text())
        trajectory["plan"] = {"high_pddl": [{"planner_action": f"{GOLD_MARKER}high"}], "low_actions": []}
        beside.write_text(json.dumps(trajectory))
