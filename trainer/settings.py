"""The sections of a recipe: every setting documented in place, with its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "LORA_TARGETS",
    "DataSettings",
    "EvalSettings",
    "GrpoSettings",
    "LoraSettings",
    "ModelSettings",
    "RolloutSettings",
    "RunSettings",
    "Section",
    "SftSettings",
    "TaskSource",
]

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear layer of a block in Qwen2, Qwen3 and Llama; never embeddings or head: vLLM does not load those."""


class Section(BaseModel):
    """A part of a recipe: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelSettings(Section):
    """Which model is trained and how it is held in memory."""

    name: str = "Qwen/Qwen2.5-7B-Instruct"
    """A model's name on the Hugging Face hub, a folder, or ``smollm2`` for the model of the ``demo`` extra."""
    revision: str | None = None
    """The commit or tag of the model on the hub; None takes its newest."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Precision of the base weights and of the engine beside them; LoRA weights are always float32. ``auto`` takes what
    the device computes fast: bfloat16, or where it has none float16 on a GPU (a T4) and float32 on a CPU (most)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the trainer's copy of the model lives; ``auto`` takes CUDA where there is one."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """The attention kernel; ``auto`` leaves the choice to transformers."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: about a third slower, a fraction of the memory."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """Threads of torch on CPU; None leaves torch's default. Leave cores to the engine that plays beside it."""


class LoraSettings(Section):
    """The adapter that is trained (PEFT)."""

    r: int = Field(default=64, ge=1, le=512)
    """Rank. The engine must accept it (``max_lora_rank`` of vLLM)."""
    alpha: int = Field(default=128, ge=1, le=2048)
    """Scale: an update counts ``alpha / r`` times."""
    dropout: float = Field(default=0.0, ge=0.0, le=0.5)
    """Dropout on the adapter's input. Keep 0 for GRPO: a policy that drops out is not the one that was sampled from."""
    targets: tuple[str, ...] = LORA_TARGETS
    """Names of the linear layers that carry an adapter."""
    init_adapter: Path | None = None
    """Go on from this adapter (of an SFT run, say) instead of a new one."""
    full: bool = False
    """Train every weight and no adapter. Only for SFT: GRPO swaps adapters into the engine."""
    qlora: bool = False
    """Hold the base weights in 4 bits (bitsandbytes NF4, CUDA only)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.full and (self.qlora or self.init_adapter):
            raise ValueError("lora.full trains no adapter: leave lora.qlora and lora.init_adapter out")
        if not self.targets:
            raise ValueError("lora.targets is empty: name at least one layer")
        if bad := sorted({"lm_head", "embed_tokens"} & set(self.targets)):
            raise ValueError(f"lora.targets names {bad}: the engine loads adapters of a block's linear layers only")
        return self


class TaskSource(Section):
    """Tasks of one environment: a share of the mixture."""

    env: str
    """The environment (``alfworld``, ``dbbench``)."""
    split: str
    """The split that tasks are drawn from."""
    types: tuple[str, ...] = ()
    """Only tasks of these types, in equal shares; empty for all."""
    task_ids: tuple[str, ...] = ()
    """Draw from these tasks alone; their ids begin with ``split``."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """How often tasks come from here, relative to the other sources."""
    seed_start: int = Field(default=0, ge=0)
    """First sampler seed that may be drawn."""
    seed_stop: int = Field(default=1_000_000, ge=1)
    """Sampler seeds below this may be drawn."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.seed_stop <= self.seed_start:
            raise ValueError(f"seed_stop ({self.seed_stop}) must be above seed_start ({self.seed_start})")
        if stray := [t for t in self.task_ids if t.split("/", 1)[0] != self.split]:
            raise ValueError(f"task {stray[0]!r} is not of split {self.split!r}: ids begin with their split")
        return self


class DataSettings(Section):
    """What is trained on."""

    sources: tuple[TaskSource, ...] = (TaskSource(env="alfworld", split="generated"),)
    """The mixture of tasks."""
    allow_eval_split: tuple[str, ...] = ()
    """Evaluation splits that may be trained on all the same, by name (``alfworld/valid_unseen``). Such a run cannot
    report a score on them; its record says so."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.sources:
            raise ValueError("data.sources is empty: name at least one environment and split")
        return self


class RolloutSettings(Section):
    """How episodes are played."""

    engine: Literal[
        "vllm", "transformers", "openai", "expert", "gold", "explorer", "repair", "near_miss", "random", "noop"
    ] = "vllm"
    """Who samples, when rollouts run inside the trainer's process."""
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


