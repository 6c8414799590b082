"""trainer: TRL recipes over rollouts: SFT, GRPO, evaluation."""
