"""The experts of DB Bench: for every episode a script, and the next of its statements after whatever was done before.

- ``gold``, the default: the gold statements in order, then the commit.
- ``explorer``: looks at tables, columns and rows first, and after a change at what it did.
- ``repair``: writes a statement that the database refuses, reads the error, then writes the right one.
- ``wrong_column``, ``missing_filter``, ``wrong_operator``, ``wrong_aggregate``: near misses. They explore, too, but
  their statement has one mistake; a question's answer is what that statement shows. They score 0.

An expert that errs is found out on a database of its own (``trials.py``): a near miss that would score 1 is none, and a
slip that the database accepts neither. Where no candidate is left, the expert knows no action from the start; that is
so for every near miss of a question without gold SQL, as AgentBench's are. What varies is drawn by the episode's seed
and task. No script is longer than 10 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import get_args

from envs.dbbench.backend import EpisodeSession, StatementResult
from envs.dbbench.scoring import Rules, answer_matches, hash_matches
from envs.dbbench.shown import answer_text, read_rows
from envs.dbbench.tables import quote
from envs.dbbench.tasks import DbTask
from envs.dbbench.trials import Outcome, Trials
from envs.draws import Draws
from envs.types import Action

__all__ = ["EXPERTS", "MAX_SCRIPT", "NEAR_MISSES", "Experts"]

NEAR_MISSES = ("wrong_column", "missing_filter", "wrong_operator", "wrong_aggregate")
"""Experts that score 0."""
EXPERTS = ("gold", "explorer", "repair", *NEAR_MISSES)
MAX_SCRIPT = 10
"""Steps of the longest script, the commit included: AgentBench allows 15 rounds. Many gold statements may exceed it."""

_TRIED = 12  # near misses, at most
_MANY = 20  # values that nobody would commit unless in error
_NO_WORD = ("done",)  # the answer after a change, where any will do


@dataclass(frozen=True, slots=True)
class _Line:
    """A statement of a script. ``needed``: it must be accepted before the script goes on."""

    query: str
    needed: bool = False


@dataclass(frozen=True, slots=True)
class _Script:
    """Statements, then the commit of ``answers``; None: of what the last statement shows."""

    lines: tuple[_Line, ...]
    answers: tuple[str, ...] | None


class Experts:
    """The experts of one episode. ``begin`` gives a session on a new, empty database, for trials.

    Everything is a function of the task, the seed and the statements noted. Not shared between threads.
    """

    def __init__(self, task: DbTask, *, seed: int, begin: Callable[[], EpisodeSession]) -> None:
        self._task = task
        self._seed = seed
        self._begin = begin
        self._scripts: dict[str, _Script | None] = {}
        self._run: list[tuple[bytes, bool]] = []
        self._text = ""

    def note(self, query: str, result: StatementResult) -> None:
        """Tell of a statement that was run, whoever wrote it."""
        self._run.append((_digest(query), result.valid))
        self._text = result.text

    def action(self, expert: str) -> Action | None:
        """What the expert does next: the first line of its script that has not been run yet, or the commit.

        None where it knows nothing to do, and where the statement that it needs has just been refused. ``expert`` is
        one of ``EXPERTS``. May raise InfrastructureError where a statement must be tried out first.
        """
        if expert not in self._scripts:
            self._scripts[expert] = self._write(expert)
        script = self._scripts[expert]
        if script is None:
            return None
        line = self._open_line(script.lines)
        if line is None and script.answers is None and not self._just_run(script.lines[-1], valid=True):
            line = script.lines[-1]  # others came in between: its result must be read again
        if line is not None:
            stuck = line.needed and self._just_run(line, valid=False)
            return None if stuck else Action("execute_sql", {"query": line.query})
        answers = _shown_answers(self._text) if script.answers is None else list(script.answers)
        return None if answers is None else Action("commit_final_answer", {"answers": answers})

    def _open_line(self, lines: Sequence[_Line]) -> _Line | None:
        """The first line that was not run, in order; after a needed one no look before it is worth a step any more."""
        digests = [_digest(line.query) for line in lines]
        needed = [i for i, line in enumerate(lines) if line.needed]
        place = 0
        for digest, valid in self._run:
            due = next((i for i in needed if i >= place), None)
            if due is not None and valid and digest == digests[due]:
                place = due + 1
            elif place < len(lines) and place != due and digest == digests[place]:
                place += 1
        return lines[place] if place < len(lines) else None

    def _just_run(self, line: _Line, *, valid: bool) -> bool:
        return bool(self._run) and self._run[-1] == (_digest(line.query), valid)

    # Scripts.

    def _write(self, expert: str) -> _Script | None:
        if expert == "gold":
            return _Script(self._gold(), self._answers())
        draws = Draws(f"envloop/dbbench/{expert}/{self._seed}/{self._task.split}/{self._task.index}")
        if expert == "explorer":
            before, after = self._looks(draws)
            return _Script((*before, *self._gold(), *after), self._answers())
        return self._repair(draws) if expert == "repair" else self._near_miss(expert, draws)

    def _gold(self) -> tuple[_Line, ...]:
        return tuple(_Line(query, needed=True) for query in self._task.gold_sql)

    def _answers(self) -> tuple[str, ...]:
        return self._task.gold_answers or _NO_WORD

    def _looks(self, draws: Draws, *, room: int = MAX_SCRIPT) -> tuple[list[_Line], list[_Line]]:
        from envs.dbbench.looks import explore  # here, so that episodes without it load no parser

        room = max(0, min(room, MAX_SCRIPT - 1 - len(self._task.gold_sql)))
        before, after = explore(self._task, draws, room=room)
        return [_Line(query) for query in before], [_Line(query) for query in after]

    def _repair(self, draws: Draws) -> _Script | None:
        """The slip in a gold statement or, where there is none, in a look at the rows."""
        from envs.dbbench.looks import concerned_tables
        from envs.dbbench.near_miss import slips

        task = self._task
        table = quote(draws.choice(concerned_tables(task)).name)
        gold = self._gold() or (_Line(f"SELECT * FROM {table} LIMIT 5"),)  # noqa: S608 - from our own tables
        place = draws.below(len(gold))
        # Without gold SQL the slip is in the first look.
        before, _ = self._looks(draws, room=min(draws.below(4), MAX_SCRIPT - 3 - len(gold)) if task.gold_sql else 0)
        with Trials(task, self._begin) as trials:
            slip = next((s for s in slips(gold[place].query, task.tables, draws) if trials.refused(s)), None)
        if slip is None:
            return None
        advice = [_Line(draws.choice(("DESCRIBE {}", "SHOW COLUMNS FROM {}")).format(table))]
        if draws.below(2) or advice[0] in before:
            advice = []
        lines = (*before, *gold[:place], _Line(slip), *advice, *gold[place:])
        return _Script(lines, self._answers())

    def _near_miss(self, kind: str, draws: Draws) -> _Script | None:
        statements = self._miss(kind, draws)
        if statements is None:
            return None
        before, _ = self._looks(draws)
        lines = (*before, *(_Line(query, needed=True) for query in statements))
        return _Script(lines, _NO_WORD if self._task.mutates else None)

    def _miss(self, kind: str, draws: Draws) -> list[str] | None:
        """The gold statements with one mistake among them, of which a trial says that it scores 0."""
        from envs.dbbench.near_miss import misses

        gold = list(self._task.gold_sql)
        found = [
            [*gold[:place], text, *gold[place + 1 :]]
            for place, statement in enumerate(gold)
            for text in misses(kind, statement, self._task.tables, draws)
        ]
        weak = None
        with Trials(self._task, self._begin) as trials:
            untouched = trials.run(()).tables if found and self._task.mutates else ""
            for statements in draws.sample(found, _TRIED):
                outcome = trials.run(statements)
                if self._scores_nothing(outcome):
                    if not _pointless(outcome, untouched):
                        return statements
                    weak = weak or statements
        return weak

    def _scores_nothing(self, outcome: Outcome) -> bool:
        """By either set of rules, so that an episode may be read as one of any protocol."""
        task = self._task
        if not outcome.valid:
            return False
        if task.mutates:
            return bool(outcome.tables and task.gold_hash) and not hash_matches(outcome.tables, task.gold_hash)
        answers = _shown_answers(outcome.text)
        return answers is not None and not any(answer_matches(answers, task.gold_answers, r) for r in get_args(Rules))


def _pointless(outcome: Outcome, untouched: str) -> bool:
    """Whether the mistake is plain to see: nothing found, very much found, or nothing changed."""
    if outcome.tables:
        return outcome.tables == untouched
    answers = _shown_answers(outcome.text)
    return answers is None or answers == ["none"] or len(answers) > _MANY


def _shown_answers(text: str) -> list[str] | None:
    """The values of a result as they were shown, row by row; ``none`` for an empty one; None for another text."""
    read = read_rows(text)
    if read is None:
        return None
    return [answer_text(value) for row in read[0] for value in row] or ["none"]


def _digest(query: str) -> bytes:
    # The classic protocol takes off blanks at the ends and makes newlines blanks.
    return blake2b(query.strip().replace("\n", " ").encode("utf-8", "surrogatepass"), digest_size=12).digest()
