"""Advantages by a critic: generalised advantage estimation over what the policy said (Schulman et al. 2016).

The environment's tokens lie between the policy's and take no time: the value that follows an action is that of the
policy's next one, however long the environment spoke. An episode ends with its last action, whatever ended it.
"""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["action_starts", "gae", "spread", "whitened"]

type _Tensor = Any
"""A torch tensor; torch is imported where it is used."""


def action_starts(mask: _Tensor, level: Literal["token", "turn"]) -> _Tensor:
    """1 where an action begins, of shape (B, T) as ``mask``: at every token of the policy, or at the first of each run
    of them (a turn; the environment always speaks between two)."""
    mask = mask.bool()
    if level == "token":
        return mask
    before = mask.roll(1, dims=1)
    before[:, 0] = False
    return mask & ~before


def gae(values: _Tensor, rewards: _Tensor, starts: _Tensor, *, gamma: float, lam: float) -> tuple[_Tensor, _Tensor]:
    """Advantages and returns at the starts of actions, 0 elsewhere; each of shape (B, T).

    Args:
        values: the critic's value of the state before each token, (B, T); only those at starts are read.
        rewards: the training reward of each episode, (B,); given for its last action. Rows without a start have none.
        starts: where actions begin, (B, T).
        gamma: discount from an action to the next.
        lam: GAE's lambda.

    ``returns = advantages + values``, the critic's targets.
    """
    import torch

    starts = starts.bool()
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(rewards)  # value of the next action; 0 after the last
    carried = torch.zeros_like(rewards)  # advantage of the next action
    last = torch.ones_like(rewards, dtype=torch.bool)
    for t in range(values.shape[1] - 1, -1, -1):
        here = starts[:, t]
        reward = torch.where(last, rewards, torch.zeros_like(rewards))
        delta = reward + gamma * following - values[:, t]
        advantage = delta + gamma * lam * carried
        advantages[:, t] = torch.where(here, advantage, advantages[:, t])
        following = torch.where(here, values[:, t], following)
        carried = torch.where(here, advantage, carried)
        last = last & ~here
    return advantages, torch.where(starts, advantages + values, torch.zeros_like(values))


def spread(advantages: _Tensor, starts: _Tensor, mask: _Tensor) -> _Tensor:
    """Every token of the policy gets the advantage of its action, (B, T); other tokens get 0."""
    import torch

    index = torch.arange(starts.shape[1], device=starts.device).expand_as(starts)
    begun = torch.where(starts.bool(), index, torch.zeros_like(index)).cummax(dim=1).values
    return advantages.gather(1, begun) * mask.to(advantages.dtype)


def whitened(advantages: _Tensor, mask: _Tensor) -> _Tensor:
    """Advantages with mean 0 and standard deviation 1 over the policy's tokens; 0 elsewhere."""
    kept = advantages[mask.bool()]
    if kept.numel() < 2:
        return advantages
    scaled = (advantages - kept.mean()) / (kept.std() + 1e-8)
    return scaled * mask.to(advantages.dtype)
