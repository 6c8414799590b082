"""Episodes as training rows, and the figures of a batch. Pure functions, no library of training."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from envs.errors import InfrastructureError
from rollout_server.types import Episode, EpisodeStatus, Group, Turn

__all__ = ["Row", "batch_metrics", "episode_row", "invalid_turn", "repeats"]

_TRUNCATED = (EpisodeStatus.TRUNCATED_TURNS, EpisodeStatus.TRUNCATED_TOKENS)


@dataclass(frozen=True, slots=True)
class Row:
    """What the trainer sees of one episode.

    ``completion_ids``, ``mask`` and ``logprobs`` have one length, at least 1. ``reward`` None leaves the row out of its
    group's baseline; its ``mask`` is then all 0.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    reward: float | None
    trained: bool

    def __post_init__(self) -> None:
        lengths = {len(self.completion_ids), len(self.mask), len(self.logprobs)}
        if len(lengths) != 1 or not self.completion_ids or not self.prompt_ids:
            raise InfrastructureError(
                f"a row of {len(self.prompt_ids)} prompt and {len(self.completion_ids)} completion ids has "
                f"{len(self.mask)} mask entries and {len(self.logprobs)} logprobs",
                hint="the rollout server and this trainer disagree on the record of an episode",
            )

    def without_tokens(self, dummy_id: int) -> Row:
        """The same episode with nothing to learn from it: one token with mask 0, its reward as it was."""
        return Row(self.prompt_ids, (dummy_id,), (0,), (0.0,), self.reward, trained=False)


def episode_row(
    episode: Episode, *, dummy_id: int, max_tokens: int, keep_mixed: bool = True, keep_constrained: bool = False
) -> Row:
    """An episode's tokens exactly as they were sampled, or a dummy for one without result or without a policy token.

    TRL needs a non-empty completion for every row, so a dead episode becomes one ``dummy_id`` with mask 0. Tokens of
    the environment after the last policy token are left out: nothing is learnt from them, and TRL reads an episode's
    end off its last token.

    ``keep_mixed``: train on episodes of more than one policy version too. Their logprobs are those of the version that
    sampled each token, so a correction by importance weights of tokens holds for them; without it leave them out.
    ``keep_constrained``: train on episodes whose turns were held to a grammar: their logprobs are those of the
    constrained distribution, which no weights of the policy have, and which the correction takes for the policy's own.
    An episode of an engine that tells texts alone is left out always: its ids are nobody's.

    Raises InfrastructureError where lengths disagree or the episode is longer than
    ``max_tokens``.
    """
    left_out = (episode.mixed and not keep_mixed) or (episode.constrained and not keep_constrained)
    left_out = left_out or episode.text_only
    reward = None if left_out else episode.training_reward
    if reward is not None and not math.isfinite(reward):
        raise InfrastructureError(
            f"episode {episode.id} has the reward {reward}", hint="check the environment's scoring"
        )
    ids, mask, logprobs = episode.completion_ids, episode.mask, episode.logprobs
    last = max((i for i, m in enumerate(mask) if m), default=-1) + 1
    if reward is None or not last:
        return Row(episode.prompt_ids or (dummy_id,), (dummy_id,), (0,), (0.0,), reward, trained=False)
    total = len(episode.prompt_ids) + len(ids)
    if total > max_tokens:
        raise InfrastructureError(
            f"episode {episode.id} has {total} tokens, more than the {max_tokens} asked for",
            hint="the rollout server did not keep to max_episode_tokens",
        )
    if len(ids) == len(mask) == len(logprobs):
        ids, mask, logprobs = ids[:last], mask[:last], logprobs[:last]
    return Row(episode.prompt_ids, ids, mask, logprobs, reward, trained=True)


def invalid_turn(turn: Turn) -> bool:
    """Whether a turn held no action or one that the environment could not act on."""
    return not turn.steps or any(not step.valid for step in turn.steps)


