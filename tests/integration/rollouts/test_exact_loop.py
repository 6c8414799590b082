"""Token exactness through the whole loop: an engine that samples any ids, an environment that says anything."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from chat_samples import qwen_like
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qwen_tokenizers import FRAGMENTS, added_ids, outside, trained

from envs.client import EnvClient, EpisodeView
from envs.config import EnvServerSettings
from envs.registry import ALFWORLD
from envs.server.app import create_app
from rollout_server.agent_loop import EpisodePlan, play_episode
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.protocols import get_protocol
from rollout_server.serialize import dumps, episode_from_json, episode_to_json
from rollout_server.tokenizer import ByteTokenizer, HFTokenizer
from rollout_server.types import Completion, Episode, FinishReason, PolicyVersion, SamplingParams
from trainer.batch import episode_row

_SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_ROOM = 10_000_000


class AnyIdsEngine(ScriptedEngine):
    """Samples what a test gives it, turn by turn, as a model might that knows nothing: any id, cut anywhere."""

    def __init__(self, tokenizer: Any, turns: list[tuple[int, ...]]) -> None:
        super().__init__("noop", tokenizer)
        self._given = turns
        self.prompts: list[tuple[int, ...]] = []

    async def generate(self, request: GenerationRequest) -> Completion:
        ids = self._given[len(self.prompts)][: request.sampling.max_tokens]
        self.prompts.append(request.prompt_ids)
        closed = ids[-1] == self.tokenizer.end_of_turn_id
        logprobs = tuple(-(n + 1) / 8 for n in range(len(ids)))
        return Completion(ids, logprobs, FinishReason.STOP if closed else FinishReason.LENGTH, request.policy.name)


class HostileClient(EnvClient):
    """The real client, whose observations hold what a test wants in addition: no environment here would say it."""

    says: Iterator[str] = cycle([""])

    async def create(self, *args: Any, **options: Any) -> EpisodeView:
        return self._with(await super().create(*args, **options))

    async def step(self, *args: Any, **options: Any) -> EpisodeView:
        return self._with(await super().step(*args, **options))

    def _with(self, view: EpisodeView) -> EpisodeView:
        return replace(view, observation=replace(view.observation, text=view.observation.text + next(self.says)))


class Played:
    """A real env server and its client on an event loop of their own: examples are plain calls."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._context = HostileClient.in_process(create_app(EnvServerSettings(envs=("alfworld",), max_episodes=8)))
        self.client: HostileClient = self._run(self._context.__aenter__())
        self.task = self._run(self.client.task("alfworld", "generated/pick_clean_then_place_in_recep/3"))

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def play(self, engine: AnyIdsEngine, says: list[str], plan: EpisodePlan) -> Episode:
        self.client.says = cycle(says or [""])
        episode: Episode = self._run(play_episode(self.client, engine, plan))
        return episode

    def close(self) -> None:
        self._run(self._context.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    server = Played()
    yield server
    server.close()


@pytest.fixture(scope="module", params=["trained", "smollm2", "bytes"])
def tokenizer(request: pytest.FixtureRequest, smollm2_dir: Path) -> HFTokenizer | ByteTokenizer:
    if request.param == "bytes":
        return ByteTokenizer()
    return trained() if request.param == "trained" else qwen_like(smollm2_dir)


def markup(tokenizer: HFTokenizer | ByteTokenizer) -> frozenset[int]:
    return frozenset((256, 257)) if isinstance(tokenizer, ByteTokenizer) else added_ids(tokenizer)


@st.composite
def turn_ids(draw: st.DrawFn, tokenizer: HFTokenizer | ByteTokenizer) -> tuple[int, ...]:
    """Calls whole, cut in their tags or within a character, hostile pieces, any ids, nothing but the end."""
    end = tokenizer.end_of_turn_id
    # A model has rows for more ids than its tokenizer knows.
    last = 257 if isinstance(tokenizer, ByteTokenizer) else len(tokenizer.hf) + 50
    call = '<tool_call>\n{"name": "take_action", "arguments": {"action": "look é😀"}}\n</tool_call>'
    pieces = draw(st.lists(st.sampled_from([call, call, *FRAGMENTS]), max_size=3))
    ids = [i for piece in pieces for i in tokenizer.encode(piece, markup=draw(st.booleans()))]
    ids += draw(st.lists(st.integers(0, last), max_size=6))
    ids = [i for i in ids if i != end][: draw(st.integers(0, 60))]
    return (*ids, *draw(st.sampled_from([(), (end,)]))) or (end,)


@_SETTINGS
@given(data=st.data())
def test_an_episode_trains_on_what_was_sampled(
    played: Played, tokenizer: HFTokenizer | ByteTokenizer, data: st.DataObject
) -> None:
    turns = data.draw(st.lists(turn_ids(tokenizer), min_size=4, max_size=4))
    says = data.draw(st.lists(outside, max_size=4))
    most = data.draw(st.sampled_from([8, 64]))
    engine = AnyIdsEngine(tokenizer, turns)
    plan = EpisodePlan(
        env=ALFWORLD,
        task=played.task,
        protocol=get_protocol(data.draw(st.sampled_from(["agentbench_fc", "agentbench_classic"]))),
        policy=PolicyVersion(),
        sampling=SamplingParams(max_tokens=most),
        max_turns=4,
        max_episode_tokens=_ROOM,
    )
    episode = played.play(engine, says, plan)
    assert episode.status.scored, episode.error
    assert 1 <= len(episode.turns) == len(engine.prompts) <= 4
    sampled = [ids[:most] for ids in turns[: len(episode.turns)]]
    assert [turn.completion_ids for turn in episode.turns] == sampled
    # Every prompt is the one before, what was sampled from it, and the environment's reply: nothing is rewritten.
    grown = episode.prompt_ids
    for turn, prompt in zip(episode.turns, engine.prompts, strict=True):
        assert prompt == grown
        grown += turn.completion_ids + turn.environment_ids
    assert grown == episode.prompt_ids + episode.completion_ids
    # The format's own markup is all there is outside of what was sampled.
    kinds = markup(tokenizer)
    start = next(iter(tokenizer.encode("<|im_start|>", markup=True)))
    for turn in episode.turns[:-1]:
        marks = [i for i in turn.environment_ids if i in kinds]
        cut = turn.completion_ids[-1] != tokenizer.end_of_turn_id
        assert marks.count(start) == 2
        assert marks.count(tokenizer.end_of_turn_id) == 1 + cut
        assert len(marks) in (3 + cut, 5 + cut)  # a tool's answer has two tags where the tokenizer has them
    row = episode_row(episode, dummy_id=0, max_tokens=_ROOM)
    trained_on = [(i, p) for i, p, m in zip(row.completion_ids, row.logprobs, row.mask, strict=True) if m]
    assert trained_on == [(i, -(n + 1) / 8) for ids in sampled for n, i in enumerate(ids)]
    assert episode_from_json(json.loads(dumps(episode_to_json(episode)))) == episode
