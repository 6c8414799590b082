"""Play one episode of each environment against a running env server with the expert; every one must end with reward 1.

    ENVLOOP_EXPERT_TOKEN=… python scripts/smoke.py http://127.0.0.1:8470

The expert's actions need the server's expert token. Prints one line an episode; exits 1 where an episode is not won.
"""

from __future__ import annotations

import os
import sys

from envs.client import SyncEnvClient
from envs.errors import EnvloopError
from envs.wire import EnvInfo

__all__ = ["main"]


def _play(client: SyncEnvClient, env: EnvInfo) -> bool:
    """One episode, the first task that the environment's last split samples; closed in any case."""
    name, split = env.spec.name, env.splits[-1].name
    episode = client.create(name, split=split, sample_seed=0)
    try:
        while not episode.status.over:
            action = client.expert_action(episode.id)
            if action is None:
                break
            episode = client.step(episode, action)
    finally:
        client.close_episode(episode.id)
    reward = "none" if episode.reward is None else f"{episode.reward:g}"
    print(f"{name}: {episode.task.id} {episode.status} after {episode.steps} steps, reward {reward}")
    return episode.status.scored and episode.reward == 1.0


def main(url: str, token: str | None) -> int:
    """Play; 0 when every episode was won."""
    with SyncEnvClient(url, token=token) as client:
        served = client.envs()
        won = [_play(client, env) for env in served]
    return 0 if won and all(won) else 1


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8470"
    try:
        sys.exit(main(address, os.environ.get("ENVLOOP_EXPERT_TOKEN")))
    except EnvloopError as error:
        sys.exit(f"error: {error}")