def batch_metrics(
    groups: Sequence[Group], *, wall_s: float, policy: str | None = None, updates: int = 0
) -> dict[str, float]:
    """The figures of a batch, by the names that reports use.

    Means are over scored episodes; infrastructure failures are counted apart. ``group_reward_std`` is the mean over
    groups of the standard deviation of the training reward; ``groups_without_signal`` the share where it is 0.
    ``truncated``: the share that a limit on tokens, turns or context ended. ``repeated``: the share that a rule on
    repetition ended, or whose last three turns do the same. ``turn_tokens``: sampled tokens of a turn.
    ``success/ENV/TYPE`` and ``episodes/ENV/TYPE``: by task type.

    ``policy`` is the newest published version and ``updates`` the optimizer steps since it was published, beyond the
    one
    that it carries: ``policy_lag`` is how many versions, on average, the weights of a turn are behind the trainer's.
    """
    episodes = [e for g in groups for e in g.episodes]
    scored = [e for e in episodes if e.status.scored]
    turns = [t for e in scored for t in e.turns if not t.given]
    policy_tokens = sum(sum(e.mask) for e in episodes)
    out = {
        "rollout/episodes": float(len(episodes)),
        "rollout/infrastructure_failures": float(len(episodes) - len(scored)),
        "rollout/played_again": float(sum(g.refilled for g in groups)),
        "rollout/mixed": float(sum(e.mixed for e in episodes)),
        "rollout/constrained": float(sum(e.constrained for e in episodes)),
        "rollout/policy_tokens": float(policy_tokens),
        "rollout/environment_tokens": float(sum(len(e.mask) for e in episodes) - policy_tokens),
        "rollout/seconds": wall_s,
        "rollout/tokens_per_s": policy_tokens / wall_s if wall_s > 0 else 0.0,
    }
    for status, count in sorted(Counter(e.status for e in episodes).items()):
        out[f"status/{status.value}"] = float(count)
    if scored:
        out["rollout/success"] = fmean(e.success for e in scored)
        out["rollout/turns"] = fmean(len(e.turns) for e in scored)
        out["rollout/reward"] = fmean(e.training_reward or 0.0 for e in scored)
        out["rollout/truncated"] = fmean(e.status in _TRUNCATED for e in scored)
        out["rollout/repeated"] = fmean(repeats(e) for e in scored)
        for part in sorted({name for e in scored for name in e.reward_parts}):
            out[f"reward_part/{part}"] = fmean(e.reward_parts.get(part, 0.0) for e in scored)
        for kind in sorted({f"{e.env}/{e.task.type}" for e in scored}):
            wins = [e.success for e in scored if f"{e.env}/{e.task.type}" == kind]
            out[f"episodes/{kind}"] = float(len(wins))
            out[f"success/{kind}"] = fmean(wins)
    if turns:
        out["rollout/invalid_turns"] = fmean(invalid_turn(t) for t in turns)
        out["rollout/turn_tokens"] = fmean(len(t.completion_ids) for t in turns)
        if policy is not None:
            newest = _version(policy)
            out["rollout/policy_lag"] = updates + fmean(max(0, newest - _version(t.policy)) for t in turns)
    deviations = [_std(r) for g in groups if len(r := [e.training_reward for e in g.episodes if e.status.scored]) > 1]
    if deviations:
        out["rollout/group_reward_std"] = fmean(deviations)
        out["rollout/groups_without_signal"] = fmean(d < 1e-9 for d in deviations)
    return out


def repeats(episode: Episode) -> bool:
    """Whether a rule on repetition ended the episode, or its last three turns did, or said, one and the same thing."""
    if episode.status is EpisodeStatus.REPETITION:
        return True
    last = [t for t in episode.turns if not t.given][-3:]
    done = [[(s.action.name, dict(s.action.arguments)) for s in t.steps] or t.text.strip() for t in last]
    return len(done) == 3 and done[0] == done[1] == done[2]


def _version(policy: str) -> int:
    """The number in a policy's name (``NAME-v3``); 0 for the base model and a name without one."""
    match = re.search(r"-v(\d+)$", policy)
    return int(match[1]) if match else 0


def _std(rewards: Sequence[float | None]) -> float:
    values = [r for r in rewards if r is not None]
    mean = fmean(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
