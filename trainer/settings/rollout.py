"""How episodes are played."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from trainer.settings.base import Section

__all__ = ["RolloutSettings"]


class RolloutSettings(Section):
    """How episodes are played."""

    engine: Literal[
        "vllm",
        "vllm_process",
        "transformers",
        "openai",
        "chat",
        "expert",
        "gold",
        "explorer",
        "repair",
        "near_miss",
        "random",
        "noop",
    ] = "vllm"
    """Who samples, where no server is named. ``vllm_process`` is vLLM in a process of its own that shares the trainer's
    GPU: it sleeps while the trainer works (``engine_options.gpu_memory_utilization`` is its share while it plays)."""
    url: str | None = None
    """A rollout server to use instead of an engine of our own. Its token comes from ``ENVLOOP_TOKEN``."""
    env_url: str | None = None
    """An environment server; None plays the environments inside this process."""
    engine_options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the engine as they are (``gpu_memory_utilization``, ``max_lora_rank``, ``enforce_eager``, …)."""
    env_options: dict[str, Any] = Field(default_factory=dict)
    """Passed to every episode's environment."""
    store: str | None = None
    """Database URL of the episode store; None keeps it in the run's folder."""
    protocol: str = "agentbench_fc"
    """The agent protocol: prompts, tools, parsing and limits."""
    max_turns: int | None = Field(default=None, ge=1, le=1000)
    """Turns of an episode; None takes the protocol's published limit."""
    max_tokens: int = Field(default=512, ge=1, le=32768)
    """New tokens of one turn. Published recipes use 512 to 1024."""
    max_episode_tokens: int = Field(default=4096, ge=64, le=262144)
    """Prompt and completion of a whole episode together: the length of the longest training row."""
    temperature: float = Field(default=1.0, gt=0, le=2.0)
    """Sampling temperature; the trainer scales its own logits by the same value. 0.7 to 1.0 explores and stays sane."""
    group_size: int = Field(default=8, ge=2, le=256)
    """Episodes of one task: what an advantage is measured against."""
    groups_per_step: int = Field(default=8, ge=1, le=4096)
    """Tasks for one optimizer step."""
    concurrency: int = Field(default=64, ge=1, le=4096)
    """Episodes that are played at once."""
    reward_task: float = Field(default=1.0, ge=0, le=100)
    """Weight of the benchmark's own reward."""
    reward_invalid_action: float = Field(default=0.0, ge=0, le=10)
    """Cost of a turn whose action was invalid or missing. A small one gives variance to groups that all fail."""
    reward_shaping: dict[str, dict[str, Annotated[float, Field(ge=-100, le=100)]]] = Field(default_factory=dict)
    """Weights of shaping terms, by environment (``alfworld = {potential = 0.2}``, ``dbbench = {overlap = 0.2}``). The
    terms: ``envs/alfworld/shaping.py``, ``envs/dbbench/shaping.py``. None of it is in an evaluation."""
    reward_shaping_gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount of the shaping potential; 1 where the rewards of an episode are summed, as here."""
    max_dead_fraction: float = Field(default=0.5, gt=0, le=1)
    """Stop when more than this share of a step's episodes failed by infrastructure; below it they are left out."""
    refill: int = Field(default=1, ge=0, le=10)
    """How often an episode that failed by infrastructure is played again."""
    mixed_episodes: Literal["auto", "keep", "drop"] = "auto"
    """Episodes whose policy version was lost in their middle and that another went on with. Each of their tokens has
    the logprob of the version that sampled it: ``auto`` keeps them where ``grpo.importance_sampling`` is on."""
