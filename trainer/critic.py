"""The critic of PPO: a linear head on the policy's last hidden states, with an optimizer of its own.

It reads the states and does not change them: the adapter learns from the policy's loss alone, so a critic that is
wrong in the beginning does not spoil it. It is kept in checkpoints, and never in an adapter that is published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from trainer.settings import PpoSettings

__all__ = ["CRITIC_FILE", "Critic"]

CRITIC_FILE = "critic.pt"

_BATCH = 4096


class Critic:
    """Values of states, in units of the training reward. Begins at 0 everywhere.

    ``size`` is that of a hidden state. Weights are float32, whatever the policy's are.
    """

    def __init__(self, size: int, settings: PpoSettings, *, device: Any = "cpu") -> None:
        import torch

        self._settings = settings
        self._norm = torch.nn.LayerNorm(size, elementwise_affine=False)
        self._head = torch.nn.Linear(size, 1).to(device)
        torch.nn.init.zeros_(self._head.weight)
        torch.nn.init.zeros_(self._head.bias)
        self._optimizer = torch.optim.Adam(self._head.parameters(), lr=settings.value_learning_rate)

    def values(self, states: Any) -> Any:
        """Values of states of shape (N, size): (N,), without a gradient."""
        import torch

        with torch.no_grad():
            return self._forward(states)

    def fit(self, states: Any, returns: Any) -> float:
        """Learn ``returns`` (N,) of ``states`` (N, size) for ``value_epochs`` passes, in batches of at most 4096.

        The clipped loss of PPO: a value that has moved further than ``value_clip`` from what it was learns no more.
        Gives the mean loss of the last pass; 0.0 where there is nothing to learn.
        """
        import torch

        if not len(states):
            return 0.0
        old, clip, total = self.values(states), self._settings.value_clip, 0.0
        for _ in range(self._settings.value_epochs):
            total = 0.0
            for start in range(0, len(states), _BATCH):
                part = slice(start, start + _BATCH)
                new = self._forward(states[part])
                loss = (new - returns[part]) ** 2
                if clip is not None:
                    near = old[part] + (new - old[part]).clamp(-clip, clip)
                    loss = torch.maximum(loss, (near - returns[part]) ** 2)
                self._optimizer.zero_grad()
                loss.mean().backward()
                self._optimizer.step()
                total += float(loss.detach().sum())
        return total / len(states)

    def save(self, folder: Path) -> None:
        """Write head and optimizer into a checkpoint."""
        import torch

        torch.save({"head": self._head.state_dict(), "optimizer": self._optimizer.state_dict()}, folder / CRITIC_FILE)

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote. Raises ConfigError for a checkpoint without it."""
        import torch

        path = folder / CRITIC_FILE
        try:
            state = torch.load(path, map_location=self._head.weight.device, weights_only=True)
        except OSError as error:
            raise ConfigError(f"{folder} holds no critic: {error}", hint="resume a checkpoint of PPO") from error
        self._head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _forward(self, states: Any) -> Any:
        return self._head(self._norm(states.float())).squeeze(-1)
