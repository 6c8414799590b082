"""Scripted engines: deterministic, honest about cuts, and only within the agent loop."""

from __future__ import annotations

from typing import Any

import pytest
from protocol_samples import alfworld_view, dbbench_view

from envs.errors import ConfigError
from envs.registry import ALFWORLD, DBBENCH
from envs.types import Action, EnvSpec
from envs.wire import EpisodeView
from rollout_server.engines.base import Engine, GenerationRequest, ScriptContext
from rollout_server.engines.scripted import ScriptedEngine, ScriptKind
from rollout_server.protocols import get_protocol
from rollout_server.types import FinishReason, PolicyVersion, SamplingParams

ACTIONS = ("go to fridge 1", "go to shelf 1", "look")


def request(env: EnvSpec, view: EpisodeView, expert: Action | None = None, **changes: Any) -> GenerationRequest:
    async def ask() -> Action | None:
        return expert

    protocol = get_protocol("agentbench_fc")
    values: dict[str, Any] = {"turn": 0, "seed": 0, "max_tokens": 512, "steps": ()} | changes
    script = ScriptContext(
        env=env,
        initial=values.get("initial", view.observation),
        steps=values["steps"],
        observation=view.observation,
        turn=values["turn"],
        seed=values["seed"],
        expert=ask,
        render=lambda action, thought: protocol.render_action(env, action, thought),
    )
    return GenerationRequest((1,), SamplingParams(max_tokens=values["max_tokens"]), PolicyVersion("v1", 1), script)


async def said(kind: ScriptKind, what: GenerationRequest) -> str:
    engine = ScriptedEngine(kind)
    completion = await engine.generate(what)
    assert completion == await engine.generate(what)
    assert completion.token_ids[-1] == engine.tokenizer.end_of_turn_id
    assert completion.policy == "v1"
    assert set(completion.logprobs) == {0.0}
    return engine.tokenizer.decode(completion.token_ids[:-1])


def call(name: str, **arguments: Any) -> str:
    return get_protocol("agentbench_fc").render_action(ALFWORLD, Action(name, arguments))


async def test_the_expert_says_what_the_environment_knows_and_looks_where_it_knows_nothing() -> None:
    view = alfworld_view(actions=ACTIONS)
    known = Action("take_action", {"action": "go to shelf 1"})
    assert await said("expert", request(ALFWORLD, view, known)) == call("take_action", action="go to shelf 1")
    assert await said("gold", request(ALFWORLD, view, None)) == call("take_action", action="look")
    assert await said("noop", request(DBBENCH, dbbench_view())) == call("commit_final_answer", answers=[])


async def test_a_random_policy_draws_among_what_is_admissible() -> None:
    view = alfworld_view(actions=ACTIONS)
    drawn = {await said("random", request(ALFWORLD, view, seed=seed)) for seed in range(40)}
    assert drawn == {call("take_action", action=action) for action in ACTIONS}


async def test_a_random_policy_looks_at_the_database_then_commits() -> None:
    turns = [await said("random", request(DBBENCH, dbbench_view(), turn=turn)) for turn in range(5)]
    assert ["execute_sql" in turn for turn in turns] == [True, True, True, False, False]
    assert turns[3] == call("commit_final_answer", answers=["unknown"])


async def test_a_turn_longer_than_allowed_is_cut_and_says_so() -> None:
    completion = await ScriptedEngine("noop").generate(request(ALFWORLD, alfworld_view(), max_tokens=5))
    assert (len(completion.token_ids), completion.finish_reason) == (5, FinishReason.LENGTH)


async def test_a_script_needs_the_loop() -> None:
    engine = ScriptedEngine("noop")
    assert isinstance(engine, Engine)
    with pytest.raises(ConfigError, match="agent loop"):
        await engine.generate(GenerationRequest((1,), SamplingParams(), PolicyVersion()))
    for step in (engine.start(), engine.unload_policy("v1"), engine.close()):
        await step
