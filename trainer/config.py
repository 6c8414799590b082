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
from trainer.advantages import ORACLE_TERMS
from trainer.settings import (
    CurriculumSettings,
    DataSettings,
    DoctorSettings,
    DpoSettings,
    EvalSettings,
    GrpoSettings,
    KtoSettings,
    LoraSettings,
    ModelSettings,
    OutputSettings,
    PpoSettings,
    PreferenceSettings,
    RolloutSettings,
    RunSettings,
    Section,
    SftSettings,
)

__all__ = ["TrainConfig", "apply_overrides", "load_config", "parse_config"]


class TrainConfig(Section):
    """One recipe."""

    recipe: Literal["grpo", "sft", "dpo", "kto", "ppo"] = "grpo"
    """What is run: ``envloop train grpo`` takes GRPO recipes, ``envloop train sft`` SFT ones, and so on."""
    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    data: DataSettings = DataSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    rollout: RolloutSettings = RolloutSettings()
    grpo: GrpoSettings = GrpoSettings()
    sft: SftSettings = SftSettings()
    dpo: DpoSettings = DpoSettings()
    kto: KtoSettings = KtoSettings()
    ppo: PpoSettings = PpoSettings()
    eval: EvalSettings = EvalSettings()
    run: RunSettings = RunSettings()
    output: OutputSettings = OutputSettings()
    doctor: DoctorSettings = DoctorSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.output.merge and self.lora.full:
            raise ValueError("output.merge: lora.full trains all weights, there is no adapter to merge")
        if self.recipe in ("grpo", "ppo"):
            if self.lora.full:
                raise ValueError("GRPO swaps adapters into the engine: lora.full is for SFT")
            episodes = self.rollout.group_size * self.rollout.groups_per_step
            if episodes % self.grpo.micro_batch:
                raise ValueError(
                    f"grpo.micro_batch ({self.grpo.micro_batch}) must divide groups_per_step x group_size ({episodes})"
                )
            if self.rollout.max_tokens >= self.rollout.max_episode_tokens:
                raise ValueError("rollout.max_tokens (one turn) must be below rollout.max_episode_tokens (an episode)")
            if self.recipe == "ppo" and self.grpo.advantage != "group":
                raise ValueError("grpo.advantage: PPO's advantages are its critic's; leave it at 'group'")
            self._check_shaping()
            self._check_oracle()
            return self
        section = self.sft if self.recipe == "sft" else self.preference
        if section.effective_batch % section.micro_batch:
            raise ValueError(
                f"{self.recipe}.effective_batch ({section.effective_batch}) must be a multiple of "
                f"{self.recipe}.micro_batch ({section.micro_batch})"
            )
        if isinstance(section, PreferenceSettings):
            section.check_players(self.recipe, {source.env for source in self.data.sources})
        return self

    @property
    def preference(self) -> DpoSettings | KtoSettings:
        """The section of a recipe for DPO or KTO."""
        return self.kto if self.recipe == "kto" else self.dpo

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

    def _check_oracle(self) -> None:
        silent = {source.env for source in self.data.sources} - ORACLE_TERMS.keys()
        if self.grpo.advantage == "oracle_potential" and silent:
            raise ValueError(
                f"grpo.advantage = 'oracle_potential': {sorted(silent)[0]!r} tells no potential; "
                f"known: {', '.join(sorted(ORACLE_TERMS))}"
            )

    def debugged(self) -> TrainConfig:
        """The same recipe in small: it ends in minutes and touches every part. 10 to 50 episodes."""
        small: dict[str, Any] = {
            "rollout.group_size": min(self.rollout.group_size, 4),
            "rollout.groups_per_step": min(self.rollout.groups_per_step, 3),
            "rollout.max_turns": min(self.rollout.max_turns or 10, 10),
            "rollout.max_tokens": min(self.rollout.max_tokens, 64),
            "grpo.steps": min(self.grpo.steps, 2),
            "grpo.micro_batch": 1,
            "grpo.further_groups": min(self.grpo.further_groups, 3),
            "sft.collect": min(self.sft.collect, 12),
            "sft.limit": min(self.sft.limit or 50, 50),
            "sft.steps": min(self.sft.steps or 2, 2),
            "sft.effective_batch": min(self.sft.effective_batch, 4),
            "sft.micro_batch": 1,
            **_small_preferences("dpo", self.dpo, micro_batch=1),
            **_small_preferences("kto", self.kto, micro_batch=2),
            "eval.limit": min(self.eval.limit or 10, 10),
            "eval.samples": min(self.eval.samples, 2),
            "eval.every": min(self.eval.every, 1),
            "eval.tasks": min(self.eval.tasks, 4),
            "run.save_every": 1,
        }
        return _validated(apply_overrides(self.model_dump(), small), "the recipe with --debug")


def _small_preferences(name: str, section: PreferenceSettings, *, micro_batch: int) -> dict[str, Any]:
    return {
        f"{name}.collect": min(section.collect, 6),
        f"{name}.limit": min(section.limit or 16, 16),
        f"{name}.steps": min(section.steps or 2, 2),
        f"{name}.effective_batch": 4,
        f"{name}.micro_batch": micro_batch,
    }


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


def load_config(path: Path | None, sets: Sequence[str] = ()) -> TrainConfig:
    """Read a recipe (None: every setting at its default) and apply ``key=value`` overrides. Raises ConfigError for a
    missing or broken file or value."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="name a recipe, such as configs/*.toml"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    return _validated(apply_overrides(tree, dict(_override(text) for text in sets)), str(path or "--set"))


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
