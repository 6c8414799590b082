"""The rollout server's HTTP face."""
