"""Preference learning: what DPO and KTO share, and what each has of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.settings.base import Section

__all__ = ["DpoSettings", "KtoSettings", "PreferenceSettings"]


class PreferenceSettings(Section):
    """Where winning and losing continuations come from, and how long they are learnt."""

    store: str | None = None
    """Database URL of the episodes; None takes the run's own store."""
    scope: Literal["turn", "episode"] = "turn"
    """What is compared where two episodes of a task part: the one turn there, or everything from there to the end. A
    turn says what was wrong, and only the policy's words are in it; where a mistake shows later, take the episode."""
    compare: Literal["reward", "training_reward"] = "reward"
    """By which reward one episode is better: the benchmark's own, or the sum of the training reward's parts."""
    margin: float = Field(default=1.0, gt=0, le=1000)
    """The least difference of that reward; nearer ones are ties and left out."""
    pairs_per_task: int = Field(default=4, ge=0, le=10_000)
    """At most so many pairs of a task, those that share most of their beginning first; 0 for all."""
    envs: tuple[str, ...] = ()
    """Keep episodes of these environments; empty for all."""
    engines: tuple[str, ...] = ()
    """Keep episodes played by these engines; empty for all."""
    policies: tuple[str, ...] = ()
    """Keep episodes of these policy versions; empty for all."""
    constrained: bool = False
    """Compare episodes whose turns were held to a grammar too: the policy might not have said that by itself."""
    limit: int = Field(default=0, ge=0)
    """Train on at most this many rows; 0 for all."""
    collect: int = Field(default=0, ge=0)
    """First play this many tasks, so that they are won and lost, and add the episodes to the store."""
    worse: Literal["auto", "near_miss", "random", "policy"] = "auto"
    """Who plays to lose. ``near_miss`` loses DB Bench by one mistake, after the looks of somebody careful; ``random``
    takes any action; ``policy`` is the recipe's own engine and model, whose wins count as wins. ``auto``:
    ``near_miss`` in DB Bench, ``random`` elsewhere."""
    worse_plays: int = Field(default=2, ge=1, le=64)
    """How often each task is played so."""
    better: Literal["fork", "expert", "explorer", "repair"] = "fork"
    """Who wins. ``fork``: the expert takes every lost episode up in one of its turns (after ``near_miss`` in that of
    the mistake, else in one that the seed draws) and goes on, so that the two share all that comes before. The others
    play each task once, from its beginning (see ``sft.expert``): with ``scope = "turn"`` mere differences of habit are
    then learnt, so take the episode."""
    thoughts: bool = False
    """Who can says before each action why it takes it. Only where both sides can: else a pair's sides could be told
    apart by that alone."""
    beta: float = Field(default=0.1, gt=0, le=10)
    """How closely the policy is held to the reference: larger is closer. The reference is the policy that training
    begins with: the base model, or with ``lora.init_adapter`` that adapter."""
    learning_rate: float = Field(default=5e-6, gt=0, le=1)
    """Peak learning rate, with a cosine to 0. Recipes keep to 1e-6…2e-5."""
    epochs: float = Field(default=1.0, gt=0, le=100)
    """Passes over the rows."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps instead of epochs."""
    effective_batch: int = Field(default=16, ge=1, le=1024)
    """Rows of an optimizer step; a multiple of ``micro_batch``."""
    micro_batch: int = Field(default=1, ge=1)
    """Rows in one forward and backward pass. A row of DPO is a pair: two sequences, and two more of the reference."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    max_length: int = Field(default=4096, ge=64, le=262144)
    """Longest sequence in tokens. Pairs with a longer side are left out and counted, never cut."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=100)
    """Gradients are clipped to this norm."""

    def loser(self, env: str) -> str:
        """Who plays tasks of an environment to lose."""
        if self.worse == "auto":
            return "near_miss" if env == "dbbench" else "random"
        return self.worse

    def check_players(self, recipe: str, envs: Iterable[str]) -> None:
        """Raise ValueError for players that cannot play these environments, or not so."""
        if not self.collect:
            return
        losers = {env: self.loser(env) for env in envs}
        if strange := sorted(env for env, loser in losers.items() if loser == "near_miss" and env != "dbbench"):
            raise ValueError(f"{recipe}.worse: {strange[0]} has no near misses; dbbench has")
        if self.thoughts and (self.better in ("fork", "expert") or "random" in losers.values()):
            mute = "the expert" if self.better in ("fork", "expert") else "the random player"
            raise ValueError(f"{recipe}.thoughts: {mute} has none, and a pair would differ by them alone")


class DpoSettings(PreferenceSettings):
    """Direct preference optimisation (Rafailov et al. 2023; TRL's DPOTrainer) on pairs from the episode store."""

    loss_type: Literal["sigmoid", "hinge", "ipo", "robust", "apo_zero", "sigmoid_norm"] = "sigmoid"
    """TRL's loss. ``ipo`` and ``sigmoid_norm`` divide by the number of the policy's tokens, so that a long side weighs
    no more than a short one."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """For ``robust``: the share of pairs that are taken to be the wrong way round."""
    sft_weight: float = Field(default=0.0, ge=0, le=10)
    """Weight of a supervised loss on the chosen side beside it. DPO alone may make both sides less likely."""


class KtoSettings(PreferenceSettings):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024; TRL's KTOTrainer): rows that are desirable or not.

    With ``scope = "episode"`` every won episode is a desirable row and every lost one an undesirable row, paired or
    not, at most ``pairs_per_task`` of each for a task; with ``"turn"`` the rows are the turns at which a pair parts.
    """

    micro_batch: int = Field(default=2, ge=2)
    """Rows in one forward and backward pass. The KL term needs at least 2: a prompt with another's answer."""
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    """TRL's loss; ``apo_zero_unpaired`` has no KL term."""
    desirable_weight: float | None = Field(default=None, gt=0, le=100)
    """Weight of desirable rows; None weighs the rarer kind up until both kinds count alike."""
    undesirable_weight: float | None = Field(default=None, gt=0, le=100)
    """Weight of undesirable rows; None as above."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.desirable_weight is None) != (self.undesirable_weight is None):
            raise ValueError("kto.desirable_weight and kto.undesirable_weight: set both, or leave both to the counts")
        return self
