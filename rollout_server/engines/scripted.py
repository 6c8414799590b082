"""Scripted policies: experts, near misses, a random one, one that does nothing. For tests, baselines and data."""

from __future__ import annotations

import random
from typing import Literal, get_args

from envs.alfworld.explorer import Explorer
from envs.dbbench.experts import NEAR_MISSES
from envs.draws import Draws
from envs.errors import BackendUnavailable, ConfigError
from envs.types import Action
from rollout_server.chat import ChatFormat
from rollout_server.engines.base import GenerationRequest, ScriptContext, Tokenizer
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import Completion, FinishReason, PolicyVersion

__all__ = ["ScriptKind", "ScriptedEngine"]

ScriptKind = Literal["expert", "gold", "explorer", "repair", "near_miss", "random", "noop"]

_THINKING = ("explorer", "repair", "near_miss")

# What a random policy asks of a database before it commits a constant.
_LOOKS = ("SHOW TABLES", "SELECT 1", "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()")


class ScriptedEngine:
    """An engine without a model: it reads the environment's view and writes the action as the protocol would have it.

    Deterministic. ``expert`` and ``gold`` (the same) ask the environment's expert and need its right. ``explorer``
    looks around first: in ALFWorld from what a policy sees, without that right; in DB Bench as the expert of that name
    does; elsewhere it is the expert. ``repair`` errs once and puts it right in DB Bench; elsewhere it is the explorer.
    ``near_miss``, of DB Bench alone, loses by one mistake: by ``miss``, or by one that the episode's seed draws among
    those that the task has; where it has none, no answer is committed. These three say why they act, with ``thoughts``,
    in words drawn by the turn's seed. ``random`` picks an admissible action by the turn's seed; ``noop`` looks around,
    or commits no answer. Logprobs are 0: each turn had probability 1. With a model's own tokenizer the episodes are
    data to fine-tune that model on.

    Raises: ConfigError for an unknown kind or miss, and for thoughts of one that has none.
    """

    name = "scripted"

    def __init__(
        self,
        kind: ScriptKind = "expert",
        tokenizer: Tokenizer | None = None,
        *,
        thoughts: bool = False,
        miss: str | None = None,
    ) -> None:
        if kind not in get_args(ScriptKind):
            raise ConfigError(f"no script is called {kind!r}", hint=f"known: {', '.join(get_args(ScriptKind))}")
        if thoughts and kind not in _THINKING:
            raise ConfigError(
                f"the script {kind} has no thoughts", hint=f"only {', '.join(_THINKING)} say why they act"
            )
        if miss is not None and (kind != "near_miss" or miss not in NEAR_MISSES):
            what = f"no near miss is called {miss!r}" if kind == "near_miss" else f"the script {kind} has no misses"
            raise ConfigError(what, hint=f"known to near_miss: {', '.join(NEAR_MISSES)}")
        self.model = f"scripted-{miss or kind}"
        self.tokenizer: Tokenizer = tokenizer or ByteTokenizer()
        self._kind = kind
        self._thoughts = thoughts
        self._misses = NEAR_MISSES if miss is None else (miss,)
        self._chat = ChatFormat(self.tokenizer)

    async def start(self) -> None:
        """Nothing to load."""

    async def generate(self, request: GenerationRequest) -> Completion:
        """The script's next turn. Raises ConfigError where the request carries no script context."""
        if request.script is None:
            raise ConfigError("a scripted engine plays only within the agent loop", hint="use another engine here")
        ids = self._chat.turn(request.script.render(*await self._action(request.script)))
        cut = len(ids) > request.sampling.max_tokens
        kept = tuple(ids[: request.sampling.max_tokens])
        reason = FinishReason.LENGTH if cut else FinishReason.STOP
        return Completion(kept, (0.0,) * len(kept), reason, request.policy.name)

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Raises BackendUnavailable: a script learns nothing."""
        raise BackendUnavailable("a scripted engine takes no adapters", hint="use the vllm or transformers engine")

    async def unload_policy(self, name: str) -> None:
        """Nothing to forget."""

    async def close(self) -> None:
        """Nothing to free."""

    async def _action(self, script: ScriptContext) -> tuple[Action, str]:
        """The action, and the thought before it or ""."""
        if self._kind in _THINKING and script.env.name == "dbbench":
            action = await self._ask(script) or _noop(script)
            return action, _thought(script, action) if self._thoughts else ""
        if self._kind == "near_miss":
            raise ConfigError(f"{script.env.name} has no near misses", hint="dbbench has; take another script here")
        if self._kind in ("explorer", "repair") and script.env.name == "alfworld":
            return _explore(script, thoughts=self._thoughts)
        if self._kind in ("expert", "gold", "explorer", "repair"):
            return await script.expert() or _noop(script), ""
        return _random(script) if self._kind == "random" else _noop(script), ""

    async def _ask(self, script: ScriptContext) -> Action | None:
        """The expert of DB Bench that the kind names; of the misses the first that knows an action.

        A miss that has none for a task has none in any of its turns, so the choice holds for the episode.
        """
        if self._kind != "near_miss":
            return await script.expert(self._kind)
        for miss in Draws(f"envloop/near_miss/{script.episode_seed}").sample(self._misses, len(self._misses)):
            if (action := await script.expert(miss)) is not None:
                return action
        return None


def _explore(script: ScriptContext, *, thoughts: bool) -> tuple[Action, str]:
    """What the explorer does after reading the episode so far again: an engine keeps no state between turns."""
    first, seed = script.initial, script.seed if thoughts else None
    explorer = Explorer(first.text, admissible=first.admissible_actions, thoughts=seed)
    for step in script.steps:
        command = next(iter(step.action.arguments.values()), "")
        explorer.observe(str(command), step.observation.text, step.observation.admissible_actions)
    return _first_tool(script, explorer.choose()), explorer.thought()


def _thought(script: ScriptContext, action: Action) -> str:
    from envs.dbbench.thoughts import Seen, think  # here, so that episodes without them load no SQL parser

    steps = [Seen(step.action, step.observation.text, step.valid) for step in script.steps]
    return think(script.initial.text, steps, action, script.seed)


def _noop(script: ScriptContext) -> Action:
    if script.env.name == "dbbench":
        return Action("commit_final_answer", {"answers": []})
    return _first_tool(script, "look")


def _random(script: ScriptContext) -> Action:
    draw = random.Random(script.seed)  # noqa: S311 - no secret
    if script.env.name == "dbbench":
        if script.turn < len(_LOOKS):
            return Action("execute_sql", {"query": draw.choice(_LOOKS)})
        return Action("commit_final_answer", {"answers": ["unknown"]})
    choices = script.observation.admissible_actions
    return _first_tool(script, draw.choice(choices) if choices else "look")


def _first_tool(script: ScriptContext, text: str) -> Action:
    """An action of an environment with one tool that takes one text."""
    tool = script.env.tools[0]
    return Action(tool.name, {next(iter(tool.parameters["properties"])): text})
