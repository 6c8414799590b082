"""Thoughts of a policy on a database: a sentence or two in the first person, drawn among several wordings.

They speak of what the episode has shown and of the action that follows, read from its SQL, and know nothing else. They
are for scripted episodes that a model learns from. The words are the same for the same arguments, on every machine and
in every version of Python. Import it late, as ``parsing.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envs.dbbench.shown import answer_text, read_rows
from envs.dbbench.thought_plans import listed, plan_of
from envs.draws import Draws
from envs.types import Action

__all__ = ["Seen", "think"]

_LONGEST_TASK = 160  # characters of a question that is said again
_NO_COLUMN = re.compile(r"Unknown column '([^']+)'")
_NO_TABLE = re.compile(r"Table '(?:[^'.]+\.)?([^']+)' doesn't exist")
_NEAR = re.compile(r"near '([^']*)")
_NUMBERED = re.compile(r"^[0-9]+(?: \([0-9A-Z]{5}\))?: ")
# What a protocol reads as an action, or a template as markup: no thought may hold it, though a table's name may.
_MARKUP = re.compile(r"Action\s*:|Answer\s*:|THOUGHT\s*:|tool_call|```|<\||\|>|[\r\n]")

_WORDINGS: Mapping[str, Sequence[str]] = {
    # What has just happened.
    "task": ("The task: {what}", "I am asked: {what}", "What is wanted: {what}"),
    "no_column": (
        "The database says that there is no column {what}.",
        "{what} is not what the column is called.",
        "The error says that the column {what} is unknown, so I have the name wrong.",
    ),
    "no_table": (
        "There is no table called {what}.",
        "The error says that the table {what} does not exist.",
        "I have the table's name wrong: {what} does not exist.",
    ),
    "syntax": (
        "That is a syntax error{near}.",
        "The database cannot read my statement{near}.",
        "I made a slip in the statement's syntax{near}.",
    ),
    "refused": (
        "The database refused that: {what}.",
        "That failed: {what}.",
        "The error says: {what}.",
    ),
    "one_table": ("There is one table, {what}.", "The only table is {what}.", "So the table is {what}."),
    "tables": ("The tables are {what}.", "There are the tables {what}.", "I see the tables {what}."),
    "columns": ("The columns are {what}.", "It has the columns {what}.", "So there are the columns {what}."),
    "rows": (
        "Now I know what the rows look like.",
        "That shows how the values are written.",
        "I see what kind of values the columns hold.",
    ),
    "count": ("The table has {what} rows.", "There are {what} rows in all."),
    "values": ("Values are spelt like {what}.", "The column holds values such as {what}."),
    "changed": ("The change went through.", "The statement was accepted.", "That worked without an error."),
    "row_fits": ("One row fits.", "The filter finds one row.", "There is exactly one such row."),
    "rows_fit": ("{count} rows fit.", "The filter finds {count} rows.", "There are {count} such rows."),
    "nothing": ("Nothing was found.", "The result is empty.", "No row fits."),
    "one": ("The result is {what}.", "It gives {what}.", "The database says {what}."),
    "several": ("The result has {count} values: {what}.", "I get {count} values: {what}."),
    "many": ("The result has {count} values.", "That gives {count} values."),
    # Why the next action is chosen.
    "look_tables": (
        "First I look which tables there are.",
        "Let me see which tables the database has.",
        "I begin with the list of tables.",
        "I list the tables to know their exact names.",
    ),
    "look_columns": (
        "I look which columns {table} has.",
        "Next I check the columns of {table}.",
        "To write the statement I need the exact column names of {table}.",
        "Let me see how {table} is built.",
    ),
    "look_rows": (
        "I look at a few rows of {table}.",
        "A few rows of {table} will show how the values are written.",
        "Let me see some rows of {table} first.",
    ),
    "look_count": ("I check how many rows {table} has.", "Let me count the rows of {table}."),
    "look_values": (
        "I check how the values of {columns} are spelt.",
        "Let me see which values {columns} has before I filter by it.",
    ),
    "look_filtered": (
        "I look at the rows that the filter by {filters} finds.",
        "First I look which rows are concerned, by {filters}.",
        "Let me see the rows concerned, filtered by {filters}.",
    ),
    "look_after": (
        "I check the outcome.",
        "Let me see whether the rows are right now.",
        "I look at the rows again to be sure.",
    ),
    "query": (
        "For this I {plan}.",
        "I {plan}.",
        "To find it I {plan}.",
        "So the statement has to {plan}.",
    ),
    "insert": (
        "I insert the new row into {table}, with {columns}.",
        "Now I add the row to {table} and give {columns}.",
        "The new row goes into {table}; I set {columns}.",
    ),
    "insert_rows": ("I insert {count} rows into {table}, with {columns}.", "Now I add {count} rows to {table}."),
    "update": (
        "I set {columns} in the rows of {table} chosen by {filters}.",
        "Now I update {columns} of {table}, filtered by {filters}.",
        "The rows are found by {filters}; I change {columns}.",
    ),
    "update_all": ("I set {columns} in every row of {table}.", "Now I change {columns} in the whole of {table}."),
    "delete": (
        "I delete rows of {table}, those that the filter by {filters} finds.",
        "Now I remove rows from {table}, filtered by {filters}.",
    ),
    "delete_all": ("I delete every row of {table}.", "Now I empty {table}."),
    "run": ("I run this statement.", "Let me try this statement.", "I ask the database."),
    "again": ("I write it again, corrected.", "I correct it and try again.", "With that put right I try again."),
    "commit_change": (
        "The database is changed as asked, so I commit.",
        "That was all there was to change; I commit.",
        "Nothing is left to do, so I finish here.",
    ),
    "commit_found": (
        "That is the answer, so I commit it.",
        "I commit that as my answer.",
        "This answers the question.",
    ),
    "commit": (
        "From what I have seen, I answer {what}.",
        "My answer is {what}.",
        "I commit {what}.",
    ),
    "commit_long": ("I commit what I have found.", "I am ready to answer."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """A step that has been done: the action, the observation's text, and whether it was accepted."""

    action: Action
    text: str
    valid: bool


