"""Where a figure becomes a finding. Each value says why; a test or a benchmark may try others."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Thresholds"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Bounds of the checks. Shares are in [0, 1], tokens are counts, KL and entropy are in nats a token.

    Nothing is judged by one step: "for a window" means that ``persistence`` of the last ``window`` steps are beyond the
    bound.
    """

    window: int = 10
    """Steps of a window. Medians over ten steps of 32 to 64 episodes are steady; shorter runs would never be told."""
    persistence: float = 0.8
    """Share of a window's steps that must be beyond a bound."""
    z: float = 4.0
    """Robust standard errors by which two windows must differ. With some twenty checks looking forty times a run, 3
    would cry wolf every few runs."""

    flat_groups: float = 0.9
    """Share of groups without variance. At a success rate of 5 % and groups of 8 two thirds have none and the rest
    still teaches; above nine in ten nearly every rollout is wasted."""
    solved: float = 0.9
    """Success above which flat groups and low entropy are what one expects of a policy that has learnt its tasks."""
    hacking_steps: int = 30
    """Steps over which reward must have risen without success: shaping may well rise first for a while."""
    hacking_gain: float = 0.05
    """Least rise of the reward (benchmark's own: 0 to 1) that is worth a word."""
    starving_episodes: int = 40
    """Episodes of a type in the window of ``starving_steps`` before its success is judged."""
    starving_steps: int = 30
    starving_ratio: float = 0.2
    """A type starves where the upper end of its success's 95 % interval is below this share of the others' success."""
    group_correlation: float = 0.3
    """How alike the outcomes of one group are: n episodes of a task tell as much as n / (1 + 0.3 (size - 1)) of as many
    tasks would."""
    starving_overall: float = 0.2
    """Success of the others below which nothing is said: all types are hard then."""

    starving_chance: float = 1e-5
    """Chance of so few tasks of a type below which the draw was not the same as before: a dozen types are looked at
    some forty times a run."""

    kl_level: float = 1.0
    """KL to the reference at which hardly anything of the reference is left. Published runs end at 0.01 to 0.3."""
    kl_growing: float = 0.15
    """KL above which growth by ``kl_factor`` in 20 steps is a run-away and no early learning."""
    kl_factor: float = 3.0
    entropy_ratio: float = 0.2
    """Entropy against the run's first window. Healthy runs end at a third to two thirds of it."""
    entropy_gone: float = 0.05
    """The same, for a critical finding."""
    clipped: float = 0.1
    """Share of tokens whose ratio was clipped. On policy it is 0, with a few updates a batch 0.001 to 0.03."""
    clipped_badly: float = 0.3
    mismatch_logp: float = 0.08
    """Mean |difference| of logprobs between engine and trainer, in nats. bfloat16 kernels differ by 0.005 to 0.03."""
    mismatch_kl: float = 0.01
    """KL(engine || trainer) a token; healthy engines show 1e-4 to 2e-3."""
    mismatch_badly: float = 10.0
    """So many times the two bounds above is critical (four times for the logprobs)."""
    policy_lag: float = 2.0
    """Versions between sampling and training. 0 in the loop; one is the most that an overlap of the two gives."""

    grad_factor: float = 3.0
    """Growth of the gradient's norm that counts as a sign of too high a learning rate."""
    entropy_factor: float = 2.0
    """Growth of the entropy that counts as one."""
    lr_grpo: float = 1e-4
    """Learning rate that counts as one by itself; GRPO recipes with LoRA keep to 1e-6…2e-5."""
    lr_sft: float = 1e-3
    """The same for SFT."""
    lr_preference: float = 5e-5
    """The same for DPO and KTO, whose recipes keep to 5e-7…5e-6."""
    spike_factor: float = 8.0
    """A gradient norm against the median of the 20 before it. Norms are log-normal: 3 is an ordinary step."""
    spikes: int = 3
    """So many spikes in 50 steps are no accident."""
    divergence: float = 0.25
    """Rise of the loss over its best window, as a share of it."""

    length_factor: float = 2.0
    """Growth of the tokens of a turn (or of an episode) since the first window."""
    length_badly: float = 4.0
    length_tokens: float = 20.0
    """Least growth in tokens: from 4 to 9 tokens a turn is no explosion."""
    truncated: float = 0.25
    """Share of episodes that ran out of tokens."""
    truncated_badly: float = 0.5
    truncated_rise: float = 0.25
    """Rise of the share that any limit ended. Turn limits alone end most episodes of a policy that cannot win yet."""
    invalid: float = 0.3
    """Share of turns without a valid action, where it does not fall."""
    invalid_badly: float = 0.7
    repeated: float = 0.3
    """Share of episodes that go round in circles, where it does not fall."""
    repeated_badly: float = 0.7
    rise: float = 0.2
    """Rise of either share since the first window."""

    failures: float = 0.1
    """Share of episodes that the machinery lost. Below it they are left out and played again without harm."""
    failures_badly: float = 0.3
    stopped_s: float = 900.0
    """Seconds of silence after which an unfinished log counts as stopped, or 20 of its steps where that is longer."""
    eval_z: float = 3.0
    """Standard errors by which evaluation must have fallen from its best pair of evaluations to its last."""
    eval_loss_rise: float = 0.05
    """Rise of the evaluation loss over its least, as a share of it, held for two evaluations."""
    margin: float = 15.0
    """Reward margin of DPO or KTO: the odds of exp(15) that it states are no preference any more."""
    stuck_steps: int = 50
    """Steps before preference accuracy at chance counts as stuck."""
    stuck_band: float = 0.04
    """Distance from 0.5 within which the accuracy is at chance."""
