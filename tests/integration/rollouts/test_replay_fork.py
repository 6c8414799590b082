"""Going on from a turn of a stored episode: the kept turns stay as they are, token by token, and the rest is new."""

from __future__ import annotations

import dataclasses
import os

import pytest
from rollout_doubles import SayingEngine, WatchedEngine

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import Conflict, InfrastructureError, InvalidOption
from envs.registry import ALFWORLD, DBBENCH
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus, Observation
from rollout_server.agent_loop import play_episode
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.export_html import find_tokenizer
from rollout_server.export_messages import chat_row
from rollout_server.local import LocalRollouts
from rollout_server.replay import verify
from rollout_server.replay_fork import ForkRequest, fork_episode
from rollout_server.replay_hand import HandEngine, LineInput, read_action
from rollout_server.serialize import episode_from_json, episode_to_json
from rollout_server.tokenizer import ByteTokenizer, HFTokenizer
from rollout_server.types import FinishReason, PolicyVersion, RolloutRequest, TaskRef
from trainer.datasets import IGNORED, sft_rows
from trainer.splits import SplitGuard

BASE = PolicyVersion()
ROOM = 1_000_000


@pytest.fixture
async def lost(houses, plan):
    """An episode of four turns without success."""
    return await play_episode(houses, ScriptedEngine("random"), await plan(houses, max_turns=4))


def ids(episode, turns):
    parts = [(t.completion_ids, t.environment_ids) for t in episode.turns[:turns]]
    return episode.prompt_ids + tuple(i for part in parts for some in part for i in some)


@pytest.mark.parametrize("at", [0, 1, 3, 4])
async def test_another_policy_goes_on_and_the_kept_turns_are_context(houses, lost, at):
    expert = WatchedEngine("expert")
    fork = await fork_episode(lost, ForkRequest(at=at), client=houses, engine=expert, policy=BASE)
    assert (fork.status, fork.reward) == (EpisodeStatus.COMPLETED, 1.0)
    assert ids(fork, at)[: len(ids(lost, at))] == ids(lost, at)
    assert expert.requests[0].prompt_ids == ids(fork, at)
    assert [t.text for t in fork.turns[:at]] == [t.text for t in lost.turns[:at]]
    assert [t.steps for t in fork.turns[:at]] == [t.steps for t in lost.turns[:at]]
    kept = sum(len(t.completion_ids) + len(t.environment_ids) for t in fork.turns[:at])
    assert set(fork.mask[:kept]) <= {0}
    assert set(fork.logprobs[:kept]) <= {0.0}
    assert set(fork.policy_versions[:kept]) <= {""}
    assert sum(fork.mask) == sum(len(t.completion_ids) for t in fork.turns[at:]) > 0
    assert fork.metadata["fork"] == {"parent": lost.id, "at_turn": at, "policy": "base", "kept": "context"}
    assert (fork.id != lost.id, fork.seed, fork.options) == (True, lost.seed, lost.options)
    report = await verify(fork, houses)
    assert report.ok, report


async def test_the_same_policy_keeps_its_mask_and_its_logprobs(houses, plan):
    parent = await play_episode(houses, WatchedEngine("expert"), await plan(houses))
    sampled = [dataclasses.replace(t, logprobs=(-0.25,) * len(t.logprobs)) for t in parent.turns]
    parent = dataclasses.replace(parent, turns=tuple(sampled))
    fork = await fork_episode(parent, ForkRequest(at=2), client=houses, engine=ScriptedEngine("expert"), policy=BASE)
    assert fork.turns[:2] == parent.turns[:2]
    assert fork.metadata["fork"]["kept"] == "policy"
    said = ForkRequest(at=2, same_policy=False)
    other = await fork_episode(parent, said, client=houses, engine=ScriptedEngine("expert"), policy=BASE)
    assert [t.given for t in other.turns[:3]] == [True, True, False]
    assert sum(other.mask) == sum(len(t.completion_ids) for t in other.turns[2:])
    assert other.completion_ids == fork.completion_ids


async def test_an_adapters_name_alone_is_not_the_same_policy(houses, plan):
    engine, step = WatchedEngine("expert"), PolicyVersion("step-1", 1, "/adapters/step-1")
    parent = await play_episode(houses, engine, await plan(houses, policy=step))
    fork = await fork_episode(parent, ForkRequest(at=1), client=houses, engine=engine, policy=step)
    assert fork.metadata["fork"]["kept"] == "context"
    told = await fork_episode(parent, ForkRequest(at=1, same_policy=True), client=houses, engine=engine, policy=step)
    assert told.turns[0] == parent.turns[0]


