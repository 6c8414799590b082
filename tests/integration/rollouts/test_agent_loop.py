"""One episode on a real env server in this process: every ending, every token, and the server left clean."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import httpx
import pytest
from rollout_doubles import FailingTransport, HangingEngine, SayingEngine, WatchedEngine

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import TaskDataError
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus
from rollout_server.agent_loop import play_episode, turn_seed
from rollout_server.chat import ChatFormat
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.protocols.agentbench_fc import AgentBenchFC
from rollout_server.protocols.base import ParsedTurn
from rollout_server.types import Completion, Episode, FinishReason, Message, RewardWeights, Role, SamplingParams


def go(text: str) -> str:
    return AgentBenchFC().render_action(None, Action("take_action", {"action": text}))  # type: ignore[arg-type]


async def live_episodes(client: EnvClient, episode_ids: list[str]) -> int:
    return sum([(await client.read(i)).status is EpisodeStatus.RUNNING for i in episode_ids])


class IdKeeper(EnvClient):
    """The real client, keeping the ids of the episodes that it began."""

    async def create(self, *args, **options):
        view = await super().create(*args, **options)
        self.__dict__.setdefault("ids", []).append(view.id)
        return view


@pytest.fixture
async def keeper(house_app):
    transport = httpx.ASGITransport(house_app)
    async with (
        house_app.router.lifespan_context(house_app),
        IdKeeper("http://127.0.0.1", transport=transport) as client,
    ):
        yield client


def assert_whole(episode: Episode) -> None:
    """The invariants of every record."""
    columns = (episode.completion_ids, episode.mask, episode.logprobs, episode.policy_versions)
    assert len({len(column) for column in columns}) == 1
    assert sum(episode.mask) == sum(len(turn.completion_ids) for turn in episode.turns)
    assert [turn.index for turn in episode.turns] == list(range(len(episode.turns)))
    for turn, following in pairwise(episode.turns):
        assert turn.environment_ids, following
    if episode.turns:
        assert episode.turns[-1].environment_ids == ()
        assert episode.mask[-1] == 1
    assert (episode.reward is None) == (not episode.status.scored)


@pytest.mark.parametrize("protocol", ["agentbench_fc", "agentbench_classic"])
async def test_the_experts_record_is_the_conversation_token_for_token(houses, plan, protocol) -> None:
    engine = WatchedEngine("expert")
    episode = await play_episode(houses, engine, await plan(houses, 3, protocol=protocol, metadata={"run": "r1"}))
    assert_whole(episode)
    assert (episode.status, episode.reward, episode.success) == (EpisodeStatus.COMPLETED, 1.0, True)
    assert episode.reward_parts == {"task": 1.0, "invalid_action": 0.0}
    assert episode.metadata == {"run": "r1", "invalid_turns": []}
    assert episode.completion_ids[-1] == engine.tokenizer.end_of_turn_id
    # What each turn was sampled from is the record up to there.
    played: tuple[int, ...] = episode.prompt_ids
    for turn, request in zip(episode.turns, engine.requests, strict=True):
        assert request.prompt_ids == played
        played += turn.completion_ids + turn.environment_ids
    # And the record is the rendered conversation.
    messages = list(episode.prompt)
    for turn in episode.turns[:-1]:
        role = Role.TOOL if protocol == "agentbench_fc" else Role.USER
        messages += [Message(Role.ASSISTANT, turn.text), Message(role, turn.reply)]
    tools = episode.prompt_ids != tuple(ChatFormat(engine.tokenizer).prompt(episode.prompt))
    spec = (await houses.env("alfworld")).spec
    whole = ChatFormat(engine.tokenizer).prompt(messages, spec.tools if tools else ())
    assert tuple(whole) == episode.prompt_ids + episode.completion_ids[: len(whole) - len(episode.prompt_ids)]
    assert tools == (protocol == "agentbench_fc")


async def test_doing_nothing_ends_by_the_protocols_rule_with_reward_0(keeper, plan) -> None:
    weights = RewardWeights(invalid_action=0.25)
    episode = await play_episode(keeper, ScriptedEngine("noop"), await plan(keeper, rewards=weights))
    assert_whole(episode)
    assert (episode.status, episode.reward, len(episode.turns)) == (EpisodeStatus.REPETITION, 0.0, 4)
    assert episode.turns[-1].steps == ()
    assert episode.metadata["invalid_turns"] == [3]
    assert episode.training_reward == -0.25
    assert await live_episodes(keeper, keeper.ids) == 0


async def test_turns_run_out(keeper, plan) -> None:
    episode = await play_episode(keeper, ScriptedEngine("expert"), await plan(keeper, max_turns=2))
    assert_whole(episode)
    assert (episode.status, episode.reward, len(episode.turns)) == (EpisodeStatus.TRUNCATED_TURNS, 0.0, 2)
    assert await live_episodes(keeper, keeper.ids) == 0


async def test_tokens_run_out_before_a_turn_that_might_not_fit(keeper, plan) -> None:
    engine = ScriptedEngine("random")
    free = await play_episode(keeper, engine, await plan(keeper, max_turns=4))
    second = len(free.prompt_ids) + sum(len(t.completion_ids + t.environment_ids) for t in free.turns[:2])
    for budget, turns in ((second + 256, 3), (second + 255, 2)):
        episode = await play_episode(keeper, engine, await plan(keeper, max_turns=4, max_episode_tokens=budget))
        assert_whole(episode)
        assert (episode.status, len(episode.turns), episode.reward) == (EpisodeStatus.TRUNCATED_TOKENS, turns, 0.0)
        assert len(episode.prompt_ids + episode.completion_ids) <= budget
    assert await live_episodes(keeper, keeper.ids) == 0


async def test_a_prompt_that_leaves_no_room_says_so(houses, plan) -> None:
    episode = await play_episode(houses, ScriptedEngine("expert"), await plan(houses, max_episode_tokens=300))
    assert (episode.status, episode.turns) == (EpisodeStatus.TRUNCATED_TOKENS, ())
    assert f"the first prompt has {len(episode.prompt_ids)} tokens" in episode.error


async def test_a_cut_turn_is_closed_by_the_environment(houses, plan) -> None:
    engine = SayingEngine(lambda turn: f"I think about turn {turn} and", cut=True)
    episode = await play_episode(houses, engine, await plan(houses, max_turns=3))
    assert_whole(episode)
    end = engine.tokenizer.end_of_turn_id
    assert all(turn.finish_reason is FinishReason.LENGTH and end not in turn.completion_ids for turn in episode.turns)
    assert [turn.environment_ids[0] for turn in episode.turns[:-1]] == [end, end]
    assert episode.metadata["invalid_turns"] == [0, 1, 2]
    assert "No executable tool calls found" in episode.turns[0].reply


@pytest.mark.parametrize(("fragment", "at", "turns"), [("/step", 3, 2), ("/episodes", 1, 0), ("/expert", 2, 1)])
async def test_a_lost_connection_is_no_result(house_app, plan, fragment, at, turns) -> None:
    transport = FailingTransport(httpx.ASGITransport(house_app), fragment=fragment, at=at)
    async with (
        house_app.router.lifespan_context(house_app),
        EnvClient("http://127.0.0.1", transport=transport, retries=0, patience_s=0.0) as client,
    ):
        episode = await play_episode(client, ScriptedEngine("expert"), await plan(client, number=3))
        assert (episode.status, episode.reward) == (EpisodeStatus.INFRASTRUCTURE_ERROR, None)
        assert "the connection was lost" in episode.error
        assert episode.reward_parts == {}
        assert episode.training_reward is None
        assert len(episode.turns) == turns
        created = ("POST", "/v1/episodes") in transport.seen and fragment != "/episodes"
        assert created == any(method == "DELETE" for method, _ in transport.seen)


async def test_an_engine_that_fails_is_no_result_and_the_episode_is_closed(keeper, plan) -> None:
    episode = await play_episode(keeper, WatchedEngine("expert", fails_at=2), await plan(keeper, number=3))
    assert [turn.index for turn in episode.turns] == [0, 1]
    assert (episode.status, episode.reward) == (EpisodeStatus.INFRASTRUCTURE_ERROR, None)
    assert "the engine's process has died" in episode.error
    assert await live_episodes(keeper, keeper.ids) == 0


async def test_an_episode_that_is_gone_on_the_server_is_no_result(keeper, plan) -> None:
    class Closing(ScriptedEngine):
        async def generate(self, request):
            completion = await super().generate(request)
            if request.script.turn == 1:
                await keeper.close_episode(keeper.ids[-1])
            return completion

    episode = await play_episode(keeper, Closing("expert"), await plan(keeper, number=3))
    assert (episode.status, episode.reward) == (EpisodeStatus.INFRASTRUCTURE_ERROR, None)
    assert "lost the episode" in episode.error


async def test_a_full_server_is_asked_again_then_given_up(house_app, plan, monkeypatch) -> None:
    monkeypatch.setattr("rollout_server.env_episode._BACKOFF_S", 0.0)
    async with EnvClient.in_process(house_app) as client:
        todo = await plan(client)
        held = [await client.create("alfworld", task_id=todo.task.id) for _ in range(8)]
        episode = await play_episode(client, ScriptedEngine("expert"), todo)
        assert episode.status is EpisodeStatus.INFRASTRUCTURE_ERROR
        assert "stayed full" in episode.error
        assert (episode.turns, episode.prompt_ids, episode.initial.text) == ((), (), "")
        await client.close_episode(held[0].id)
        assert (await play_episode(client, ScriptedEngine("expert"), todo)).success


async def test_cancelling_closes_the_episode_and_can_keep_what_was_played(keeper, plan) -> None:
    engine = HangingEngine(turns=2)
    kept: list[Episode] = []
    playing = asyncio.create_task(play_episode(keeper, engine, await plan(keeper, number=3), on_cancelled=kept.append))
    await engine.hangs.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    (episode,) = kept
    assert (episode.status, episode.reward, len(episode.turns)) == (EpisodeStatus.CANCELLED, None, 2)
    assert await live_episodes(keeper, keeper.ids) == 0


async def test_cancelling_during_the_creation_leaves_no_episode(keeper, plan) -> None:
    began = asyncio.Event()
    create = keeper.create

    async def slow(*args, **options):
        view = await create(*args, **options)
        began.set()
        await asyncio.sleep(0.05)
        return view

    keeper.create = slow
    playing = asyncio.create_task(play_episode(keeper, ScriptedEngine("expert"), await plan(keeper)))
    await began.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert len(keeper.ids) == 1
    assert await live_episodes(keeper, keeper.ids) == 0


async def test_an_action_of_a_shape_that_the_environment_refuses_is_the_policys(houses, plan) -> None:
    class WrongShape(AgentBenchFC):
        def session(self, env, view):
            session = super().session(env, view)
            session.parse = lambda text: ParsedTurn((Action("fly"), Action("take_action", {"action": "look"})))
            return session

    changed = replace(await plan(houses, max_turns=2), protocol=WrongShape())
    episode = await play_episode(houses, ScriptedEngine("noop"), changed)
    assert episode.status is EpisodeStatus.TRUNCATED_TURNS
    assert episode.metadata["invalid_turns"] == [0, 1]
    assert [step.action.name for step in episode.steps] == ["take_action"] * 2


async def test_a_refused_shape_is_read_by_the_policy(houses, plan) -> None:
    class Refused(AgentBenchFC):
        def session(self, env, view):
            session = super().session(env, view)
            session.parse = lambda text: ParsedTurn((Action("fly"),))
            return session

    changed = replace(await plan(houses, max_turns=2), protocol=Refused())
    episode = await play_episode(houses, ScriptedEngine("noop"), changed)
    assert "fly" in episode.turns[0].reply
    assert "AVAILABLE ACTIONS" in episode.turns[0].reply
    assert episode.steps == ()


async def test_any_other_failure_is_not_hidden(keeper, plan) -> None:
    class Broken(ScriptedEngine):
        async def generate(self, request):
            raise TaskDataError("a bug or broken data")

    with pytest.raises(TaskDataError):
        await play_episode(keeper, Broken("expert"), await plan(keeper))
    assert await live_episodes(keeper, keeper.ids) == 0


async def test_an_engine_without_tokens_is_no_policy(houses, plan) -> None:
    engine = SayingEngine(lambda turn: "", cut=True)
    episode = await play_episode(houses, engine, await plan(houses))
    assert (episode.status, episode.turns) == (EpisodeStatus.INFRASTRUCTURE_ERROR, ())
    assert "sampled no token" in episode.error


async def test_the_same_plan_plays_the_same_and_members_differ(houses, plan) -> None:
    def tokens(episode: Episode) -> tuple[int, ...]:
        return episode.prompt_ids + episode.completion_ids

    sampling = SamplingParams(max_tokens=256, seed=5)
    first = await play_episode(houses, ScriptedEngine("random"), await plan(houses, seed=1))
    again = await play_episode(houses, ScriptedEngine("random"), await plan(houses, seed=1))
    others = [
        await play_episode(houses, ScriptedEngine("random"), await plan(houses, **changes))
        for changes in ({"seed": 2}, {"seed": 1, "member": 1}, {"seed": 1, "sampling": sampling})
    ]
    assert tokens(first) == tokens(again)
    assert first.id != again.id
    assert all(other.prompt_ids == first.prompt_ids and tokens(other) != tokens(first) for other in others)


def test_no_two_turns_share_a_seed() -> None:
    seeds = [turn_seed(s, t, m, i) for s in range(3) for t in ("a", "b") for m in range(4) for i in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert turn_seed(0, "generated/1", 2, 3) == 2844166351  # runs of before stay reproducible


async def test_an_episode_lives_while_its_policy_thinks(plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the env server keeps what nothing is asked of."""

    class Thinking(WatchedEngine):
        async def generate(self, request: GenerationRequest) -> Completion:
            if len(self.requests) == 1:
                await asyncio.sleep(2.5)
            return await super().generate(request)

    monkeypatch.setattr("rollout_server.env_episode._BEAT_S", 0.1)
    settings = EnvServerSettings(envs=("alfworld",), idle_timeout_s=1.5)
    async with EnvClient.in_process(create_app(settings)) as client:
        episode = await play_episode(client, Thinking(), await plan(client, 3))
    assert (episode.status, episode.reward) == (EpisodeStatus.COMPLETED, 1.0)
