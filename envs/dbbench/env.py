"""One DB Bench episode: a task's tables in a database of its own, statements, and one committed answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from envs.dbbench.backend import Backend, EpisodeSession, Limits, StatementFailed
from envs.dbbench.experts import EXPERTS, Experts
from envs.dbbench.scoring import Answer, Rules, TableHasher, answer_matches, combine_hashes, hash_matches, rules_names
from envs.dbbench.shaping import SHAPING_OPTIONS, Shaper, read_shaping_options, trains
from envs.dbbench.tasks import DbTask
from envs.errors import EpisodeOver, InvalidAction, InvalidOption
from envs.registry import DBBENCH
from envs.types import Action, Observation, StepResult, Task

__all__ = ["DbBenchEnv"]

_COMMITTED = "Answer committed."


class DbBenchEnv:
    """An episode; implements ``envs.base.Environment`` and ``HasExperts``.

    Options: ``rules`` (``fc``, ``classic``), ``max_steps`` (1 to 1000), ``shaping`` and ``shaping_gamma`` (terms for
    training, in each result's info: ``envs.dbbench.shaping``).

    The database is called ``dbbench`` in all that the policy sees and writes, and its clock stands still.
    The reward is 0 or 1 and comes only with ``commit_final_answer``. ``seed`` is RAND()'s.
    """

    experts: Sequence[str] = EXPERTS

    def __init__(self, backend: Backend, find: Callable[[str], DbTask], limits: Limits) -> None:
        self._backend = backend
        self._find = find
        self._limits = limits
        self._task: DbTask | None = None
        self._session: EpisodeSession | None = None
        self._rules: Rules = "fc"
        self._max_steps = DBBENCH.max_steps
        self._steps = 0
        self._done = False
        self._experts: Experts | None = None
        self._shaper: Shaper | None = None
        self._closed = False

    def reset(self, task: Task, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> Observation:
        """Create the task's database. The text is the user message of AgentBench's function-calling version."""
        if self._closed:
            raise EpisodeOver("the episode has been closed")
        self._rules, self._max_steps = _options(options or {})
        terms = read_shaping_options(options or {})
        if terms and not trains(task.split):
            msg = f"shaping tells what an evaluation must not: {task.id} is of an evaluation split"
            raise InvalidOption(msg, hint="leave the option out, or play a task of a training split")
        found = self._find(task.id)
        self._release()
        self._task, self._steps, self._done = found, 0, False
        self._experts = Experts(found, seed=seed, begin=lambda: self._backend.begin(self._limits, seed=seed))
        self._shaper = Shaper(found, terms) if terms else None
        self._session = self._backend.begin(self._limits, seed=seed)
        try:
            self._session.load(found.tables)
        except BaseException:
            self._release()
            raise
        return Observation(found.text)

    def step(self, action: Action) -> StepResult:
        """Run a statement or commit the answer."""
        task, session = self._running()
        if action.name == "execute_sql":
            query = _query(action.arguments)
            result = session.execute(query)
            if self._experts is not None:
                self._experts.note(query, result)
            info: dict[str, Any] = {"seconds": round(result.seconds, 6), "backend": session.backend}
            if result.limits:
                info["limits"] = list(result.limits)
            if self._shaper is not None:
                info["shaping"] = self._shaper.statement(query, result)
            return self._stepped(Observation(result.text), valid=result.valid, info=info)
        if action.name == "commit_final_answer":
            correct = self._judge(task, session, _answers(action.arguments))
            self._steps += 1
            self._done = True
            self._release()
            info = {"backend": session.backend}
            if self._shaper is not None:
                info["shaping"] = self._shaper.commit()
            return StepResult(
                Observation(_COMMITTED), reward=float(correct), terminated=True, truncated=False, info=info
            )
        names = ", ".join(tool.name for tool in DBBENCH.tools)
        raise InvalidAction(f"no tool is called {action.name!r}", hint=f"tools: {names}")

    def expert_action(self, expert: str | None = None) -> Action | None:
        """What an expert (``envs.dbbench.experts``) does next; None after the end, or where it knows nothing to do.

        ``gold`` is the default. Raises InvalidOption for another name; InfrastructureError where an expert that errs
        cannot try its statement out.
        """
        expert = EXPERTS[0] if expert is None else expert
        if expert not in EXPERTS:
            raise InvalidOption(f"dbbench has no expert {expert!r:.40}", hint=f"known: {', '.join(EXPERTS)}")
        if self._experts is None or self._done:
            return None
        return self._experts.action(expert)

    def close(self) -> None:
        """End the sessions and drop the database. Idempotent."""
        self._closed = self._done = True
        self._release()

    def _running(self) -> tuple[DbTask, EpisodeSession]:
        if self._task is None:
            raise EpisodeOver("the episode has not begun", hint="reset it first")
        if self._done or self._session is None:
            raise EpisodeOver("the episode is over", hint="start another")
        return self._task, self._session

    def _stepped(self, observation: Observation, *, valid: bool, info: Mapping[str, Any]) -> StepResult:
        self._steps += 1
        truncated = self._steps >= self._max_steps
        if truncated:
            self._done = True
            self._release()
        return StepResult(observation, reward=0.0, terminated=False, truncated=truncated, valid=valid, info=info)

    def _judge(self, task: DbTask, session: EpisodeSession, answers: Answer) -> bool:
        if not task.mutates:
            return answer_matches(answers, task.gold_answers, self._rules)
        session.renew()
        hashes = []
        for table in task.tables:
            hasher = TableHasher()
            try:
                for row in session.rows_of(table.name, table.columns):
                    hasher.add(row)
            except StatementFailed:  # dropped, renamed, too large: not the wanted table
                return False
            hashes.append(hasher.digest())
        return hash_matches(combine_hashes(hashes), task.gold_hash)

    def _release(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _options(options: Mapping[str, Any]) -> tuple[Rules, int]:
    known = ("rules", "max_steps", *SHAPING_OPTIONS)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidOption(f"dbbench has no option {', '.join(unknown)}", hint=f"known: {', '.join(known)}")
    rules = options.get("rules", "fc")
    if rules not in rules_names():
        raise InvalidOption(f"rules is {rules!r}", hint=f"one of {', '.join(rules_names())}")
    steps = options.get("max_steps", DBBENCH.max_steps)
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= 1000:
        raise InvalidOption(f"max_steps is {steps!r}", hint="a whole number from 1 to 1000")
    return cast("Rules", rules), steps


def _query(arguments: Mapping[str, Any]) -> str:
    query = arguments.get("query")
    if set(arguments) != {"query"} or not isinstance(query, str):
        raise InvalidAction("execute_sql takes one argument, query, a text", hint='{"query": "SELECT 1"}')
    return query


def _answers(arguments: Mapping[str, Any]) -> Answer:
    """A list of plain values, or one text, which the rules read as AgentBench does."""
    answers = arguments.get("answers")
    plain = isinstance(answers, str) or (
        isinstance(answers, Sequence) and all(item is None or isinstance(item, (str, int, float)) for item in answers)
    )
    if set(arguments) != {"answers"} or not plain:
        raise InvalidAction(
            "commit_final_answer takes one argument, answers, a list of texts", hint='{"answers": ["42"]}'
        )
    return cast("Answer", answers)