async def test_a_fork_forks_again_and_its_context_stays_context(houses, lost):
    expert = ScriptedEngine("expert")
    fork = await fork_episode(lost, ForkRequest(at=2), client=houses, engine=expert, policy=BASE)
    again = await fork_episode(fork, ForkRequest(at=3), client=houses, engine=expert, policy=BASE)
    assert ids(again, 3) == ids(fork, 3)
    assert again.metadata["fork"]["kept"] == "policy"
    assert [t.given for t in again.turns[:4]] == [True, True, False, False]
    assert [t.completion_ids for t in again.turns[:2]] == [t.completion_ids for t in lost.turns[:2]]
    third = await fork_episode(again, ForkRequest(at=1), client=houses, engine=expert, policy=BASE)
    assert ids(third, 1) == ids(lost, 1)
    assert third.turns[0].given


def of_earlier(fork, turns):
    """The fork as an earlier envloop stored it, with so many turns of another policy."""
    old = [
        dataclasses.replace(
            t, completion_ids=(), logprobs=(), environment_ids=(*t.completion_ids, *t.environment_ids), given=False
        )
        for t in fork.turns[:turns]
    ]
    return dataclasses.replace(fork, turns=(*old, *fork.turns[turns:]))


async def test_a_fork_of_an_earlier_envloop_is_read_and_not_gone_on_with_after_what_it_does_not_tell(houses, lost):
    """It kept the ids of another's turns as the environment's, so that where a turn ends is not in the record."""
    expert = ScriptedEngine("expert")
    fork = await fork_episode(lost, ForkRequest(at=2), client=houses, engine=expert, policy=BASE)
    stored = episode_from_json(episode_to_json(of_earlier(fork, 2)))
    for column in ("completion_ids", "mask", "logprobs", "policy_versions"):
        assert getattr(stored, column) == getattr(fork, column)
    assert (await verify(stored, houses)).ok
    assert isinstance(chat_row(stored), str)
    assert find_tokenizer(stored) is not None  # the page shades its tokens
    with pytest.raises(Conflict, match=r"does not tell what was sampled in turn 0") as refused:
        await fork_episode(stored, ForkRequest(at=1), client=houses, engine=expert, policy=BASE)
    assert lost.id in refused.value.hint
    again = await fork_episode(stored, ForkRequest(at=0), client=houses, engine=expert, policy=BASE)
    assert again.reward == 1.0


async def test_cut_turns_are_kept_as_they_were_cut(houses, plan):
    cut, expert = SayingEngine(lambda turn: f"I wonder {turn}", cut=True), ScriptedEngine("expert")
    parent = await play_episode(houses, cut, await plan(houses, max_turns=3))
    assert [t.finish_reason for t in parent.turns] == [FinishReason.LENGTH] * 3
    for at in (2, 3):
        fork = await fork_episode(parent, ForkRequest(at=at), client=houses, engine=expert, policy=BASE)
        again = await fork_episode(fork, ForkRequest(at=at), client=houses, engine=expert, policy=BASE)
        assert ids(again, at) == ids(fork, at)
        assert ids(fork, at)[: len(ids(parent, at))] == ids(parent, at)
        assert again.turns[0].finish_reason is FinishReason.LENGTH


async def test_forks_of_one_point_differ_and_are_the_same_every_time(houses, lost):
    async def play(member, seed=0):
        request = ForkRequest(at=1, member=member, seed=seed, max_turns=24)  # few draws would be the same by chance
        return await fork_episode(lost, request, client=houses, engine=ScriptedEngine("random"), policy=BASE)

    first, second, other = await play(0), await play(1), await play(0, seed=5)
    texts = [[t.text for t in episode.turns[1:]] for episode in (first, second, other)]
    assert all(a != b for i, a in enumerate(texts) for b in texts[:i])
    assert (await play(0)).completion_ids == first.completion_ids


async def test_a_model_goes_on_only_in_the_tokens_that_it_knows(houses, plan, smollm2_dir):
    tokenizer = HFTokenizer(smollm2_dir)
    parent = await play_episode(houses, ScriptedEngine("random", tokenizer), await plan(houses, max_turns=2))
    with pytest.raises(Conflict, match="tokens differ from the recorded ones at 0"):
        await fork_episode(parent, ForkRequest(at=1), client=houses, engine=ScriptedEngine("expert"), policy=BASE)
    own = ScriptedEngine("expert", tokenizer)
    fork = await fork_episode(parent, ForkRequest(at=1), client=houses, engine=own, policy=BASE)
    assert (fork.reward, ids(fork, 1)) == (1.0, ids(parent, 1))
    rows = sft_rows([fork], tokenizer, max_length=ROOM, guard=SplitGuard())
    (labels,) = rows.labels
    earlier = sft_rows([of_earlier(fork, 1)], tokenizer, max_length=ROOM, guard=SplitGuard())
    assert earlier.labels == rows.labels
    assert set(labels[: len(ids(parent, 1))]) == {IGNORED}
    assert [label for label in labels if label != IGNORED] == [i for t in fork.turns[1:] for i in t.completion_ids]


