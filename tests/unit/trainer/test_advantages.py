"""Step advantages: by hand, and what must hold for any group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from episode_samples import sample_episode
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import ConfigError
from envs.types import Action, EpisodeStatus, Observation
from rollout_server.types import Episode, FinishReason, RewardWeights, StepRecord, Turn
from trainer.advantages import (
    anchor_states,
    gigpo,
    normalised,
    oracle_potential,
    per_token,
    returns_to_go,
    step_credit,
    turn_rewards,
)
from trainer.config import parse_config
from trainer.grpo_run import rollout_template

WEIGHTS = RewardWeights()


def played(
    states: Sequence[str], reward: float = 0.0, *, told: Sequence[float] = (), action: str = "", env: str = "alfworld"
) -> Episode:
    """An episode with one step a turn: the state after each, and what its potential changed."""
    turns = []
    for at, state in enumerate(states):
        shaping = {"potential": told[at]} if told else {}
        step = StepRecord(
            Action("take_action", {"action": f"{action}{at}"}),
            Observation(""),
            reward if at == len(states) - 1 else 0.0,
            terminated=False,
            truncated=False,
            valid=True,
            state_hash=state,
            shaping=shaping,
        )
        ids, reply = tuple(range(2 + at)), (7,) * (at + 1)
        turns.append(Turn(at, ids, (0.0,) * len(ids), FinishReason.STOP, "base", "", (step,), "", reply))
    return sample_episode(
        env=env, turns=tuple(turns), reward=reward, reward_parts={"task": reward}, status=EpisodeStatus.COMPLETED
    )


WON = played(["s1", "s2", "s3"], 1.0, told=[0.5, 0.25, 0.25])
LOST = played(["s1", "s1", "s4"], 0.0, told=[0.0, -0.25, 0.0])


def test_gigpo_by_hand() -> None:
    """Won: returns 1/4, 1/2, 1 from start, s1, s2. Lost: 0 from start, s1, s1 (its second turn changed nothing)."""
    got = gigpo([WON, LOST], weights=WEIGHTS, gamma=0.5, scale="none")
    assert got[0] == pytest.approx((1 / 8, 1 / 3, 0.0))
    assert got[1] == pytest.approx((-1 / 8, -1 / 6, -1 / 6))
    scaled = gigpo([WON, LOST], weights=WEIGHTS, gamma=0.5, scale="std")
    assert scaled[0][0] == pytest.approx(0.125 / (0.25 / 2**0.5 + 1e-4))
    assert scaled[0][1] == pytest.approx((1 / 3) / ((0.5**2 / 3) ** 0.5 + 1e-4))


def test_oracle_by_hand() -> None:
    got = oracle_potential([WON, LOST], scale="none")
    assert got[0] == pytest.approx((0.375, 0.125, 0.125))
    assert got[1] == pytest.approx((-0.125, -0.375, -0.125))
    with pytest.raises(ConfigError, match="other tells no potential"):
        oracle_potential([replace(WON, env="other")], scale="none")


def test_oracle_pays_less_for_an_invalid_turn_than_for_one_that_changed_nothing() -> None:
    silent = replace(LOST, turns=(*LOST.turns[:2], replace(LOST.turns[2], steps=())))
    free = oracle_potential([WON, silent], scale="none")
    paid = oracle_potential([WON, silent], scale="none", invalid_cost=0.6)
    assert paid[1][2] == pytest.approx(free[1][2] - 0.6 + 0.1)  # a sixth of the cost is in the mean of six turns
    assert paid[0] == pytest.approx([value + 0.1 for value in free[0]])
    settings = {"advantage": "oracle_potential", "step_scale": "none", "step_invalid_cost": 0.6}
    rule = step_credit(parse_config({"grpo": settings}).grpo, WEIGHTS)
    assert rule is not None
    assert rule([WON, silent])[1] == pytest.approx(paid[1])


def seen(episode: Episode, texts: Sequence[str], *, given: int = 0) -> Episode:
    """The episode with these observations, its first turns kept from an earlier one."""
    turns = [
        replace(
            turn,
            steps=(replace(turn.steps[0], observation=Observation(text)),) if text != "no step" else (),
            given=turn.index < given,
        )
        for turn, text in zip(episode.turns, texts, strict=True)
    ]
    return replace(episode, turns=tuple(turns))


def test_oracle_pays_less_for_a_turn_that_showed_nothing_new() -> None:
    group = [seen(WON, ["a desk", "a shelf", "a desk"]), seen(LOST, ["a desk", "", ""])]
    free, paid = (oracle_potential(group, scale="none", repeat_cost=cost) for cost in (0.0, 0.6))
    assert paid[0] == pytest.approx((free[0][0] + 0.1, free[0][1] + 0.1, free[0][2] - 0.6 + 0.1))
    assert paid[1] == pytest.approx([value + 0.1 for value in free[1]]), (
        "another's desk, and no text, are no repetition"
    )
    forked = [seen(WON, ["a desk", "a shelf", "a desk"], given=1), group[1]]
    shorter = oracle_potential(forked, scale="none", repeat_cost=0.6)
    assert len(shorter[0]) == 2
    assert shorter[0][1] < shorter[0][0], "a kept turn's observation has been shown"
    silent = [seen(WON, ["a desk", "a desk", "no step"]), group[1]]
    both = oracle_potential(silent, scale="none", invalid_cost=0.3, repeat_cost=0.6)
    none = oracle_potential(silent, scale="none")
    assert [b - n for b, n in zip(both[0], none[0], strict=True)] == pytest.approx([0.15, -0.45, -0.15])
    rule = step_credit(
        parse_config({"grpo": {"advantage": "oracle_potential", "step_scale": "none", "step_repeat_cost": 0.6}}).grpo,
        WEIGHTS,
    )
    assert rule is not None
    assert rule(group)[0] == pytest.approx(paid[0])


def test_oracle_compares_turns_that_began_at_the_same_potential() -> None:
    """At 0: +0.5 and 0.0, then -0.25 again from 0. At 0.5, 0.75 and -0.25 one turn each, which nothing is beside."""
    got = oracle_potential([WON, LOST], scale="none", baseline="level")
    assert got[0] == pytest.approx((0.5 - 0.25 / 3, 0.0, 0.0))
    assert got[1] == pytest.approx((-0.25 / 3, -0.25 - 0.25 / 3, 0.0))
    forked = replace(WON, turns=(replace(WON.turns[0], given=True), *WON.turns[1:]))
    beside = played(["s1", "s5"], 0.0, told=[0.5, 0.0])
    assert oracle_potential([forked, beside], scale="none", baseline="level")[0][0] == pytest.approx(0.125)
    rule = step_credit(
        parse_config({"grpo": {"advantage": "oracle_potential", "step_scale": "none", "step_baseline": "level"}}).grpo,
        WEIGHTS,
    )
    assert rule is not None
    assert rule([WON, LOST]) == got


def test_a_turn_is_paid_where_it_cost_and_the_benchmark_at_the_end() -> None:
    weights = RewardWeights(task=2.0, invalid_action=0.1, shaping={"alfworld": {"potential": 0.5}})
    episode = replace(
        WON,
        metadata={"invalid_turns": [1]},
        reward_parts={"task": 2.0, "invalid_action": -0.1, "shaping.potential": 0.5},
    )
    assert turn_rewards(episode, weights) == pytest.approx((0.25, 0.125 - 0.1, 0.125 + 2.0))
    assert returns_to_go((0.25, 0.0, 2.0), 0.5) == (0.75, 1.0, 2.0)
    silent = replace(WON, metadata={}, turns=(replace(WON.turns[0], steps=()), *WON.turns[1:]))
    assert turn_rewards(silent, RewardWeights(invalid_action=0.1))[0] == -0.1


def test_without_a_hash_the_same_actions_lead_to_the_same_state() -> None:
    one, same, other = (played(["", "", ""], action=a, env="dbbench") for a in ("a", "a", "b"))
    assert anchor_states(one) == anchor_states(same)
    assert set(anchor_states(one)) & set(anchor_states(other)) == {"start"}
    assert len(set(anchor_states(one))) == 3


def test_given_turns_lead_to_a_state_and_are_not_judged() -> None:
    forked = replace(WON, turns=(replace(WON.turns[0], given=True), *WON.turns[1:]))
    assert anchor_states(forked) == anchor_states(WON)[1:]
    values = gigpo([forked, LOST], weights=WEIGHTS, gamma=0.5, scale="none")
    assert len(values[0]) == 2
    assert per_token(forked, values[0], 100)[: len(WON.turns[0].completion_ids)] == (0.0, 0.0)


def test_tokens_get_their_turns_value_and_those_of_the_environment_none() -> None:
    tokens = per_token(WON, (1.0, 2.0, 3.0), 10)
    assert tokens == (1, 1, 0, 2, 2, 2, 0, 0, 3, 3)
    assert len(per_token(WON, (1.0, 2.0, 3.0), 1000)) == len(WON.completion_ids)


episodes = st.lists(
    st.builds(
        played,
        st.lists(st.sampled_from(["s1", "s2", "s3", "s4"]), min_size=1, max_size=6),
        st.sampled_from([0.0, 1.0]),
    ),
    min_size=1,
    max_size=5,
)


@given(episodes, st.sampled_from(["std", "none"]), st.sampled_from([0.5, 0.95, 1.0]), st.randoms(use_true_random=False))
def test_what_holds_for_any_group(group: list[Episode], scale: str, gamma: float, random: object) -> None:
    values = gigpo(group, weights=WEIGHTS, gamma=gamma, scale=scale)  # type: ignore[arg-type]
    by_anchor: dict[str, list[float]] = {}
    for episode, own in zip(group, values, strict=True):
        for anchor, value in zip(anchor_states(episode), own, strict=True):
            by_anchor.setdefault(anchor, []).append(value)
    for shared in by_anchor.values():
        assert sum(shared) == pytest.approx(0.0, abs=1e-6), "mean 0 among the turns of a state"
        assert len(shared) > 1 or shared == [0.0], "a state that no other turn began in says nothing"

    order = list(range(len(group)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = gigpo([group[i] for i in order], weights=WEIGHTS, gamma=gamma, scale=scale)  # type: ignore[arg-type]
    for i, value in zip(order, again, strict=True):
        assert value == pytest.approx(values[i])

    for episode, own in zip(group, values, strict=True):
        for mask, value in zip(episode.mask, per_token(episode, own, 10_000), strict=True):
            assert mask or value == 0.0


@given(st.lists(st.floats(-5, 5), max_size=8))
def test_normalised_values_have_mean_0_and_keep_their_order(values: list[float]) -> None:
    for scale in ("std", "none"):
        out = normalised(values, scale)  # type: ignore[arg-type]
        assert sum(out) == pytest.approx(0.0, abs=1e-6)
        pairs = sorted(zip(values, out, strict=True))
        assert all(a <= b + 1e-9 for (_, a), (_, b) in pairwise(pairs))


def test_the_recipe_chooses_the_rule_and_asks_for_what_it_reads() -> None:
    assert step_credit(parse_config({}).grpo, WEIGHTS) is None
    twice = parse_config({"grpo": {"advantage": "gigpo", "step_weight": 2.0, "step_gamma": 0.5, "step_scale": "none"}})
    rule = step_credit(twice.grpo, WEIGHTS)
    assert rule is not None
    assert rule([WON, LOST])[0] == pytest.approx((2 / 8, 2 / 3, 0.0))
    oracle = parse_config({"grpo": {"advantage": "oracle_potential"}})
    assert rollout_template(oracle).rewards.shaping == {"alfworld": {"potential": 0.0}}
    other = {"data": {"sources": [{"env": "other", "split": "train"}]}, "grpo": {"advantage": "oracle_potential"}}
    with pytest.raises(ConfigError, match="'other' tells no potential; known: alfworld, dbbench"):
        parse_config(other)
