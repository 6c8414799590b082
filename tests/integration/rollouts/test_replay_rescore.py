"""The same episodes under the other rules: as if they had been played under them, and never changed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from rollout_doubles import SayingEngine

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.dbbench.tasks import find_task_files
from envs.errors import Conflict, InvalidOption
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus, Observation
from rollout_server.agent_loop import play_episode
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.local import LocalRollouts
from rollout_server.protocols import get_protocol
from rollout_server.protocols.hermes import render_tool_call
from rollout_server.replay_rescore import rescore
from rollout_server.types import RolloutRequest, SamplingParams, TaskRef

ROOM = 1_000_000
DEV = find_task_files(None)[0].tasks
SINGLE = [t for t in DEV if not t.mutates and len(t.gold_answers) == 1]
NUMBER = next(t for t in SINGLE if t.gold_answers[0].isdecimal())
TEXT = next(t for t in SINGLE if len(t.gold_answers[0]) > 4 and t.gold_answers[0][:4].isalpha())
CHANGE = next(t for t in DEV if t.type == "UPDATE")


@pytest.fixture
async def databases():
    app = create_app(EnvServerSettings(envs=("dbbench",), dbbench={"url": "sqlite:"}))
    async with EnvClient.in_process(app) as client:
        yield client


async def play(client, task, actions, protocol, *, max_turns=10):
    """An episode of these actions, said one a turn."""
    if protocol == "agentbench_fc":
        texts = [render_tool_call(action) for action in actions]
    else:
        known = get_protocol(protocol)
        env = (await client.env("dbbench")).spec
        texts = [known.render_action(env, action) for action in actions]
        texts = [text.replace("Action: Answer\n", "I am done.\nAction: Answer\n") for text in texts]
    engine = SayingEngine(lambda turn: texts[min(turn, len(texts) - 1)])
    request = RolloutRequest(
        (TaskRef("dbbench", task_id=f"dev/{task.index}"),),
        protocol=protocol,
        max_turns=max_turns,
        max_episode_tokens=ROOM,
        sampling=SamplingParams(max_tokens=4096),
    )
    (group,) = await LocalRollouts(client, engine).rollouts(request)
    return group.episodes[0]


def sql(query):
    return Action("execute_sql", {"query": query})


def commit(*answers):
    return Action("commit_final_answer", {"answers": list(answers)})


@pytest.mark.parametrize(
    ("task", "answers", "fc", "classic"),
    [
        (NUMBER, lambda gold: [gold], 1.0, 1.0),
        (NUMBER, lambda gold: [f"{gold}.009"], 1.0, 0.0),  # the tolerance is FC's
        (NUMBER, lambda gold: [f"{gold}%"], 1.0, 0.0),
        (TEXT, lambda gold: [f" {gold} "], 1.0, 0.0),
        (TEXT, lambda gold: [gold.swapcase()], 0.0, 0.0),
        (NUMBER, lambda gold: [], 0.0, 0.0),
    ],
)
async def test_answers(databases, task, answers, fc, classic):
    given = answers(task.gold_answers[0])
    for protocol, own in (("agentbench_fc", fc), ("agentbench_classic", classic)):
        episode = await play(databases, task, [sql("SELECT 1"), commit(*given)], protocol)
        assert (episode.status, episode.reward) == (EpisodeStatus.COMPLETED, own)
        for rules, reward in (("fc", fc), ("classic", classic)):
            found = await rescore(episode, rules, databases)
            assert (found.reward, found.rescored, found.changed) == (own, reward, own != reward)
            assert found.how == "the answer judged"


async def test_a_change_that_was_committed_counts_under_both(databases):
    for protocol in ("agentbench_fc", "agentbench_classic"):
        for statements in ([sql(CHANGE.gold_sql[0])], [sql("SELECT 1")]):
            episode = await play(databases, CHANGE, [*statements, commit()], protocol)
            for rules in ("fc", "classic"):
                found = await rescore(episode, rules, databases)
                assert found.rescored == episode.reward == float(statements[0].arguments["query"] != "SELECT 1")
                assert found.how == "1 statements made again, then the table judged"


async def test_a_change_without_an_answer_counts_under_the_classic_rules_alone(databases):
    change = [sql(CHANGE.gold_sql[0]), sql("SELECT 1")]
    fc = await play(databases, CHANGE, change, "agentbench_fc", max_turns=2)
    classic = await play(databases, CHANGE, change, "agentbench_classic", max_turns=2)
    assert (fc.status, fc.reward, classic.status, classic.reward) == (
        EpisodeStatus.TRUNCATED_TURNS,
        0.0,
        EpisodeStatus.TRUNCATED_TURNS,
        1.0,
    )
    for episode in (fc, classic):
        assert (await rescore(episode, "classic", databases)).rescored == 1.0
        found = await rescore(episode, "fc", databases)
        assert (found.rescored, found.how) == (0.0, "nothing was committed")
    idle = await play(databases, NUMBER, [sql("SELECT 1")], "agentbench_fc", max_turns=1)
    assert (await rescore(idle, "classic", databases)).how == "nothing was committed"


async def test_households_have_the_same_rules(houses, plan):
    episode = await play_episode(houses, ScriptedEngine("expert"), await plan(houses))
    found = await rescore(episode, "classic", houses)
    assert (found.rescored, found.changed) == (1.0, False)
    assert "the rules are the same" in found.how


async def test_what_cannot_be_judged_is_said(databases):
    episode = await play(databases, CHANGE, [sql(CHANGE.gold_sql[0]), commit()], "agentbench_fc")
    step = dataclasses.replace(episode.steps[0], observation=Observation("Query OK, 999 rows"))
    turn = dataclasses.replace(episode.turns[0], steps=(step,))
    other = dataclasses.replace(episode, turns=(turn, *episode.turns[1:]))
    with pytest.raises(Conflict, match="cannot be judged again"):
        await rescore(other, "classic", databases)
    moved = dataclasses.replace(episode, task=dataclasses.replace(episode.task, content_hash="0"))
    with pytest.raises(Conflict, match="no longer what"):
        await rescore(moved, "classic", databases)
    with pytest.raises(InvalidOption, match="no rules 'strict'"):
        await rescore(episode, "strict", databases)
    with pytest.raises(InvalidOption, match="has no other rules"):
        await rescore(dataclasses.replace(episode, env="chess"), "fc", databases)
    failed = dataclasses.replace(episode, status=EpisodeStatus.INFRASTRUCTURE_ERROR, reward=None)
    found = await rescore(failed, "fc", databases)
    assert (found.rescored, found.changed, found.how) == (None, False, "no result (infrastructure_error)")
    assert json.dumps(dataclasses.asdict(found))