def changed(episode, turn, **fields):
    step = dataclasses.replace(episode.turns[turn].steps[0], **fields)
    return changed_turn(episode, turn, steps=(step,))


def changed_turn(episode, turn, **fields):
    turns = list(episode.turns)
    turns[turn] = dataclasses.replace(turns[turn], **fields)
    return dataclasses.replace(episode, turns=tuple(turns))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: changed(e, 1, state_hash="00"), r"step 1 \(turn 1\): state_hash differs"),
        (lambda e: changed(e, 0, observation=Observation("Elsewhere.")), "observation.text differs"),
        (lambda e: changed(e, 1, reward=0.5), r"step 1 \(turn 1\): reward differs"),
        (lambda e: changed(e, 0, valid=not e.turns[0].steps[0].valid), r"step 0 \(turn 0\): valid differs"),
        (lambda e: changed_turn(e, 1, reply="Hello."), r"the reply \(turn 1\): text differs"),
        (lambda e: changed_turn(e, 1, text="Hello."), "turn 1 of episode .* has tokens of another text"),
        (lambda e: changed_turn(e, 1, steps=()), "reads other actions from turn 1"),
        (lambda e: changed_turn(e, 1, environment_ids=(*e.turns[1].environment_ids, 7)), r"before turn 2 of .* at \d+"),
        (lambda e: changed(e, 0, action=Action("take_action", {"action": "dance"})), "reads other actions"),
        (lambda e: dataclasses.replace(e, initial=Observation("Elsewhere.")), "start: observation.text"),
        (lambda e: dataclasses.replace(e, prompt_ids=(1, *e.prompt_ids[1:])), "recorded ones at 0"),
        (lambda e: dataclasses.replace(e, task=dataclasses.replace(e.task, content_hash="0")), "no longer what"),
    ],
)
async def test_what_does_not_rebuild_is_refused(houses, lost, change, said):
    engine = WatchedEngine("expert")
    with pytest.raises(Conflict, match=said):
        await fork_episode(change(lost), ForkRequest(at=2), client=houses, engine=engine, policy=BASE)
    assert engine.requests == []


async def test_places_where_nothing_goes_on_are_refused(houses, lost, plan):
    won = await play_episode(houses, ScriptedEngine("expert"), await plan(houses))

    async def fork(parent, **request):
        return await fork_episode(
            parent, ForkRequest(**request), client=houses, engine=ScriptedEngine("expert"), policy=BASE
        )

    for at in (-1, 5):
        with pytest.raises(InvalidOption, match=rf"turn {at} is not in"):
            await fork(lost, at=at)
    with pytest.raises(InvalidOption, match=f"ended in turn {len(won.turns) - 1}"):
        await fork(won, at=len(won.turns))
    with pytest.raises(InvalidOption, match="none left of 2"):
        await fork(lost, at=2, max_turns=2)
    with pytest.raises(InvalidOption, match="no room"):
        await fork(lost, at=2, max_episode_tokens=len(lost.prompt_ids) + 300)
    with pytest.raises(Conflict, match="never began"):
        await fork(dataclasses.replace(lost, prompt_ids=(), turns=()), at=0)
    repeating = await play_episode(houses, ScriptedEngine("noop"), await plan(houses))
    assert repeating.status is EpisodeStatus.REPETITION
    with pytest.raises(Conflict, match="ends before turn"):
        await fork(repeating, at=len(repeating.turns))


async def test_a_failure_while_the_kept_turns_are_rebuilt_is_no_episode(houses, lost, monkeypatch):
    async def failing(*_):
        raise InfrastructureError("the env server burnt down")

    monkeypatch.setattr(houses, "step", failing)
    with pytest.raises(InfrastructureError, match="burnt down"):
        await fork_episode(lost, ForkRequest(at=2), client=houses, engine=ScriptedEngine("expert"), policy=BASE)


