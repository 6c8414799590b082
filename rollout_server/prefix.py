"""The beginning of an episode that was played before: given to another policy, which goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from envs.errors import Conflict, InvalidOption
from rollout_server.chat import ChatFormat
from rollout_server.types import Episode, StepRecord, Turn

__all__ = ["Prefix"]


@dataclass(frozen=True, slots=True)
class Prefix:
    """Turns to play again before the policy's own, and the first prompt that they followed.

    The environment answers them anew and must answer the same. Their ids stay those that were sampled where the engine
    has the same tokenizer, and are context alone: mask 0, nothing is learnt from them. With another tokenizer their
    text is encoded by it, once.
    """

    prompt_ids: tuple[int, ...]
    turns: tuple[Turn, ...]

    @classmethod
    def of(cls, episode: Episode, turns: int) -> Prefix:
        """The first ``turns`` turns of an episode. Raises InvalidOption where it has not as many."""
        if not 0 <= turns <= len(episode.turns):
            raise InvalidOption(
                f"episode {episode.id} has {len(episode.turns)} turns: it cannot be begun after {turns}",
                hint=f"0 to {len(episode.turns)}",
            )
        return cls(episode.prompt_ids, episode.turns[:turns])

    def turn(self, index: int, chat: ChatFormat, prompt_ids: Sequence[int]) -> Turn:
        """The given turn, in the ids of the engine that goes on."""
        turn = self.turns[index]
        same = tuple(prompt_ids) == self.prompt_ids
        ids = turn.completion_ids if same else tuple(chat.turn(turn.text))
        logprobs = turn.logprobs if same else (0.0,) * len(ids)
        return replace(
            turn, index=index, completion_ids=ids, logprobs=logprobs, given=True, generate_s=0.0, environment_ids=()
        )

    def check(self, index: int, steps: Sequence[StepRecord], reply: str | None) -> None:
        """Compare the environment's answer with the recorded one. Raises Conflict, which names the difference.

        ``reply`` None: the turn was not answered yet.
        """
        turn = self.turns[index]
        if len(steps) > len(turn.steps):
            raise _differs(index, f"{len(steps)} steps instead of {len(turn.steps)}")
        # The record may hold more: what the protocol did in the environment when the episode ended.
        for number, (was, now) in enumerate(zip(turn.steps, steps, strict=False)):
            if (was.action, was.observation, was.state_hash) != (now.action, now.observation, now.state_hash):
                raise _differs(index, f"step {number}: {was.observation.text!r} became {now.observation.text!r}")
        if reply is not None and turn.reply and turn.reply != reply:
            raise _differs(index, f"the reply {turn.reply!r} became {reply!r}")


def _differs(index: int, what: str) -> Conflict:
    return Conflict(
        f"turn {index} is answered otherwise than it was recorded: {what}",
        hint="`envloop replay verify` says whether the episode can still be repeated; begin before this turn",
    )