class GrpoSettings(Section):
    """Group-relative policy optimisation (Shao et al. 2024, DeepSeekMath; TRL's GRPOTrainer)."""

    steps: int = Field(default=200, ge=1)
    """Optimizer steps; each plays ``rollout.groups_per_step`` new groups."""
    learning_rate: float = Field(default=2e-6, gt=0, le=1)
    """Peak learning rate. Recipes keep to 1e-6…5e-6; tests and swap checks go far above."""
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant_with_warmup"
    """How the learning rate moves."""
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    beta: float = Field(default=0.01, ge=0, le=0.1)
    """Weight of the KL term towards the base model; 0 leaves the term, and its forward pass, out."""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """TRL's loss. ``dapo`` weighs every policy token alike, whatever its episode's length. ``dr_grpo`` divides by
    ``rollout.max_episode_tokens``."""
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    """Lower and, without ``epsilon_high``, upper clip of the probability ratio."""
    epsilon_high: float | None = Field(default=0.28, gt=0, le=10)
    """Upper clip (DAPO's clip-higher); None equals ``epsilon``."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """By whose standard deviation advantages are divided."""
    iterations: int = Field(default=1, ge=1, le=16)
    """Optimizer steps on each batch of episodes."""
    micro_batch: int = Field(default=1, ge=1)
    """Episodes in one forward and backward pass; must divide groups_per_step x group_size."""
    max_grad_norm: float = Field(default=0.2, gt=0, le=100)
    """Gradients are clipped to this norm."""
    importance_sampling: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "off"] = (
        "token_truncate"
    )
    """Correction for the engine's probabilities against the trainer's. Sequence modes drop long episodes for mere
    noise: 0.03 a token would mask 20 % of 2000-token episodes."""
    importance_clip: float = Field(default=3.0, gt=1, le=100)
    """Largest weight that the correction gives."""


class SftSettings(Section):
    """Supervised fine-tuning on stored episodes, with the tokens and masks as they were played."""

    store: str | None = None
    """Database URL of the episodes; None takes the run's own store."""
    success_only: bool = True
    """Keep episodes that the benchmark counts as solved."""
    envs: tuple[str, ...] = ()
    """Keep episodes of these environments; empty for all."""
    engines: tuple[str, ...] = ()
    """Keep episodes played by these engines; empty for all."""
    policies: tuple[str, ...] = ()
    """Keep episodes of these policy versions; empty for all."""
    collect: int = Field(default=0, ge=0)
    """First play this many tasks with the expert (the scripted engine) and add them to the store."""
    expert: Literal["expert", "explorer", "repair"] = "expert"
    """Who plays them. ``expert`` knows everything and takes the shortest way. ``explorer`` looks around as a policy has
    to: in ALFWorld it knows what a policy sees; in DB Bench it looks at tables and rows before the gold statement.
    ``repair`` writes a wrong statement first, reads the error and corrects it; in ALFWorld it is the explorer."""
    thoughts: bool = False
    """The explorer, or who repairs, says before each action why it takes it."""
    constrained: bool = False
    """Learn from episodes whose turns were held to a grammar too: the policy might not have said that by itself."""
    limit: int = Field(default=0, ge=0)
    """Train on at most this many episodes; 0 for all."""
    learning_rate: float = Field(default=5e-5, gt=0, le=1)
    """Peak learning rate, with a cosine to 0. Recipes keep to 2e-5…1e-4."""
    epochs: float = Field(default=2.0, gt=0, le=100)
    """Passes over the episodes."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps instead of epochs."""
    effective_batch: int = Field(default=16, ge=1, le=1024)
    """Episodes of an optimizer step; a multiple of ``micro_batch``."""
    micro_batch: int = Field(default=1, ge=1)
    """Episodes in one forward and backward pass."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    max_length: int = Field(default=4096, ge=64, le=262144)
    """Longest row in tokens. Longer episodes are left out and counted, never cut: a cut episode has lost its answer."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=100)
    """Gradients are clipped to this norm."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.thoughts and self.expert == "expert":
            raise ValueError("sft.thoughts: the expert has none; set sft.expert to explorer or repair")
        return self


class EvalSettings(Section):
    """How an evaluation is played."""

    temperature: float = Field(default=0.0, ge=0, le=2.0)
    """Sampling temperature; 0 is greedy, as AgentBench plays."""
    max_episode_tokens: int | None = Field(default=None, ge=64, le=262144)
    """Prompt and completion of a whole episode; None takes the model's context length, at most 16384."""
    limit: int = Field(default=0, ge=0)
    """Play at most this many tasks; 0 for the whole split."""


class RunSettings(Section):
    """Where a run writes and what it reports."""

    name: str | None = None
    """Prefix of its policy versions (``NAME-v3``); None takes the name of ``output_dir``."""
    output_dir: Path = Path("runs/default")
    """Folder of checkpoints, adapters, metrics and records."""
    seed: int = Field(default=0, ge=0)
    """Seeds tasks, sampling, weights and batch order."""
    save_every: int = Field(default=10, ge=1)
    """Steps between checkpoints; the last step is always saved."""
    keep_checkpoints: int = Field(default=3, ge=1)
    """How many checkpoints stay on disk."""
    keep_policies: int = Field(default=4, ge=2)
    """How many published adapters stay on disk. At least 2: episodes under way still sample from the last but one."""
    resume: bool | Path = False
    """Go on from the newest checkpoint where there is one (true), or from this one."""
    report_to: tuple[Literal["console", "jsonl", "tensorboard", "wandb"], ...] = ("console", "jsonl")
    """Where metrics go."""

    @property
    def policy_prefix(self) -> str:
        """The name in front of ``-v1``, ``-v2``, …"""
        return self.name or self.output_dir.name
