"""Groups without a signal: found, left out, replaced within a bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from trainer_doubles import ScriptedRollouts

from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode, Group, RolloutRequest
from trainer.filters import fill, has_signal
from trainer.loops import LoopThread
from trainer.rollouts import CREDIT_KEY, RolloutBatch, RolloutBridge, prompt_of
from trainer.sampler import TaskSampler
from trainer.settings import TaskSource

REQUEST = RolloutRequest(tasks=(), group_size=2, seed=5)


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as running:
        yield running


class Rewarded(ScriptedRollouts):
    """The double, with the rewards that a test wants: a pair for each group in the order of play."""

    def __init__(self, tokenizer: HFTokenizer, rewards: Sequence[tuple[float, float]], **more: object) -> None:
        super().__init__(tokenizer, **more)  # type: ignore[arg-type]
        self._rewards = iter(rewards)

    async def rollouts(self, request: RolloutRequest, **more: object) -> Sequence[Group]:
        return [self._with(g, next(self._rewards)) for g in await super().rollouts(request)]

    def _with(self, group: Group, rewards: tuple[float, float]) -> Group:
        members = [
            replace(e, reward=float(r >= 1), reward_parts={"task": r}) if e.status.scored else e
            for e, r in zip(group.episodes, rewards, strict=True)
        ]
        return replace(group, episodes=tuple(members))


def bridge(service: ScriptedRollouts, loop: LoopThread, seen: list[RolloutBatch], **more: object) -> RolloutBridge:
    sampler = TaskSampler([TaskSource(env="alfworld", split="generated")], seed=1)
    return RolloutBridge(
        service,
        loop,
        sampler=sampler,
        template=REQUEST,
        dummy_id=2,
        on_batch=seen.append,
        **more,  # type: ignore[arg-type]
    )


PROMPTS = [prompt_of(row) for row in (6, 7, 8) for _ in range(2)]
MIXED, FLAT = (1.0, 0.0), (0.0, 0.0)


def test_what_a_signal_is() -> None:
    assert has_signal([1.0, 0.0, None])
    assert not has_signal([1.0, 1.0, None])
    assert not has_signal([1.0])
    assert not has_signal([])
    assert has_signal([1.0, 1.0], [(0.0, 0.3), (0.0,)]), "equal rewards, but turns that differ"
    assert not has_signal([1.0, 1.0], [(0.0,), (0.0,)])


@pytest.mark.parametrize(
    ("signals", "further", "rounds", "kept", "filtered"),
    [
        ([1, 1, 1], 5, [(0, 3)], 3, 0),
        ([1, 0, 1, 1], 5, [(0, 3), (3, 1)], 3, 1),
        ([0, 0, 0, 1, 0, 1, 0, 1], 5, [(0, 3), (3, 3), (6, 1), (7, 1)], 3, 5),
        ([0, 0, 1, 0, 0], 2, [(0, 3), (3, 2)], 1, 4),
        ([0, 0, 0], 0, [(0, 3)], 0, 3),
    ],
)
def test_as_many_are_played_as_are_missing(
    signals: list[int], further: int, rounds: list[tuple[int, int]], kept: int, filtered: int
) -> None:
    asked = []

    def play(before: int, count: int) -> list[int]:
        asked.append((before, count))
        return signals[before : before + count]

    filled = fill(3, play, signal=bool, further=further)
    assert asked == rounds
    assert (len(filled.kept), len(filled.filtered), list(filled.played)) == (kept, filtered, signals)


def test_other_groups_are_played_in_place(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    service, seen = Rewarded(tokenizer, [FLAT, MIXED, FLAT, MIXED, MIXED]), list[RolloutBatch]()
    answer = bridge(service, loop, seen, further_groups=4)(PROMPTS)
    assert [len(r.tasks) for r in service.requests] == [3, 2]
    assert len({r.seed for r in service.requests}) == 2
    assert not set(service.requests[0].tasks) & set(service.requests[1].tasks)
    assert answer["training_reward"] == [1.0, 0.0] * 3
    figures = seen[0].metrics
    assert {k: figures[f"groups/{k}"] for k in ("played", "filtered", "refilled", "empty")} == {
        "played": 5,
        "filtered": 2,
        "refilled": 2,
        "empty": 0,
    }
    assert figures["rollout/episodes"] == 10, "figures are of everything that was played: what is left out is no secret"
    assert CREDIT_KEY not in answer


def test_at_the_bound_a_step_goes_on_with_what_it_has(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    service, seen = Rewarded(tokenizer, [FLAT, MIXED, FLAT, FLAT]), list[RolloutBatch]()
    answer = bridge(service, loop, seen, further_groups=1)(PROMPTS)
    assert seen[0].metrics["groups/empty"] == 2
    assert [any(mask) for mask in answer["env_mask"]] == [True, True, False, False, False, False]
    assert answer["completion_ids"][2:] == [[2]] * 4
    assert answer["training_reward"] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_without_a_filter_nothing_is_left_out(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    service, seen = Rewarded(tokenizer, [FLAT, FLAT, MIXED]), list[RolloutBatch]()
    answer = bridge(service, loop, seen)(PROMPTS)
    assert len(service.requests) == 1
    assert all(any(mask) for mask in answer["env_mask"])
    assert (seen[0].metrics["groups/filtered"], seen[0].metrics["groups/played"]) == (0, 3)


def test_a_resumed_run_plays_the_same_further_groups(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    pairs = [FLAT, MIXED, MIXED, MIXED]
    first, second = Rewarded(tokenizer, pairs), Rewarded(tokenizer, pairs)
    for service in (first, second):
        bridge(service, loop, [], further_groups=1)(PROMPTS)
    assert first.requests == second.requests


def test_dead_episodes_are_in_no_credit(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    judged: list[str] = []

    def credit(episodes: Sequence[Episode]) -> list[tuple[float, ...]]:
        judged.extend(e.id for e in episodes)
        return [tuple(float(n + 1) for n in range(len(e.turns))) for e in episodes]

    service = Rewarded(tokenizer, [MIXED] * 3, fail=[(0, 1, 0)])
    answer = bridge(service, loop, [], credit=credit)(PROMPTS)
    dead = service.episodes[2]
    assert dead.id not in judged
    assert len(judged) == 5
    assert answer[CREDIT_KEY][2] == [0.0]
    for given, mask in zip(answer[CREDIT_KEY], answer["env_mask"], strict=True):
        assert len(given) == len(mask)
        assert all(bool(value) == bool(m) for value, m in zip(given, mask, strict=True))
