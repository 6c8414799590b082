"""A TextWorld worker about twenty times faster than the stock one: a judge for comparing the engines at length.

It gives the stock worker's answers: parses of grammar texts and the planner's translations depend on their arguments
alone, so they are remembered; contexts are only ever extended, so their copies need not be deep; and the second
planner, which is asked for plans alone, is never loaded. It is for comparisons, never for episodes.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import fast_downward
import textworld.envs.pddl.logic as pddl_logic
import textworld.envs.pddl.pddl as pddl_env
import textworld.logic
from textworld.envs.pddl import textgen

from envs.alfworld.textworld_worker import main

# Translations of a game are some megabytes; a game's episodes are played one after another.
_GAMES_KEPT = 8
_GRAMMARS_KEPT = 64


def _remember_parses() -> None:
    parse_text: Callable[..., Any] = textgen._parse_and_convert
    parse_rules: Callable[..., Any] = pddl_logic._parse_and_convert

    @functools.lru_cache(maxsize=1 << 16)
    def parsed(source: str, rule_name: str | None) -> Any:
        return parse_text(source, rule_name=rule_name)

    def text(source: str, rule_name: str | None = None, **_: Any) -> Any:
        return copy.deepcopy(parsed(source, rule_name))  # the generator edits what it is given

    @functools.lru_cache(maxsize=_GRAMMARS_KEPT)
    def rules(source: str, rule_name: str | None = None) -> Any:
        return parse_rules(source, rule_name=rule_name)

    textgen._parse_and_convert, pddl_logic._parse_and_convert = text, rules
    query: Any = functools.cache(textworld.logic.Rule.parse_conjunctive_query.__func__)
    textworld.logic.Rule.parse_conjunctive_query = classmethod(query)


def _copy_contexts_flat() -> None:
    def flat(context: dict[str, Any]) -> dict[str, Any]:
        return context | {"variables": dict(context["variables"]), "mapping": dict(context["mapping"])}

    textgen.copy_context = flat


def _remember_translations() -> None:
    translate: Callable[..., Any] = fast_downward.pddl2sas

    @functools.lru_cache(maxsize=_GAMES_KEPT)
    def translated(domain: str, problem: str) -> Any:
        return translate(domain, problem, verbose=False, optimize=False)

    def remembered(domain: str, problem: str, verbose: bool = False, optimize: bool = False) -> Any:
        if optimize:  # for the planner that is never asked
            return None, ""
        return translated(domain, problem)

    class WithoutPlanner:
        def __init__(self, library: Any) -> None:
            self._library = library

        def __getattr__(self, name: str) -> Any:
            return getattr(self._library, name)

        def load_sas_replan(self, _: bytes) -> None:
            """Nothing: plans are never asked for."""

    load: Callable[[], Any] = fast_downward.load_lib
    fast_downward.pddl2sas = pddl_logic.fast_downward.pddl2sas = remembered
    pddl_env.fast_downward.load_lib = lambda: WithoutPlanner(load())


if __name__ == "__main__":
    _remember_parses()
    _copy_contexts_flat()
    _remember_translations()
    main()
