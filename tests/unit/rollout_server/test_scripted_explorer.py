"""The explorer as a policy: it reads the episode so far, and says its thought where the protocol has its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


def database_turn(expert: Any, *steps: StepRecord, **changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {"env": DBBENCH, "seed": 0, "episode_seed": 0} | changes
    view = dbbench_view()
    script = ScriptContext(
        initial=view.observation,
        steps=steps,
        observation=view.observation,
        turn=len(steps),
        expert=expert,
        render=lambda action, thought: PROTOCOLS[0].render_action(values["env"], action, thought),
        **values,
    )
    return GenerationRequest((1,), SamplingParams(max_tokens=2000), PolicyVersion(), script)


def experts(**known: str) -> Any:
    """Experts of a database by name: each with one statement, and None for any other name."""

    async def ask(expert: str | None = None) -> Action | None:
        statement = known.get(expert or "gold")
        return None if statement is None else Action("execute_sql", {"query": statement})

    return ask


async def test_on_a_database_the_environments_expert_of_its_name_is_asked() -> None:
    ask = experts(gold="SELECT 1", explorer="SHOW TABLES", repair="SELCT 1")
    for kind, statement in (("expert", "SELECT 1"), ("explorer", "SHOW TABLES"), ("repair", "SELCT 1")):
        engine = ScriptedEngine(kind)
        completion = await engine.generate(database_turn(ask))
        assert f'"query": "{statement}"' in engine.tokenizer.decode(completion.token_ids)


async def test_elsewhere_it_is_the_environments_default_expert() -> None:
    other = replace(DBBENCH, name="other")
    for kind in ("explorer", "repair"):
        engine = ScriptedEngine(kind)
        completion = await engine.generate(database_turn(experts(gold="SELECT 1"), env=other))
        assert '"query": "SELECT 1"' in engine.tokenizer.decode(completion.token_ids)
    with pytest.raises(ConfigError, match="other has no near misses"):
        await ScriptedEngine("near_miss").generate(database_turn(experts(gold="SELECT 1"), env=other))


async def test_repair_in_a_house_is_the_explorer() -> None:
    engine = ScriptedEngine("repair", thoughts=True)
    completion = await engine.generate(turn(step("go to shelf 1", SEEN)))
    assert "take mug 2 from shelf 1" in engine.tokenizer.decode(completion.token_ids)


async def test_a_near_miss_is_drawn_for_the_episode_among_those_that_the_task_has() -> None:
    async def said_by(engine: ScriptedEngine, ask: Any, **seeds: int) -> str:
        return engine.tokenizer.decode((await engine.generate(database_turn(ask, **seeds))).token_ids)

    ask = experts(wrong_column="SELECT b", missing_filter="SELECT a")
    engine = ScriptedEngine("near_miss")
    drawn = {await said_by(engine, ask, episode_seed=seed, seed=turn) for seed in range(8) for turn in range(3)}
    assert len(drawn) == 2
    assert len({await said_by(engine, ask, episode_seed=3, seed=turn) for turn in range(8)}) == 1
    named = ScriptedEngine("near_miss", miss="missing_filter")
    assert named.model == "scripted-missing_filter"
    assert {await said_by(named, ask, episode_seed=seed) for seed in range(8)} == {await said_by(named, ask)}
    assert "SELECT a" in await said_by(named, ask)
    assert '"answers": []' in await said_by(engine, experts()), "where the task has none, no answer is committed"


async def test_a_thought_on_a_database_tells_what_was_seen() -> None:
    ask = experts(explorer="DESCRIBE `books`")
    listed = Action("execute_sql", {"query": "SHOW TABLES"})
    shown = StepRecord(listed, Observation("[('books',)]"), 0.0, terminated=False, truncated=False, valid=True)
    engine = ScriptedEngine("explorer", thoughts=True)
    words = set()
    for seed in range(12):
        text = engine.tokenizer.decode((await engine.generate(database_turn(ask, shown, seed=seed))).token_ids)
        thought, _, call = text.partition("\n<tool_call>")
        assert "`books`" in thought
        assert "DESCRIBE `books`" in call
        words.add(thought)
    assert len(words) > 2


def test_only_those_who_look_around_think() -> None:
    for kind in ("explorer", "repair", "near_miss"):
        assert make_engine(kind, thoughts=True).model == f"scripted-{kind}"
    with pytest.raises(ConfigError, match="the script expert has no thoughts"):
        make_engine("expert", thoughts=True)


def test_a_miss_is_named_rightly_and_for_near_misses_alone() -> None:
    with pytest.raises(ConfigError, match=r"no near miss is called 'wrong_table'.*wrong_column"):
        make_engine("near_miss", miss="wrong_table")
    with pytest.raises(ConfigError, match="the script explorer has no misses"):
        make_engine("explorer", miss="wrong_column")