@dataclass(frozen=True, slots=True)
class _Remark:
    name: str
    words: Mapping[str, str] = field(default_factory=dict)


def think(description: str, steps: Sequence[Seen], action: Action, seed: int) -> str:
    """The thought before an action.

    Args:
        description: the task's first observation, or its question alone.
        steps: what has been done so far, in order.
        action: what is done next.
        seed: draws the words.
    """
    draws = Draws(f"envloop/dbbench/thoughts/{seed}/{len(steps)}")
    remarks = [_happened(steps[-1]) if steps else _task(description), _next(steps, action)]
    said = [_say(remark, draws) for remark in remarks if remark is not None]
    return " ".join(said)


def _say(remark: _Remark, draws: Draws) -> str:
    wording = draws.choice(_WORDINGS[remark.name])
    text = wording.format_map(remark.words)
    return _plain_words(remark) if _MARKUP.search(text) else text[:1].upper() + text[1:]


def _plain_words(remark: _Remark) -> str:
    """A remark that names nothing, where a name would be read as something else."""
    return "I go on." if remark.name.startswith(("look", "query", "insert", "update", "delete", "commit")) else "I see."


# What has just happened.


def _task(description: str) -> _Remark | None:
    question = description.rpartition("Question: ")[2].strip()
    return _Remark("task", {"what": question}) if 0 < len(question) <= _LONGEST_TASK else None


