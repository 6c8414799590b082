"""Pairs of stored episodes: where they part, what is learnt, what is left out and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from preference_samples import TASK, say

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.chat import ChatFormat
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode
from trainer.preference_collect import fork_turn
from trainer.preferences import (
    Pair,
    Preferences,
    Side,
    Verdict,
    balanced_weights,
    digest,
    pair_rows,
    parting_turn,
    verdict_rows,
)
from trainer.settings import DpoSettings, KtoSettings
from trainer.splits import SplitGuard


@pytest.fixture
def pairs(tokenizer: HFTokenizer) -> Any:
    def build(*episodes: Episode, **settings: Any) -> Preferences[Pair]:
        return pair_rows(episodes, tokenizer, DpoSettings(**settings), guard=SplitGuard())

    return build


@pytest.fixture
def verdicts(tokenizer: HFTokenizer) -> Any:
    def build(*episodes: Episode, **settings: Any) -> Preferences[Verdict]:
        return verdict_rows(episodes, tokenizer, KtoSettings(**settings), guard=SplitGuard())

    return build


def test_a_pair_is_the_turn_at_which_won_and_lost_part(chat: ChatFormat, pairs: Any) -> None:
    won = say(chat, ["tables", "right", "commit"], reward=1.0, id="won")
    lost = say(chat, ["tables", "wrong", "commit"], reward=0.0, id="lost")
    found = pairs(lost, won)
    (pair,) = found.rows
    assert (pair.turn, pair.chosen.episode_id, pair.rejected.episode_id) == (1, "won", "lost")
    first = won.turns[0]
    assert pair.prompt_ids == (*won.prompt_ids, *first.completion_ids, *first.environment_ids)
    assert pair.chosen.ids == won.turns[1].completion_ids
    assert pair.rejected.ids == lost.turns[1].completion_ids
    assert set(pair.chosen.mask) == set(pair.rejected.mask) == {1}
    assert (found.episodes, found.tasks, dict(found.left_out)) == (2, 1, {})


def test_by_episode_the_rest_is_compared_and_only_the_policys_words_count(chat: ChatFormat, pairs: Any) -> None:
    won = say(chat, ["tables", "right", "look", "commit"], reward=1.0, id="won")
    lost = say(chat, ["tables", "wrong", "commit"], reward=0.0, id="lost")
    (pair,) = pairs(won, lost, scope="episode").rows
    for side, episode in ((pair.chosen, won), (pair.rejected, lost)):
        assert (*pair.prompt_ids, *side.ids) == (*episode.prompt_ids, *episode.completion_ids), "ids as sampled"
        said = [i for i, m in zip(side.ids, side.mask, strict=True) if m]
        assert said == [i for t in episode.turns[1:] for i in t.completion_ids]
        assert 0 in side.mask


def test_words_of_the_environment_after_the_last_turn_are_dropped(chat: ChatFormat, pairs: Any) -> None:
    won = say(chat, ["right", "commit"], reward=1.0, id="won")
    last = replace(won.turns[-1], environment_ids=(7, 8))
    longer = replace(won, turns=(*won.turns[:-1], last))
    (pair,) = pairs(longer, say(chat, ["wrong", "commit"], reward=0.0, id="lost"), scope="episode").rows
    assert pair.chosen.ids == won.completion_ids


def test_where_episodes_part(chat: ChatFormat) -> None:
    base = say(chat, ["a", "b", "c"], reward=1.0, id="base")
    assert parting_turn(base, say(chat, ["x", "b", "c"], reward=0.0, id="1")) == 0
    assert parting_turn(base, say(chat, ["a", "b", "x"], reward=0.0, id="2")) == 2
    assert parting_turn(base, say(chat, ["a", "b"], reward=0.0, id="3")) is None, "the policy said the same"
    assert parting_turn(base, base) is None
    other = say(chat, ["a", "b", "x"], reward=0.0, id="4", replies=["rows of a", "none", ""])
    assert parting_turn(base, other) is None, "what the environment answered is no doing of the policy"
    assert parting_turn(base, say(chat, ["a", "x"], reward=0.0, id="5", question="Which?")) is None
    # An end-of-turn token that the loop appended to a cut turn is the same token.
    assert parting_turn(base, say(chat, ["a", "b", "x"], reward=0.0, id="6", cut=[0])) == 2


@drawn(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=5), st.lists(st.sampled_from("abc"), min_size=1, max_size=5)
)
def test_the_prompt_is_the_longest_common_beginning_that_ends_with_a_turn(
    chat: ChatFormat, first: list[str], second: list[str]
) -> None:
    one, two = say(chat, first, reward=1.0, id="1"), say(chat, second, reward=0.0, id="2")

    def beginnings(episode: Episode) -> list[tuple[int, ...]]:
        blocks = [(*t.completion_ids, *t.environment_ids) for t in episode.turns]
        return [(*episode.prompt_ids, *chain.from_iterable(blocks[:k])) for k in range(len(blocks))]

    shared = [k for k, (a, b) in enumerate(zip(beginnings(one), beginnings(two), strict=False)) if a == b]
    differ = first[shared[-1]] != second[shared[-1]]
    assert parting_turn(one, two) == (shared[-1] if differ else None)


def test_a_fork_pairs_with_its_parent_and_what_was_given_is_not_learnt(chat: ChatFormat, pairs: Any) -> None:
    lost = say(chat, ["tables", "wrong", "commit"], reward=0.0, id="lost")
    fork = say(chat, ["tables", "right", "commit"], reward=1.0, id="fork", given=1)
    assert [p.turn for p in pairs(lost, fork).rows] == [1]
    elsewhere = say(chat, ["other", "wrong", "commit"], reward=0.0, id="elsewhere")
    found = pairs(elsewhere, fork)
    assert found.rows == []
    assert found.left_out == {"pairs that part in a turn that was given": 1}


def test_ties_failures_and_lonely_tasks_are_left_out_and_counted(chat: ChatFormat, pairs: Any) -> None:
    lost = say(chat, ["wrong"], reward=0.0, id="lost")
    half = say(chat, ["half"], reward=0.5, id="half")
    dead = say(chat, ["dead"], reward=None, id="dead")
    found = pairs(lost, half, dead)
    assert found.rows == []
    assert found.left_out == {"tasks without a better and a worse episode": 1, "episodes without a result": 1}
    assert [p.chosen.episode_id for p in pairs(lost, half, margin=0.5).rows] == ["half"]


def test_other_tasks_protocols_and_contents_are_no_pairs(chat: ChatFormat, pairs: Any) -> None:
    won = say(chat, ["right"], reward=1.0, id="won")
    for other in (
        say(chat, ["wrong"], reward=0.0, id="lost", task=replace(TASK, id="generated/4")),
        say(chat, ["wrong"], reward=0.0, id="lost", task=replace(TASK, content_hash="changed")),
        replace(say(chat, ["wrong"], reward=0.0, id="lost"), protocol="agentbench_classic"),
    ):
        assert pairs(won, other).left_out == {"tasks without a better and a worse episode": 2}


def test_training_rewards_order_episodes_that_the_benchmark_calls_equal(chat: ChatFormat, pairs: Any) -> None:
    near = replace(say(chat, ["near"], reward=0.0, id="near"), reward_parts={"task": 0.0, "overlap": 0.4})
    far = say(chat, ["far"], reward=0.0, id="far")
    assert pairs(near, far).rows == []
    (pair,) = pairs(near, far, compare="training_reward", margin=0.3).rows
    assert (pair.chosen.episode_id, pair.chosen.reward, pair.rejected.episode_id) == ("near", 0.4, "far")


def test_long_pairs_are_left_out_and_counted_never_cut(chat: ChatFormat, pairs: Any) -> None:
    won = say(chat, ["right", "commit"], reward=1.0, id="won")
    lost = say(chat, ["wrong " * 100, "commit"], reward=0.0, id="lost")
    found = pairs(won, lost, max_length=64)
    assert (found.rows, found.left_out) == ([], {"pairs longer than max_length": 1})


def test_a_better_turn_that_was_cut_or_invalid_is_no_example(chat: ChatFormat, pairs: Any) -> None:
    lost = say(chat, ["wrong", "commit"], reward=0.0, id="lost")
    for flaw in ({"invalid": [0]}, {"cut": [0]}):
        found = pairs(say(chat, ["slip", "commit"], reward=1.0, id="won", **flaw), lost)
        assert found.left_out == {"pairs whose better turn was cut or invalid": 1}
        assert len(pairs(say(chat, ["slip", "commit"], reward=1.0, id="won", **flaw), lost, scope="episode").rows) == 1


def test_pairs_that_contradict_each_other_or_come_twice_are_left_out(chat: ChatFormat, pairs: Any) -> None:
    def ends(first: str, then: str, reward: float, id: str) -> Episode:
        return say(chat, [first, then], reward=reward, id=id)

    both_ways = [ends("a", "x", 1.0, "1"), ends("b", "y", 0.0, "2"), ends("b", "z", 1.0, "3"), ends("a", "w", 0.0, "4")]
    found = pairs(*both_ways)
    assert found.left_out["pairs that another one contradicts"] == 2
    assert sorted((p.chosen.episode_id, p.rejected.episode_id) for p in found.rows) == [("1", "4"), ("3", "2")]
    twice = pairs(ends("a", "x", 1.0, "1"), ends("a", "y", 1.0, "2"), ends("b", "z", 0.0, "3"))
    assert len(twice.rows) == 1
    assert twice.left_out == {"pairs that come twice": 1}


def test_the_longest_beginnings_and_fresh_episodes_come_first(chat: ChatFormat, pairs: Any) -> None:
    won = [say(chat, ["t", "u", f"right{i}"], reward=1.0, id=f"won{i}") for i in range(2)]
    near = [say(chat, ["t", "u", f"wrong{i}"], reward=0.0, id=f"near{i}") for i in range(2)]
    far = say(chat, ["v"], reward=0.0, id="far")
    found = pairs(*won, far, *near, pairs_per_task=2)
    assert [p.turn for p in found.rows] == [2, 2]
    assert len({s.episode_id for p in found.rows for s in p.sides}) == 4, "no episode twice where there are others"
    # Of six combinations two come twice by turn: each winner's first turn is the same.
    assert found.left_out == {"pairs above pairs_per_task": 3, "pairs that come twice": 1}
    assert len(pairs(*won, far, *near, pairs_per_task=0).rows) == 5


def test_evaluation_episodes_and_other_tokenizers_are_refused(chat: ChatFormat, pairs: Any, verdicts: Any) -> None:
    task = Task("dbbench", "dev/1", "dev", "SELECT", "abc")
    for build in (pairs, verdicts):
        with pytest.raises(ConfigError, match="evaluation split"):
            build(say(chat, ["a"], reward=1.0, id="1", task=task))
        other = say(chat, ["abc"], reward=1.0, id="1")
        wrong = replace(other.turns[0], completion_ids=other.turns[0].completion_ids[::-1])
        with pytest.raises(ConfigError, match="another tokenizer"):
            build(replace(other, turns=(wrong,)))


def test_kto_by_episode_judges_every_episode_paired_or_not(chat: ChatFormat, verdicts: Any) -> None:
    episodes = [say(chat, ["a", f"w{i}"], reward=1.0, id=f"w{i}") for i in range(3)]
    episodes.append(say(chat, ["b", "l"], reward=0.0, id="l", task=replace(TASK, id="generated/9")))
    found = verdicts(*episodes, scope="episode", pairs_per_task=2)
    assert [(v.side.episode_id, v.desirable) for v in found.rows] == [("w0", True), ("w1", True), ("l", False)]
    assert found.left_out == {"episodes above pairs_per_task": 1}
    first = found.rows[0]
    assert (first.prompt_ids, first.side.ids, first.side.mask) == (
        episodes[0].prompt_ids,
        episodes[0].completion_ids,
        episodes[0].mask,
    )


def test_kto_of_a_fork_begins_where_it_was_free(chat: ChatFormat, verdicts: Any) -> None:
    fork = say(chat, ["tables", "right", "commit"], reward=1.0, id="fork", given=1)
    (row,) = verdicts(fork, scope="episode").rows
    assert row.turn == 1
    assert (*row.prompt_ids, *row.side.ids) == (*fork.prompt_ids, *fork.completion_ids)
    assert row.side.ids[0] == fork.turns[1].completion_ids[0]


def test_kto_by_turn_takes_both_sides_once_and_nothing_that_is_both(chat: ChatFormat, verdicts: Any) -> None:
    won = say(chat, ["tables", "right", "commit"], reward=1.0, id="won")
    lost = [say(chat, ["tables", w, "commit"], reward=0.0, id=w) for w in ("wrong", "bad")]
    rows = verdicts(won, *lost, scope="turn").rows
    assert sorted((v.side.ids, v.desirable) for v in rows) == sorted(
        [(won.turns[1].completion_ids, True), *((e.turns[1].completion_ids, False) for e in lost)]
    )
    middling = say(chat, ["tables", "bad", "x"], reward=0.5, id="middling")
    low = say(chat, ["tables", "low", "x"], reward=0.0, id="low")
    found = verdicts(won, middling, low, margin=0.5, scope="turn")
    assert found.left_out["rows that are desirable and undesirable"] == 2
    assert {v.side.episode_id for v in found.rows} == {"won", "low"}


def verdict(chat: ChatFormat, desirable: bool, at: int) -> Verdict:
    episode = say(chat, [f"w{at}"], reward=float(desirable), id=str(at))
    side = Side(episode.id, 1.0, episode.completion_ids, episode.mask)
    return Verdict(TASK, 0, episode.prompt_ids, side, desirable)


@pytest.mark.parametrize(("good", "bad"), [(1, 4), (4, 1), (3, 3)])
def test_weights_make_both_kinds_count_alike_within_the_papers_bounds(chat: ChatFormat, good: int, bad: int) -> None:
    rows = [verdict(chat, i < good, i) for i in range(good + bad)]
    desirable, undesirable = balanced_weights(rows)
    assert desirable * good == pytest.approx(undesirable * bad)
    assert min(desirable, undesirable) == 1.0
    assert 1 <= desirable * good / (undesirable * bad) <= 4 / 3


def test_the_digest_tells_rows_orders_and_labels_apart(chat: ChatFormat, pairs: Any) -> None:
    def pair(word: str) -> Sequence[Pair]:
        return pairs(say(chat, ["right"], reward=1.0, id="w"), say(chat, [word], reward=0.0, id="l")).rows

    one, two = pair("wrong"), pair("bad")
    assert digest(one) == digest(pair("wrong"))
    assert len({digest(one), digest(two), digest([*one, *two]), digest([*two, *one])}) == 4
    assert digest([verdict(chat, True, 0)]) != digest([verdict(chat, False, 0)])


def test_a_lost_episode_is_taken_up_where_the_mistake_was_or_where_the_seed_draws(chat: ChatFormat) -> None:
    missed = replace(say(chat, ["look", "wrong", "commit"], reward=0.0, id="m"), model="scripted-near_miss")
    assert fork_turn(missed, seed=0) == 1
    walk = say(chat, [f"go {i}" for i in range(9)], reward=0.0, id="r", task=replace(TASK, env="alfworld"))
    turns = {fork_turn(walk, seed=seed) for seed in range(40)}
    assert turns <= set(range(9))
    assert len(turns) > 4
    assert fork_turn(walk, seed=3) == fork_turn(replace(walk, id="another"), seed=3), "the same in every process"
    for other in (
        replace(missed, reward=1.0),
        say(chat, ["commit"], reward=0.0, id="s"),
        say(chat, ["a", "b"], reward=None, id="d"),
    ):
        assert fork_turn(other, seed=0) is None
