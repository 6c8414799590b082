"""A training recipe: TOML files, dotted overrides, ``--debug``. Its sections are in ``trainer.settings``.

Unknown keys are refused. ``--set grpo.learning_rate=3e-6`` replaces one value (read as TOML, and as
plain text where it is none).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator

from envs.alfworld.shaping import SHAPING_TERMS as ALFWORLD_TERMS
from envs.dbbench.shaping import SHAPING_TERMS as DBBENCH_TERMS
from envs.errors import ConfigError
from trainer.settings import (
    DataSettings,
    DoctorSettings,
    EvalSettings,
    GrpoSettings,
    LoraSettings,
    ModelSettings,
    RolloutSettings,
    RunSettings,
    Section,
    SftSettings,
)

__all__ = ["TrainConfig", "apply_overrides", "load_config", "parse_config"]


class TrainConfig(Section):
    """One recipe."""

    recipe: Literal["grpo", "sft"] = "grpo"
    """What is run: ``envloop train grpo`` takes GRPO recipes, ``envloop train sft`` SFT ones."""
    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    data: DataSettings = DataSettings()
    rollout: RolloutSettings = RolloutSettings()
    grpo: GrpoSettings = GrpoSettings()
    sft: SftSettings = SftSettings()
    eval: EvalSettings = EvalSettings()
    run: RunSettings = RunSettings()
    doctor: DoctorSettings = DoctorSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.recipe == "grpo":
            if self.lora.full:
                raise ValueError("GRPO swaps adapters into the engine: lora.full is for SFT")
            episodes = self.rollout.group_size * self.rollout.groups_per_step
            if episodes % self.grpo.micro_batch:
                raise ValueError(
                    f"grpo.micro_batch ({self.grpo.micro_batch}) must divide groups_per_step x group_size ({episodes})"
                )
            if self.rollout.max_tokens >= self.rollout.max_episode_tokens:
                raise ValueError("rollout.max_tokens (one turn) must be below rollout.max_episode_tokens (an episode)")
            self._check_shaping()
        elif self.sft.effective_batch % self.sft.micro_batch:
            raise ValueError(
                f"sft.effective_batch ({self.sft.effective_batch}) must be a multiple of sft.micro_batch "
                f"({self.sft.micro_batch})"
            )
        return self

    def _check_shaping(self) -> None:
        """A name that nobody reads would change nothing, and nobody would notice."""
        played = {source.env for source in self.data.sources}
        for env, terms in self.rollout.reward_shaping.items():
            if env not in played:
                known = ", ".join(sorted(played))
                raise ValueError(f"rollout.reward_shaping.{env}: no source plays {env!r}; data.sources has {known}")
            told = {"alfworld": ALFWORLD_TERMS, "dbbench": DBBENCH_TERMS}.get(env, ())
            for term in terms:
                if term not in told:
                    known = ", ".join(told) or "none"
                    raise ValueError(f"rollout.reward_shaping.{env}.{term}: {env} has no such term; known: {known}")

    def debugged(self) -> TrainConfig:
        """The same recipe in small: it ends in minutes and touches every part. 10 to 50 episodes."""
        small: dict[str, Any] = {
            "rollout.group_size": min(self.rollout.group_size, 4),
            "rollout.groups_per_step": min(self.rollout.groups_per_step, 3),
            "rollout.max_turns": min(self.rollout.max_turns or 10, 10),
            "rollout.max_tokens": min(self.rollout.max_tokens, 64),
            "grpo.steps": min(self.grpo.steps, 2),
            "grpo.micro_batch": 1,
            "sft.collect": min(self.sft.collect, 12),
            "sft.limit": min(self.sft.limit or 50, 50),
            "sft.steps": min(self.sft.steps or 2, 2),
            "sft.effective_batch": min(self.sft.effective_batch, 4),
            "sft.micro_batch": 1,
            "eval.limit": min(self.eval.limit or 10, 10),
            "run.save_every": 1,
        }
        return _validated(apply_overrides(self.model_dump(), small), "the recipe with --debug")


def apply_overrides(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a nested mapping in which each dotted key has its new value. ConfigError for a path into a value."""
    out = {k: dict(v) if isinstance(v, Mapping) else v for k, v in tree.items()}
    for dotted, value in overrides.items():
        *parents, leaf = dotted.split(".")
        node = out
        for part in parents:
            below = node.setdefault(part, {})
            if not isinstance(below, Mapping):
                raise ConfigError(f"--set {dotted}: {part!r} is a value, not a section")
            node[part] = node = dict(below)
        node[leaf] = value
    return out


def parse_config(tree: Mapping[str, Any], *, where: str = "the configuration") -> TrainConfig:
    """Check a nested mapping. Raises ConfigError that names every wrong key."""
    return _validated(tree, where)


def load_config(path: Path, sets: Sequence[str] = ()) -> TrainConfig:
    """Read a recipe and apply ``key=value`` overrides. Raises ConfigError for a missing or broken file or value."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="name a recipe, such as configs/*.toml"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    return _validated(apply_overrides(tree, dict(_override(text) for text in sets)), str(path))


def _override(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set {text!r} is no key=value", hint="as in --set grpo.learning_rate=3e-6")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _validated(tree: Mapping[str, Any], where: str) -> TrainConfig:
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc']) or 'recipe'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(
            f"{where}: " + "; ".join(lines), hint="every setting is described in trainer/settings/"
        ) from error