def _happened(step: Seen) -> _Remark | None:
    query = _query(step.action)
    if query is None:
        return None
    if not step.valid:
        return _error(step.text)
    plan = plan_of(query)
    read = read_rows(step.text)
    if plan.changes:
        return _Remark("changed")
    if read is None:
        return None
    rows, whole = read
    if plan.kind in ("tables", "columns"):
        names = [str(row[0]) for row in rows if row]
        kind = "one_table" if plan.kind == "tables" and len(names) == 1 else plan.kind
        return _Remark(kind, {"what": listed(names)}) if names else None
    if plan.kind == "rows":
        return _Remark("rows") if rows else _Remark("nothing")
    if plan.kind == "filtered_rows" and rows:
        return _Remark("row_fits") if len(rows) == 1 and whole else _Remark("rows_fit", {"count": _number(rows, whole)})
    values = [answer_text(value) for row in rows for value in row]
    if not values:
        return _Remark("nothing") if whole else None
    shown = ", ".join(map(_short, values[:4]))
    if plan.kind == "values":
        return _Remark("values", {"what": shown})
    if len(values) == 1:
        return _Remark("count" if plan.kind == "count" else "one", {"what": _short(values[0])})
    name = "several" if len(values) <= 4 and whole else "many"
    return _Remark(name, {"what": shown, "count": _number(values, whole)})


def _number(items: Sequence[object], whole: bool) -> str:
    return str(len(items)) if whole else f"more than {len(items)}"


def _error(text: str) -> _Remark:
    if found := _NO_COLUMN.search(text):
        return _Remark("no_column", {"what": _ticked(found[1])})
    if found := _NO_TABLE.search(text):
        return _Remark("no_table", {"what": _ticked(found[1])})
    if "syntax" in text:
        near = _NEAR.search(text)
        place = _short(near[1]) if near else ""
        return _Remark("syntax", {"near": f" near {place}" if place else ""})
    return _Remark("refused", {"what": _short(_NUMBERED.sub("", text).rstrip(".")) or "no reason given"})


# Why the next action is chosen.


def _next(steps: Sequence[Seen], action: Action) -> _Remark:
    query = _query(action)
    if query is None:
        return _commit(steps, action)
    plan = plan_of(query)
    done = [plan_of(q) for step in steps if step.valid and (q := _query(step.action)) is not None]
    if steps and not steps[-1].valid and plan.kind not in ("tables", "columns"):
        return _Remark("again")
    words = {"table": listed(plan.tables[:1]), "columns": listed(plan.columns), "filters": listed(plan.filters)}
    match plan.kind:
        case "tables" | "columns" | "rows" | "count" | "values":
            return _Remark(f"look_{plan.kind}", words)
        case "filtered_rows" | "query" if plan.filters and any(p.changes for p in done):
            return _Remark("look_after")
        case "filtered_rows" if plan.filters:
            return _Remark("look_filtered", words)
        case "insert" if plan.columns:
            many = plan.count > 1
            return _Remark("insert_rows" if many else "insert", words | {"count": str(plan.count)})
        case "update" if plan.columns:
            return _Remark("update" if plan.filters else "update_all", words)
        case "delete":
            return _Remark("delete" if plan.filters else "delete_all", words)
        case "query" if plan.words:
            return _Remark("query", {"plan": plan.words})
        case _:
            return _Remark("run")


def _commit(steps: Sequence[Seen], action: Action) -> _Remark:
    done = [plan_of(q) for step in steps if step.valid and (q := _query(step.action)) is not None]
    if any(plan.changes for plan in done):
        return _Remark("commit_change")
    answers = action.arguments.get("answers", ())
    texts = [answers] if isinstance(answers, str) else [str(answer) for answer in answers]
    if texts and done and steps[-1].valid and done[-1].kind in ("query", "count", "values"):
        rows, _ = read_rows(steps[-1].text) or ([], True)
        shown = {answer_text(value) for row in rows for value in row} or {"none"}
        if set(texts) <= shown or len(shown) == len(texts) == 1:  # 12 may be committed as 12.0
            return _Remark("commit_found")
    what = ", ".join(map(_short, texts))
    return _Remark("commit", {"what": what}) if 0 < len(what) <= _LONGEST_TASK else _Remark("commit_long")


def _query(action: Action) -> str | None:
    value = action.arguments.get("query") if action.name == "execute_sql" else None
    return value if isinstance(value, str) else None


def _ticked(name: str) -> str:
    return listed([name])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}…"
