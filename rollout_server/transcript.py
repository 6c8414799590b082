"""The append-only record of an episode's tokens: what the policy saw and what it sampled, never rewritten."""

from __future__ import annotations

from collections.abc import Sequence

from rollout_server.types import Completion

__all__ = ["Transcript"]


class Transcript:
    """Ids, mask, logprobs and policy versions of one episode, growing together.

    Four columns of one length T' = prompt + completion tokens. Only ``add_completion`` and ``add_environment`` change
    it, and only at its end; reading gives tuples. Mask 1 marks a sampled token.
    """

    __slots__ = ("_ids", "_logprobs", "_mask", "_policies", "_prompt_length")

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        if not prompt_ids:
            raise ValueError("a transcript begins with a prompt: no prompt ids were given")
        self._prompt_length = len(prompt_ids)
        self._ids: list[int] = []
        self._mask: list[int] = []
        self._logprobs: list[float] = []
        self._policies: list[str] = []
        self.add_environment(prompt_ids)

    def add_completion(self, completion: Completion) -> None:
        """Append what the policy sampled. Raises ValueError for an empty completion or unequal lengths."""
        self._extend(completion.token_ids, completion.logprobs, mask=1, policy=completion.policy)

    def add_environment(self, ids: Sequence[int]) -> None:
        """Append tokens of the environment (mask 0, logprob 0.0). Raises ValueError for none."""
        self._extend(ids, (0.0,) * len(ids), mask=0, policy="")

    def _extend(self, ids: Sequence[int], logprobs: Sequence[float], *, mask: int, policy: str) -> None:
        if len(ids) != len(logprobs):
            raise ValueError(f"{len(ids)} token ids but {len(logprobs)} logprobs")
        if not ids:
            raise ValueError("nothing to append: a turn has at least one token")
        self._ids += ids
        self._mask += (mask,) * len(ids)
        self._logprobs += logprobs
        self._policies += (policy,) * len(ids)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> tuple[int, ...]:
        """Every token, the prompt's first, shape (T',). What the next turn is sampled from."""
        return tuple(self._ids)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The first prompt."""
        return tuple(self._ids[: self._prompt_length])

    @property
    def completion_ids(self) -> tuple[int, ...]:
        """Everything after the first prompt, shape (T,)."""
        return tuple(self._ids[self._prompt_length :])

    @property
    def mask(self) -> tuple[int, ...]:
        """1 for a sampled token, 0 otherwise, of ``completion_ids``, shape (T,)."""
        return tuple(self._mask[self._prompt_length :])

    @property
    def logprobs(self) -> tuple[float, ...]:
        """Sampled logprobs in nats, 0.0 for environment tokens, of ``completion_ids``, shape (T,)."""
        return tuple(self._logprobs[self._prompt_length :])

    @property
    def policy_versions(self) -> tuple[str, ...]:
        """The policy version of every token of ``completion_ids``, "" for environment tokens, shape (T,)."""
        return tuple(self._policies[self._prompt_length :])
