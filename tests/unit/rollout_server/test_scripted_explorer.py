"""The explorer as a policy: it reads the episode so far, and says its thought where the protocol has its place."""

from __future__ import annotations

import pytest
from protocol_samples import ROOM, alfworld_view, dbbench_view

from envs.errors import ConfigError
from envs.registry import ALFWORLD, DBBENCH
from envs.types import Action, Observation
from rollout_server.engines.base import GenerationRequest, ScriptContext
from rollout_server.engines.factory import make_engine
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.protocols import PROTOCOLS, get_protocol
from rollout_server.protocols.base import AgentProtocol
from rollout_server.types import PolicyVersion, SamplingParams, StepRecord

SEEN = "You arrive at loc 3. On the shelf 1, you see a mug 2."
NOTHING = "You arrive at loc 3. On the shelf 1, you see nothing."


def step(command: str, text: str, actions: tuple[str, ...] = ()) -> StepRecord:
    action = Action("take_action", {"action": command})
    return StepRecord(action, Observation(text, actions), 0.0, terminated=False, truncated=False, valid=True)


def turn(*steps: StepRecord, protocol: AgentProtocol = PROTOCOLS[0], seed: int = 0) -> GenerationRequest:
    async def forbidden() -> Action | None:
        raise AssertionError("the explorer asks nobody")

    last = steps[-1].observation if steps else Observation(ROOM)
    script = ScriptContext(
        env=ALFWORLD,
        initial=Observation(ROOM),
        steps=steps,
        observation=last,
        turn=len(steps),
        seed=seed,
        expert=forbidden,
        render=lambda action, thought: protocol.render_action(ALFWORLD, action, thought),
    )
    return GenerationRequest((1,), SamplingParams(max_tokens=2000), PolicyVersion(), script)


async def said(what: GenerationRequest, **options: bool) -> str:
    engine = ScriptedEngine("explorer", **options)
    completion = await engine.generate(what)
    assert completion == await engine.generate(what), "it keeps nothing between turns"
    return engine.tokenizer.decode(completion.token_ids[:-1])


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
@pytest.mark.parametrize("thoughts", [False, True])
async def test_it_acts_on_what_the_episode_has_shown(protocol: AgentProtocol, thoughts: bool) -> None:
    for steps, command in (
        ((step("go to shelf 1", SEEN),), "take mug 2 from shelf 1"),
        ((step("go to shelf 1", NOTHING),), "go to fridge 1"),
        ((step("go to shelf 1", SEEN), step("take mug 2 from shelf 1", "Nothing happens.")), "examine shelf 1"),
    ):
        text = await said(turn(*steps, protocol=protocol), thoughts=thoughts)
        session = protocol.session(ALFWORLD, alfworld_view())
        session.opening()
        assert session.parse(text).actions == (Action("take_action", {"action": command}),)
        bare = protocol.render_action(ALFWORLD, Action("take_action", {"action": command}))
        assert text.endswith(bare.lstrip()) if thoughts else text == bare


async def test_a_thought_stands_where_the_protocol_has_its_place() -> None:
    found = (step("go to shelf 1", SEEN),)
    fc = await said(turn(*found), thoughts=True)
    assert "mug" in fc.partition("\n<tool_call>")[0]
    classic = await said(turn(*found, protocol=get_protocol("agentbench_classic")), thoughts=True)
    assert classic.startswith("THOUGHT: ")
    assert classic.endswith("\n ACTION: take mug 2 from shelf 1\n")
    words = {await said(turn(*found, seed=seed), thoughts=True) for seed in range(12)}
    assert len(words) > 2, "the turn's seed draws the words"


async def test_what_is_within_reach_is_read_from_the_list_of_actions() -> None:
    """The fridge is beside the shelf: its list of actions says so, and nobody can go where one is."""
    near = step("go to shelf 1", NOTHING, ("examine shelf 1", "look", "open fridge 1"))
    assert "open fridge 1" in await said(turn(near))


def test_a_thought_before_sql_is_read_over() -> None:
    protocol = get_protocol("agentbench_classic")
    for action in (Action("execute_sql", {"query": "SELECT 1"}), Action("commit_final_answer", {"answers": ["2"]})):
        session = protocol.session(DBBENCH, dbbench_view())
        assert session.parse(protocol.render_action(DBBENCH, action, "I count.")).actions[0].name == action.name


async def test_elsewhere_it_is_the_environments_expert() -> None:
    async def expert() -> Action | None:
        return Action("commit_final_answer", {"answers": ["3"]})

    view = dbbench_view()
    script = ScriptContext(
        env=DBBENCH,
        initial=view.observation,
        steps=(),
        observation=view.observation,
        turn=0,
        seed=0,
        expert=expert,
        render=lambda action, thought: PROTOCOLS[0].render_action(DBBENCH, action, thought),
    )
    text = await said(GenerationRequest((1,), SamplingParams(max_tokens=2000), PolicyVersion(), script))
    assert '"answers": ["3"]' in text


def test_only_the_explorer_thinks() -> None:
    assert make_engine("explorer", thoughts=True).model == "scripted-explorer"
    with pytest.raises(ConfigError, match="the script expert has no thoughts"):
        make_engine("expert", thoughts=True)
