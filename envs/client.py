"""The client of the environment server, async and sync. Most code imports from here.

    with SyncEnvClient("http://127.0.0.1:8470") as client:
        episode = client.create("alfworld", split="generated", sample_seed=7)
        while not episode.status.over:
            action = Action("take_action", {"action": choose(episode.observation)})
            episode = client.step(episode, action)
        print(episode.status, episode.reward)

``client.step(episode, …)`` carries the step's number, so a lost answer is asked for again; with the id alone it
is not.
"""

from __future__ import annotations

from envs.async_client import EnvClient, NewEpisode
from envs.sync_client import SyncEnvClient
from envs.wire import EnvInfo, EpisodeView, ForkOrigin

__all__ = ["EnvClient", "EnvInfo", "EpisodeView", "ForkOrigin", "NewEpisode", "SyncEnvClient"]