async def test_an_episode_that_the_machinery_lost_goes_on_where_it_was_lost(houses, plan):
    lost = await play_episode(houses, WatchedEngine("expert", fails_at=3), await plan(houses))
    assert (lost.status, len(lost.turns)) == (EpisodeStatus.INFRASTRUCTURE_ERROR, 3)
    fork = await fork_episode(lost, ForkRequest(at=3), client=houses, engine=ScriptedEngine("expert"), policy=BASE)
    assert (fork.reward, fork.turns[:3]) == (1.0, lost.turns)


async def test_a_database_is_rebuilt_by_its_statements():
    app = create_app(EnvServerSettings(envs=("dbbench",), dbbench={"url": "sqlite:"}))
    async with EnvClient.in_process(app) as client:
        request = RolloutRequest((TaskRef("dbbench", task_id="generated/2"),), max_turns=2, max_episode_tokens=ROOM)
        (group,) = await LocalRollouts(client, ScriptedEngine("random")).rollouts(request)
        (parent,) = group.episodes
        fork = await fork_episode(parent, ForkRequest(at=2), client=client, engine=ScriptedEngine("gold"), policy=BASE)
        assert (fork.reward, len(parent.steps)) == (1.0, 2)
        assert (await verify(fork, client)).ok


class Typed:
    """A pipe that a person types into, and what the screen shows."""

    def __init__(self):
        self.reading, self._writing = os.pipe()
        self.shown: list[str] = []

    def type(self, *lines, end=False):
        os.write(self._writing, "".join(f"{line}\n" for line in lines).encode())
        if end:
            self.end()

    def end(self):
        os.close(self._writing)
        self._writing = -1

    def close(self):
        os.close(self.reading)
        if self._writing >= 0:
            self.end()


@pytest.fixture
def typed():
    pipe = Typed()
    yield pipe
    pipe.close()


def hand(typed):
    return HandEngine(ByteTokenizer(), LineInput(typed.reading), typed.shown.append)


async def test_a_person_goes_on_and_wins(houses, lost, plan, typed):
    won = await play_episode(houses, ScriptedEngine("expert"), await plan(houses))
    first, *rest = [s.action.arguments["action"] for s in won.steps]
    number = won.initial.admissible_actions.index(first) + 1
    typed.type("", "999", number, *rest)
    fork = await fork_episode(lost, ForkRequest(at=0), client=houses, engine=hand(typed), policy=PolicyVersion("hand"))
    assert (fork.reward, fork.engine, fork.policy) == (1.0, "hand", "hand")
    assert [s.action for s in fork.steps] == [s.action for s in won.steps]
    screen = "\n".join(typed.shown)
    for part in (
        won.initial.text,
        f"   1 {won.initial.admissible_actions[0]}",
        "type an action",
        "there are the actions",
    ):
        assert part in screen
    assert (await verify(fork, houses)).ok


@pytest.mark.parametrize("leave", ["quit", "end"])
async def test_a_person_who_stops_leaves_what_was_played(houses, lost, typed, leave):
    typed.type("look", *(["quit"] if leave == "quit" else []), end=leave == "end")
    fork = await fork_episode(lost, ForkRequest(at=2), client=houses, engine=hand(typed), policy=PolicyVersion("hand"))
    assert (fork.status, fork.reward, len(fork.turns)) == (EpisodeStatus.CANCELLED, None, 3)
    assert fork.metadata["fork"]["parent"] == lost.id


async def test_a_plain_file_is_read_as_well(tmp_path):
    path = tmp_path / "typed"
    path.write_text("one\ntwo")
    descriptor = os.open(path, os.O_RDONLY)
    lines = LineInput(descriptor)
    assert [await lines.line() for _ in range(4)] == ["one", "two", None, None]
    os.close(descriptor)


def test_what_a_line_means():
    view = Observation("", ("go to bed 1", "look"))
    assert read_action(ALFWORLD, view, " 2 ") == Action("take_action", {"action": "look"})
    assert read_action(ALFWORLD, view, "take_action look") == Action("take_action", {"action": "look"})
    assert read_action(ALFWORLD, view, "examine 3") == Action("take_action", {"action": "examine 3"})
    empty = Observation("")
    assert read_action(DBBENCH, empty, "SELECT 1") == Action("execute_sql", {"query": "SELECT 1"})
    commit = [read_action(DBBENCH, empty, f"commit_final_answer {rest}") for rest in ('["a", 1]', "a, b", "")]
    assert [action.arguments["answers"] for action in commit] == [["a", 1], ["a, b"], []]
    assert isinstance(read_action(ALFWORLD, view, "3"), str)
