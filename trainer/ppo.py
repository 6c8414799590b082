"""PPO on the episodes and the machinery of GRPO: the critic's advantages instead of the group's. Experimental.

TRL 1.16 has no PPO trainer. Its GRPO loss takes advantages of shape (B, T) as they are, so a critic and GAE are all
that is missing: sampling, clipping, the KL term, importance weights, publication and resume are GRPO's.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.critic import Critic
from trainer.gae import action_starts, gae, spread, whitened
from trainer.grpo import GrpoResult, train_grpo
from trainer.settings import PpoSettings
from trainer.trl_seams import OutsideEngineTrainer

__all__ = ["CriticTrainer", "train_ppo"]


def train_ppo(config: TrainConfig, **more: Any) -> GrpoResult:
    """Run a recipe with ``recipe = "ppo"``; arguments, result and errors are those of ``train_grpo``."""
    return train_grpo(config, recipe="ppo", make_trainer=partial(CriticTrainer, ppo=config.ppo), **more)


class CriticTrainer(OutsideEngineTrainer):
    """GRPO's trainer with advantages by GAE. What it leans on in TRL is held by the contract test of PPO."""

    def __init__(self, *args: Any, ppo: PpoSettings, **kwargs: Any) -> None:
        self._ppo = ppo
        self._rewards: Any = None
        super().__init__(*args, **kwargs)
        self.critic = Critic(self._backbone().config.hidden_size, ppo, device=self.accelerator.device)

    def _backbone(self) -> Any:
        """The decoder below the head, with the adapter in its layers."""
        return self.accelerator.unwrap_model(self.model).get_base_model().base_model

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        self._rewards = super()._calculate_rewards(*args, **kwargs)  # (B, 1), NaN for an episode without a result
        return self._rewards

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        mask = batch["completion_mask"] * batch.get("tool_mask", 1)
        starts = action_starts(mask, self._ppo.level)
        states = self._states(batch, starts)
        values = starts.new_zeros(starts.shape, dtype=states.dtype)
        values[starts] = self.critic.values(states)
        rewards = self._rewards.nansum(dim=1).to(values)
        advantages, returns = gae(values, rewards, starts, gamma=self._ppo.gamma, lam=self._ppo.gae_lambda)
        advantages = spread(advantages, starts, mask)
        self._note(values[starts], returns[starts], advantages[mask.bool()])
        batch["advantages"] = whitened(advantages, mask) if self._ppo.whiten else advantages
        self._log_now("critic/loss", self.critic.fit(states, returns[starts]))
        return batch

    def _states(self, batch: Any, starts: Any) -> Any:
        """The hidden states before actions, (N, size): each of the token before, in the order of ``starts``."""
        import torch

        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        before, rows = batch["prompt_ids"].shape[1] - 1, self.args.per_device_train_batch_size
        found, backbone = [], self._backbone()
        with torch.no_grad(), self.accelerator.autocast():
            for first in range(0, len(ids), rows):
                part = slice(first, first + rows)
                hidden = backbone(input_ids=ids[part], attention_mask=seen[part], use_cache=False).last_hidden_state
                found.append(hidden[:, before : before + starts.shape[1]][starts[part]].float())
        return torch.cat(found)

    def _note(self, values: Any, returns: Any, advantages: Any) -> None:
        """The critic's figures before it learns: 1 explains all of the returns' variance, 0 none."""
        if values.numel() < 2:
            return
        spread_of_returns = returns.var()
        explained = 1 - (returns - values).var() / spread_of_returns if spread_of_returns > 0 else returns.new_zeros(())
        self._log_now("critic/explained_variance", float(explained))
        self._log_now("critic/value_mean", float(values.mean()))
        self.figures["advantage/mean_abs"] = float(advantages.abs().mean())

    def _log_now(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        self.critic.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.critic.load(Path(checkpoint))
