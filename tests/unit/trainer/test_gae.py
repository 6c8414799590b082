"""Advantages by a critic: by hand, against the sum that defines them, and a critic that learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import ConfigError
from trainer.critic import Critic
from trainer.gae import action_starts, gae, spread, whitened
from trainer.settings import PpoSettings

#                      policy, environment, policy, padding
MASK = torch.tensor([[1, 1, 0, 0, 1, 0], [1, 0, 1, 1, 1, 1]])
VALUES = torch.tensor([[0.5, 0.4, 9.0, 9.0, 0.2, 9.0], [0.1, 9.0, 0.3, 0.6, 0.9, 0.8]])
REWARDS = torch.tensor([1.0, 0.0])


def test_actions_are_tokens_or_turns() -> None:
    assert action_starts(MASK, "token").int().tolist() == MASK.tolist()
    assert action_starts(MASK, "turn").int().tolist() == [[1, 0, 0, 0, 1, 0], [1, 0, 1, 0, 0, 0]]


def test_gae_by_hand() -> None:
    starts = action_starts(MASK, "token")
    advantages, returns = gae(VALUES, REWARDS, starts, gamma=0.9, lam=0.5)
    # Row 0: tokens 0, 1 and, after the environment spoke, 4; its reward of 1 comes with token 4.
    third = 1.0 - 0.2
    second = (0.9 * 0.2 - 0.4) + 0.9 * 0.5 * third
    first = (0.9 * 0.4 - 0.5) + 0.9 * 0.5 * second
    assert advantages[0].tolist() == pytest.approx([first, second, 0, 0, third, 0])
    assert returns[0].tolist() == pytest.approx([first + 0.5, second + 0.4, 0, 0, 1.0, 0])


def test_by_turn_one_advantage_for_all_tokens_of_a_turn() -> None:
    starts = action_starts(MASK, "turn")
    advantages, _ = gae(VALUES, REWARDS, starts, gamma=1.0, lam=1.0)
    assert advantages[0].tolist() == pytest.approx([0.5, 0, 0, 0, 0.8, 0])
    assert spread(advantages, starts, MASK)[0].tolist() == pytest.approx([0.5, 0.5, 0, 0, 0.8, 0])
    assert spread(advantages, starts, MASK)[1].tolist() == pytest.approx([-0.1, 0, -0.3, -0.3, -0.3, -0.3])


rows = st.lists(
    st.lists(st.tuples(st.booleans(), st.floats(-2, 2, width=32)), min_size=1, max_size=12), min_size=1, max_size=3
)


@given(rows, st.floats(0.1, 1), st.floats(0, 1), st.sampled_from(["token", "turn"]))
def test_gae_is_the_sum_that_defines_it(
    drawn: list[list[tuple[bool, float]]], gamma: float, lam: float, level: str
) -> None:
    """A naive O(T^2) reference: the discounted sum of the temporal differences of the actions that follow."""
    length = max(len(row) for row in drawn)
    mask = torch.tensor([[int(m) for m, _ in row] + [0] * (length - len(row)) for row in drawn])
    values = torch.tensor([[v for _, v in row] + [7.0] * (length - len(row)) for row in drawn], dtype=torch.float64)
    rewards = torch.arange(1, len(drawn) + 1, dtype=torch.float64)
    starts = action_starts(mask, level)  # type: ignore[arg-type]
    advantages, returns = gae(values, rewards, starts, gamma=gamma, lam=lam)
    for b in range(len(drawn)):
        at = [t for t in range(length) if starts[b, t]]
        v = [float(values[b, t]) for t in at] + [0.0]
        r = [0.0] * (len(at) - 1) + [float(rewards[b])]
        for k, t in enumerate(at):
            deltas = [r[j] + gamma * v[j + 1] - v[j] for j in range(k, len(at))]
            expected = sum((gamma * lam) ** i * d for i, d in enumerate(deltas))
            assert float(advantages[b, t]) == pytest.approx(expected, abs=1e-9)
            assert float(returns[b, t]) == pytest.approx(expected + v[k], abs=1e-9)
        assert all(float(advantages[b, t]) == 0 for t in range(length) if t not in at)


def test_whitening_counts_the_policys_tokens_only() -> None:
    advantages = torch.tensor([[3.0, 1.0, 99.0], [2.0, -2.0, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    kept = whitened(advantages, mask)
    assert float(kept[mask.bool()].mean()) == pytest.approx(0, abs=1e-6)
    assert float(kept[mask.bool()].std()) == pytest.approx(1, abs=1e-6)
    assert kept[:, 2].tolist() == [0, 0]
    one = torch.tensor([[2.0]])
    assert whitened(one, torch.tensor([[1]])).tolist() == [[2.0]], "one action has no deviation"


def toy(n: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(n, 8, generator=generator)
    return states, (states[:, 0] > 0).float()


def test_a_critic_begins_at_zero_and_learns_which_states_win() -> None:
    states, returns = toy()
    critic = Critic(8, PpoSettings(value_epochs=50, value_learning_rate=0.05))
    assert not critic.values(states).any()
    losses = [critic.fit(states, returns) for _ in range(4)]
    assert losses[-1] < 0.6 * losses[0]
    values = critic.values(states)
    assert values[returns == 1].mean() - values[returns == 0].mean() > 0.5
    assert 1 - (returns - values).var() / returns.var() > 0.4, "most of the variance is explained"
    assert critic.fit(states[:0], returns[:0]) == 0.0


def test_a_clipped_value_stops_near_the_old_one() -> None:
    states, returns = toy()
    moved = []
    for clip in (0.05, None):
        critic = Critic(8, PpoSettings(value_epochs=100, value_learning_rate=0.05, value_clip=clip))
        critic.fit(states, returns)
        moved.append(float(critic.values(states).abs().max()))
    assert moved[0] < 0.3 < moved[1]


def test_a_critic_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path: Path) -> None:
    states, returns = toy()
    settings = PpoSettings(value_epochs=3)
    straight, cut, resumed = (Critic(8, settings) for _ in range(3))
    for critic in (straight, cut):
        critic.fit(states, returns)
    cut.save(tmp_path)
    resumed.load(tmp_path)
    assert straight.fit(states, returns) == resumed.fit(states, returns)
    assert torch.equal(straight.values(states), resumed.values(states))
    with pytest.raises(ConfigError, match="holds no critic"):
        resumed.load(tmp_path / "nowhere")
