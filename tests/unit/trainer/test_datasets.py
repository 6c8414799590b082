from __future__ import annotations

from dataclasses import replace

import pytest
from trainer_doubles import make_episode

from envs.errors import ConfigError
from envs.types import EpisodeStatus, Task
from rollout_server.chat import ChatFormat
from rollout_server.constraints import Constrain
from rollout_server.episode_store import EpisodeStore
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode, FinishReason, RolloutRequest, TurnConstraint
from trainer.datasets import IGNORED, check_tokenizer, select_episodes, sft_rows
from trainer.settings import SftSettings, TaskSource
from trainer.splits import SplitGuard

TRAIN = Task("alfworld", "generated/3", "generated", "pick", "abc")
SOURCE = TaskSource(env="alfworld", split="generated")


def played(chat: ChatFormat, index: int, *, won: bool = True, task: Task = TRAIN, **more: object) -> Episode:
    made = make_episode(chat, task=task, seed=1, request=RolloutRequest(tasks=()), policy="base", index=index)
    return replace(made, reward=float(won), **more)  # type: ignore[arg-type]


def test_labels_are_the_policys_own_tokens(chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    episode = played(chat, 0)
    rows = sft_rows([episode], tokenizer, max_length=4096, guard=SplitGuard())
    assert rows.input_ids == [[*episode.prompt_ids, *episode.completion_ids]]
    learnt = [i for i in rows.labels[0] if i != IGNORED]
    assert learnt == [i for t in episode.turns for i in t.completion_ids]
    assert rows.labels[0][: len(episode.prompt_ids)] == [IGNORED] * len(episode.prompt_ids)
    assert len(rows.labels[0]) == len(rows.input_ids[0])
    assert rows.tasks == [TRAIN]


def test_long_episodes_are_left_out_and_counted_never_cut(chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    rows = sft_rows([played(chat, 0)], tokenizer, max_length=10, guard=SplitGuard())
    assert (rows.input_ids, dict(rows.left_out)) == ([], {"too long": 1})


def test_limit(chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    episodes = [played(chat, i) for i in range(4)]
    assert len(sft_rows(episodes, tokenizer, max_length=4096, guard=SplitGuard(), limit=3).tasks) == 3


def test_evaluation_episodes_are_refused(chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    task = Task("alfworld", "valid_unseen/1", "valid_unseen", "pick", "abc")
    with pytest.raises(ConfigError, match="evaluation split"):
        sft_rows([played(chat, 0, task=task)], tokenizer, max_length=4096, guard=SplitGuard())
    allowed = SplitGuard(["alfworld/valid_unseen"])
    assert sft_rows([played(chat, 0, task=task)], tokenizer, max_length=4096, guard=allowed).tasks == [task]


def test_another_tokenizers_episode_is_refused(chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    episode = played(chat, 0)
    check_tokenizer(episode, tokenizer)
    first = episode.turns[0]

    def with_first(**more: object) -> Episode:
        return replace(episode, turns=(replace(first, **more), *episode.turns[1:]))  # type: ignore[arg-type]

    shifted = tuple(i + 1 for i in first.completion_ids[:-1])
    for broken in (
        with_first(completion_ids=(*shifted, tokenizer.end_of_turn_id)),
        with_first(completion_ids=(*first.completion_ids[:-1], 5), finish_reason=FinishReason.STOP),
        with_first(completion_ids=(10**6,), logprobs=(0.0,)),
        replace(episode, prompt_ids=tuple(reversed(episode.prompt_ids))),
    ):
        with pytest.raises(ConfigError, match="another tokenizer"):
            check_tokenizer(broken, tokenizer)


HELD = TurnConstraint(Constrain.ADMISSIBLE, "ab" * 32, 9)


def test_selection_by_split_success_engine_type_and_status(chat: ChatFormat) -> None:
    other = Task("alfworld", "generated_easy/1", "generated_easy", "pick", "abc")
    episodes = [
        played(chat, 0),
        played(chat, 1, won=False),
        played(chat, 2, engine="random"),
        played(chat, 3, task=other),
        played(chat, 4, task=replace(TRAIN, type="heat")),
        replace(played(chat, 5), status=EpisodeStatus.INFRASTRUCTURE_ERROR, reward=None),
        replace(played(chat, 6), turns=tuple(replace(turn, constraint=HELD) for turn in played(chat, 6).turns)),
    ]
    with EpisodeStore("sqlite://") as store:
        store.add_many(episodes)

        def chosen(settings: SftSettings, *sources: TaskSource) -> set[str]:
            return {e.id for e in select_episodes(store, settings, sources or [SOURCE])}

        assert chosen(SftSettings()) == {"ep-1-0", "ep-1-2", "ep-1-4"}
        assert chosen(SftSettings(success_only=False)) == {"ep-1-0", "ep-1-1", "ep-1-2", "ep-1-4"}
        assert chosen(SftSettings(engines=("double",))) == {"ep-1-0", "ep-1-4"}
        assert chosen(SftSettings(constrained=True)) == {"ep-1-0", "ep-1-2", "ep-1-4", "ep-1-6"}
        assert chosen(SftSettings(envs=("dbbench",))) == set()
        assert chosen(SftSettings(policies=("run-v1",))) == set()
        assert chosen(SftSettings(), SOURCE.model_copy(update={"types": ("heat",)})) == {"ep-1-4"}
        assert chosen(SftSettings(), TaskSource(env="alfworld", split="generated_easy")) == {"ep-1-3"}
