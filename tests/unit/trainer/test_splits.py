from __future__ import annotations

import pytest

from envs.errors import ConfigError
from envs.registry import default_registry
from envs.types import Split, SplitRole, Task
from trainer.settings import TaskSource
from trainer.splits import KNOWN_SPLITS, SplitGuard

EVALUATION = [
    ("alfworld", "valid_seen"),
    ("alfworld", "valid_unseen"),
    ("alfworld", "generated_eval"),
    ("dbbench", "dev"),
]


@pytest.mark.parametrize(("env", "split"), EVALUATION)
def test_evaluation_splits_are_refused_unless_named(env: str, split: str) -> None:
    source = [TaskSource(env=env, split=split)]
    with pytest.raises(ConfigError, match="--allow-eval-split"):
        SplitGuard().check_sources(source)
    with pytest.raises(ConfigError):
        SplitGuard(["alfworld/train", f"other/{split}"]).check_sources(source)
    SplitGuard([f"{env}/{split}"]).check_sources(source)
    SplitGuard([split]).check_sources(source)


def test_training_splits_pass_and_unknown_ones_do_not() -> None:
    SplitGuard().check("alfworld", "train")
    SplitGuard().check("alfworld", "generated")
    with pytest.raises(ConfigError):
        SplitGuard().check("alfworld", "my_games")
    SplitGuard(splits=[Split("alfworld", "my_games", SplitRole.TRAIN, 3)]).check("alfworld", "my_games")


def test_the_stricter_answer_holds() -> None:
    told_train = Split("alfworld", "valid_unseen", SplitRole.TRAIN, 134)
    told_evaluation = Split("alfworld", "train", SplitRole.EVALUATION, 3553)
    guard = SplitGuard(splits=[told_train, told_evaluation])
    for split in ("valid_unseen", "train"):
        with pytest.raises(ConfigError):
            guard.check("alfworld", split)


def test_a_task_that_hides_its_split_is_refused() -> None:
    honest = Task("alfworld", "train/a", "train", "pick", "0")
    SplitGuard().check_task(honest)
    with pytest.raises(ConfigError, match="valid_unseen/a"):
        SplitGuard().check_task(Task("alfworld", "valid_unseen/a", "train", "pick", "0"))
    with pytest.raises(ConfigError, match="evaluation split"):
        SplitGuard().check_task(Task("alfworld", "valid_unseen/a", "valid_unseen", "pick", "0"))


@pytest.mark.parametrize("env", sorted(KNOWN_SPLITS))
def test_known_roles_are_those_of_the_environments(env: str) -> None:
    family = default_registry().make(env)
    try:
        told = {s.name: s.role for s in family.splits()}
    finally:
        family.close()
    assert told.items() <= KNOWN_SPLITS[env].items()
