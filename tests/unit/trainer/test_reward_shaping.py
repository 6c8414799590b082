"""A recipe's shaping terms: weights for training rollouts, nothing of them in an evaluation."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest

from envs.errors import ConfigError
from rollout_server.types import Episode, RewardWeights
from trainer.config import parse_config
from trainer.evaluate import play_split
from trainer.grpo import rollout_template

RECIPE = """
[rollout]
engine = "expert"
reward_shaping_gamma = 0.95
reward_shaping.alfworld = {potential = 0.2, step_cost = 0.01}
[eval]
limit = 1
"""


def test_a_recipe_names_terms_and_weights() -> None:
    config = parse_config(tomllib.loads(RECIPE))
    terms = {"potential": 0.2, "step_cost": 0.01}
    assert rollout_template(config).rewards == RewardWeights(shaping={"alfworld": terms}, shaping_gamma=0.95)
    assert rollout_template(parse_config({})).rewards == RewardWeights()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("reward_shaping = {potential = 0.2}", "rollout.reward_shaping.potential"),
        ("reward_shaping.alfworld = {potential = nan}", "rollout.reward_shaping.alfworld.potential"),
        ("reward_shaping_gamma = 1.5", "rollout.reward_shaping_gamma"),
        ("reward_shaping.alfwrld = {potential = 0.2}", "no source plays 'alfwrld'; data.sources has alfworld"),
        ("reward_shaping.alfworld = {potentail = 0.2}", "alfworld has no such term; known: potential, subgoals"),
    ],
)
def test_a_wrong_weight_is_refused_by_name(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(tomllib.loads(f"[rollout]\n{line}"))


def shaped(env: str, term: str) -> str:
    return f'[[data.sources]]\nenv = "{env}"\nsplit = "generated"\n[rollout]\nreward_shaping.{env} = {{{term} = 1}}'


@pytest.mark.parametrize(("env", "known"), [("dbbench", "executable, right_table, overlap"), ("other", "none")])
def test_a_term_of_another_environment_is_refused(env: str, known: str) -> None:
    with pytest.raises(ConfigError, match=f"{env} has no such term; known: {known}"):
        parse_config(tomllib.loads(shaped(env, "potential")))


def test_the_terms_of_a_database_are_known() -> None:
    config = parse_config(tomllib.loads(shaped("dbbench", "overlap")))
    assert rollout_template(config).rewards.shaping == {"dbbench": {"overlap": 1.0}}


def test_its_evaluation_is_played_and_scored_without_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment would refuse them: an evaluation that asked could not be played at all."""
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    config = parse_config(tomllib.loads(RECIPE) | {"run": {"output_dir": str(tmp_path)}})
    played: list[Episode] = []
    work = play_split(config, "alfworld", "generated_easy_eval", with_model=False, on_episode=played.append)
    report = asyncio.run(work)
    assert report.score == 1.0
    (episode,) = played
    assert not any(name.startswith("shaping") for name in (*episode.options, *episode.reward_parts))
    assert not any(step.shaping for step in episode.steps)
