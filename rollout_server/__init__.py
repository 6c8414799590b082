"""rollout_server: plays episodes with a language model and keeps every token of them."""

from rollout_server.types import (
    Episode,
    EpisodeStatus,
    Group,
    PolicyVersion,
    RolloutRequest,
    SamplingParams,
    TaskRef,
    Turn,
)

__all__ = [
    "Episode",
    "EpisodeStatus",
    "Group",
    "PolicyVersion",
    "RolloutRequest",
    "SamplingParams",
    "TaskRef",
    "Turn",
]
