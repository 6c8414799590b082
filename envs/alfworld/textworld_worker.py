"""A process that plays one TextWorld game after another: JSON lines in, JSON lines out. Started by ``TextWorldEngine``.

TextWorld's parsers are shared by a whole process, its planner prints to stdout, changes ``sys.argv`` and keeps memory,
and closing the planner's library crashes. So each worker owns one ``PddlEnv`` for life, speaks over a copy of stdout,
and leaves with ``os._exit``.

Requests: ``{"op": "open", "game": {…}}``, ``{"op": "reset"}``, ``{"op": "step", "command": "…"}``; the latter two may
ask for ``"facts": true``. Answers: ``{"text", "won", "admissible", "memory"}`` (memory in bytes) with ``"facts"``, the
true ones that steps can change; or ``{"error": "…"}`` for a game that cannot be loaded. Both ways all is ASCII: JSON's
escapes carry any text, lone surrogates too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TextIO

__all__ = ["main"]

# The predicates that steps change, but for two: "checked" and "isOn" decide no command, text or goal.
_CHANGING = frozenset(
    {"atlocation", "holdsany", "holds", "inreceptacle", "objectatlocation"}
    | {"opened", "isclean", "ishot", "iscool", "istoggled", "issliced"}
)


def main() -> NoReturn:
    """Serve requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair: it closes our stdin
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the planner prints
    try:
        _serve(sys.stdin, answers)
        answers.flush()
    finally:
        os._exit(0 if sys.exc_info()[0] is None else 1)


def _serve(requests: TextIO, answers: TextIO) -> None:
    env = _make_env()
    _answer(answers, {"ready": True, "memory": _memory_bytes()})
    handlers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "open": lambda request: _open(env, request["game"]),
        "reset": lambda request: _describe(env.reset(), request),
        "step": lambda request: _describe(env.step(request["command"])[0], request),
    }
    for line in requests:
        request = json.loads(line)
        _answer(answers, handlers[request["op"]](request))


def _make_env() -> Any:
    """TextWorld's PDDL environment under alfworld's names, unshuffled."""
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld import EnvInfos
    from textworld.envs.pddl import PddlEnv

    return AlfredDemangler(PddlEnv(EnvInfos(won=True, admissible_commands=True, feedback=True)), shuffle=False)


def _open(env: Any, game: Mapping[str, Any]) -> dict[str, Any]:
    try:
        env.load(game)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - anything for a broken game; the parent names the file
        return {"error": f"{type(error).__name__}: {error}"[:2000]}
    return {"memory": _memory_bytes()}


def _describe(state: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    answer = {
        "text": state["feedback"],
        "won": bool(state["won"]),
        "admissible": list(state["admissible_commands"]),
        "memory": _memory_bytes(),
    }
    if request.get("facts"):
        answer["facts"] = [
            [fact.name, *(argument.name for argument in fact.arguments)]
            for fact in state["_facts"]
            if fact.name in _CHANGING
        ]
    return answer


def _answer(answers: TextIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _memory_bytes() -> int:
    """The process's resident memory; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
