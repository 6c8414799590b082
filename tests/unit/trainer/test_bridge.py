"""The bridge to TRL without TRL: rows, lengths, dead episodes, figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from trainer_doubles import ScriptedRollouts, make_episode

from envs.errors import ConfigError, InfrastructureError
from envs.types import EpisodeStatus, Task
from rollout_server.chat import ChatFormat
from rollout_server.constraints import Constrain
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode, Group, RewardWeights, RolloutRequest, Turn, TurnConstraint
from trainer.batch import Row, batch_metrics, episode_row
from trainer.loops import LoopThread
from trainer.rollouts import RolloutBatch, RolloutBridge, prompt_of, training_reward
from trainer.sampler import TaskSampler
from trainer.settings import TaskSource

TASK = Task("alfworld", "generated/3", "generated", "pick", "abc")
REQUEST = RolloutRequest(tasks=(), group_size=3, rewards=RewardWeights(invalid_action=0.1), seed=5)


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as running:
        yield running


def bridge(
    service: ScriptedRollouts,
    loop: LoopThread,
    seen: list[RolloutBatch] | None = None,
    template: RolloutRequest = REQUEST,
    **more: bool,
) -> RolloutBridge:
    return RolloutBridge(
        service,
        loop,
        sampler=TaskSampler([TaskSource(env="alfworld", split="generated")], seed=1),
        template=template,
        dummy_id=2,
        on_batch=(lambda _: None) if seen is None else seen.append,
        **more,
    )


def prompts(*rows: int, size: int = 3) -> list[str]:
    return [prompt_of(row) for row in rows for _ in range(size)]


def test_answers_one_row_for_each_prompt_with_equal_lengths(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    service, seen = ScriptedRollouts(tokenizer), list[RolloutBatch]()
    out = bridge(service, loop, seen)(prompts(4, 5))
    assert {len(v) for v in out.values()} == {6}
    for ids, mask, logprobs in zip(out["completion_ids"], out["env_mask"], out["logprobs"], strict=True):
        assert len(ids) == len(mask) == len(logprobs)
        assert mask[-1] == 1, "TRL reads the end of an episode off its last token"
    assert out["completion_ids"] == [list(e.completion_ids) for e in service.episodes]
    assert out["env_mask"] == [list(e.mask) for e in service.episodes]
    assert out["prompt_ids"] == [list(e.prompt_ids) for e in service.episodes]
    assert training_reward(training_reward=out["training_reward"]) == [e.training_reward for e in service.episodes]
    assert len(seen) == 1
    assert service.requests[0].policy == "base"


def test_dead_episode_is_one_masked_token_without_a_reward(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    out = bridge(ScriptedRollouts(tokenizer, fail=[(0, 1, 2)]), loop)(prompts(0, 1))
    assert (out["completion_ids"][5], out["env_mask"][5], out["logprobs"][5]) == ([2], [0], [0.0])
    assert out["training_reward"][5] is None
    assert out["status"][5] == "infrastructure_error"
    assert None not in out["training_reward"][:5]


def test_too_many_dead_episodes_stop_the_run(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    fail = [(0, 0, m) for m in range(3)] + [(0, 1, 0)]
    with pytest.raises(InfrastructureError, match=r"4 of 6 episodes.*told to fail"):
        bridge(ScriptedRollouts(tokenizer, fail=fail), loop)(prompts(0, 1))


@pytest.mark.parametrize("wrong", [prompts(0, size=2), prompts(0, 0), ["hello"] * 3, [prompt_of(0), prompt_of(1)] * 3])
def test_anything_but_whole_groups_is_refused(tokenizer: HFTokenizer, loop: LoopThread, wrong: Sequence[str]) -> None:
    with pytest.raises(InfrastructureError, match="TRL asked for prompt"):
        bridge(ScriptedRollouts(tokenizer), loop)(wrong)


def test_partial_groups_are_refused(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    class Short(ScriptedRollouts):
        async def rollouts(self, request: RolloutRequest, **more: object) -> Sequence[Group]:
            groups = await super().rollouts(request)
            return [replace(groups[0], episodes=groups[0].episodes[:2]), *groups[1:]]

    with pytest.raises(InfrastructureError, match=r"2 groups of 3, got groups of \[2, 3\]"):
        bridge(Short(tokenizer), loop)(prompts(0, 1))


def test_the_guard_sees_tasks_before_they_are_trained_on(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    def refuse(task: Task) -> None:
        raise ConfigError(f"no {task.split}")

    refusing = bridge(ScriptedRollouts(tokenizer), loop)
    refusing._check_task = refuse
    with pytest.raises(ConfigError, match="no generated"):
        refusing(prompts(0))


def test_rows_mean_the_same_tasks_and_seeds_in_every_process(tokenizer: HFTokenizer, loop: LoopThread) -> None:
    first, second = ScriptedRollouts(tokenizer), ScriptedRollouts(tokenizer)
    bridge(first, loop)(prompts(0, 1))
    bridge(first, loop)(prompts(2, 3))
    bridge(second, loop)(prompts(2, 3))
    assert first.requests[1] == second.requests[0]
    assert first.requests[0].seed != first.requests[1].seed


def episode(chat: ChatFormat, **more: object) -> Episode:
    return make_episode(chat, task=TASK, seed=1, request=REQUEST, policy="base", index=0, **more)  # type: ignore[arg-type]


def test_constrained_turns_are_not_trained_on_unless_asked_for(
    chat: ChatFormat, tokenizer: HFTokenizer, loop: LoopThread
) -> None:
    free = episode(chat)
    held = replace(free.turns[0], constraint=TurnConstraint(Constrain.ADMISSIBLE, "ab" * 32, 9))
    constrained = replace(free, turns=(held, *free.turns[1:]))
    left_out = row(constrained)
    assert (left_out.reward, left_out.mask, left_out.trained) == (None, (0,), False)
    kept = episode_row(constrained, dummy_id=2, max_tokens=4096, keep_constrained=True)
    assert kept == row(free)
    request = replace(REQUEST, constrain=Constrain.TOOLS)
    with pytest.raises(ConfigError, match="constrained to tools"):
        bridge(ScriptedRollouts(tokenizer), loop, template=request)
    assert bridge(ScriptedRollouts(tokenizer), loop, template=request, keep_constrained=True)


def test_episodes_of_two_versions_are_kept_with_the_logprobs_of_each_or_left_out(chat: ChatFormat) -> None:
    whole = episode(chat)
    mixed = replace(whole, turns=(*whole.turns[:-1], replace(whole.turns[-1], policy="later")))
    assert row(mixed) == row(whole)
    left_out = episode_row(mixed, dummy_id=2, max_tokens=4096, keep_mixed=False)
    assert (left_out.reward, left_out.trained) == (None, False)
    assert episode_row(whole, dummy_id=2, max_tokens=4096, keep_mixed=False).trained
    figures = batch_metrics([Group("g", TASK, (mixed, whole))], wall_s=1.0)
    assert (figures["rollout/mixed"], figures["rollout/constrained"], figures["rollout/played_again"]) == (
        1.0,
        0.0,
        0.0,
    )


def test_given_turns_are_context_and_not_learnt(chat: ChatFormat) -> None:
    whole = episode(chat, turns=2)
    forked = replace(whole, policy="other", turns=(replace(whole.turns[0], given=True), whole.turns[1]))
    assert sum(row(forked).mask) == len(whole.turns[1].completion_ids)
    assert row(forked).completion_ids == row(whole).completion_ids
    lost = replace(forked, turns=(replace(forked.turns[0], steps=()), forked.turns[1]))
    pair = [batch_metrics([Group("g", TASK, (e,))], wall_s=1.0)["rollout/invalid_turns"] for e in (forked, lost)]
    assert pair[0] == pair[1]


def row(of: Episode, max_tokens: int = 4096) -> Row:
    return episode_row(of, dummy_id=2, max_tokens=max_tokens)


def test_tokens_of_the_environment_after_the_last_turn_are_left_out(chat: ChatFormat) -> None:
    played = episode(chat)
    last = played.turns[-1]
    longer = replace(played, turns=(*played.turns[:-1], replace(last, environment_ids=(7, 8))))
    assert row(longer) == row(played)


def test_an_episode_without_a_policy_token_keeps_its_reward_and_trains_nothing(chat: ChatFormat) -> None:
    empty = replace(episode(chat), turns=(), status=EpisodeStatus.TRUNCATED_TOKENS)
    made = row(empty)
    assert (made.mask, made.trained) == ((0,), False)
    assert made.reward == empty.training_reward


def test_lengths_are_checked(chat: ChatFormat) -> None:
    played = episode(chat)
    broken = replace(played.turns[0], logprobs=played.turns[0].logprobs[:-1])
    with pytest.raises(InfrastructureError, match="logprobs"):
        row(replace(played, turns=(broken, *played.turns[1:])))
    with pytest.raises(InfrastructureError, match="more than the 10 asked for"):
        row(played, max_tokens=10)
    with pytest.raises(InfrastructureError, match="reward nan"):
        row(replace(played, reward_parts={"task": float("nan")}))


def test_figures_count_only_scored_episodes(chat: ChatFormat) -> None:
    def with_reward(value: float, **more: object) -> Episode:
        return replace(episode(chat), reward=float(value >= 1), reward_parts={"task": value}, **more)  # type: ignore[arg-type]

    dead = replace(with_reward(1.0), status=EpisodeStatus.INFRASTRUCTURE_ERROR, reward=None)
    mixed = Group("a", TASK, (with_reward(1.0), with_reward(0.0), dead))
    flat = Group("b", TASK, (with_reward(0.0), with_reward(0.0), with_reward(0.0)))
    figures = batch_metrics([mixed, flat], wall_s=2.0)
    assert figures["rollout/success"] == pytest.approx(1 / 5)
    assert figures["rollout/infrastructure_failures"] == 1
    assert figures["rollout/group_reward_std"] == pytest.approx(0.5 * 0.5**0.5)
    assert figures["rollout/groups_without_signal"] == 0.5
    assert figures["status/infrastructure_error"] == 1
    tokens = sum(sum(e.mask) for g in (mixed, flat) for e in g.episodes)
    assert figures["rollout/tokens_per_s"] == tokens / 2.0


def test_invalid_turns_are_those_without_a_valid_action(chat: ChatFormat) -> None:
    played = episode(chat)
    silent: Turn = replace(played.turns[0], steps=())
    group = Group("a", TASK, (replace(played, turns=(silent, *played.turns[1:])),))
    valid = played.turns[1].steps[0].valid
    assert batch_metrics([group], wall_s=1.0)["rollout/invalid_turns"] == (0.5 if valid else 1.0)
