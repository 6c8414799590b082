"""The beginning of an episode that was played before: played again as it was, and a policy goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from envs.errors import Conflict, InvalidOption
from envs.types import EpisodeStatus, Observation
from rollout_server.replay import ReplayDifference, first_difference, step_difference
from rollout_server.types import Episode, StepRecord, Turn

__all__ = ["Prefix"]

_TOKENIZER = "go on with the tokenizer of the model that played it: --model"


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first ``length`` turns of an episode, to play again before the policy's own.

    Their ids stay those that were sampled; nothing is sampled, decoded or encoded anew. The environment answers them
    again, and everything that it answers and every token that the loop makes of it must be as recorded: the checks
    raise Conflict, which names the place. In the new record these turns are ``given``: context, nothing is learnt from
    them.

    Raises: InvalidOption where the episode has not as many turns; Conflict where it does not tell what was sampled in
    one of them, as in what an earlier envloop stored of forks.
    """

    episode: Episode
    length: int

    def __post_init__(self) -> None:
        episode = self.episode
        if not 0 <= self.length <= len(episode.turns):
            raise InvalidOption(
                f"turn {self.length} is not in episode {episode.id}: nothing can follow there",
                hint=f"0 to {len(episode.turns)}",
            )
        untold = next((turn.index for turn in self.turns if not turn.completion_ids), None)
        if untold is not None:
            fork = episode.metadata.get("fork")
            parent = fork.get("parent", "") if isinstance(fork, Mapping) else ""
            raise Conflict(
                f"episode {episode.id} does not tell what was sampled in turn {untold}: it is the fork of an earlier "
                "envloop, which kept such turns as the environment's",
                hint=f"fork the episode that it began with: {parent}" if parent else f"fork at turn {untold} or before",
            )

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The recorded turns."""
        return self.episode.turns[: self.length]

    @property
    def tokens(self) -> int:
        """How many ids are recorded up to where the policy goes on, the first prompt's too."""
        return self._before(self.length)

    def check_start(self, initial: Observation, prompt_ids: Sequence[int]) -> None:
        """Compare the first observation and the first prompt. Raises Conflict."""
        self._same(first_difference(self.episode, initial))
        self._same_tokens(0, 0, self.episode.prompt_ids, prompt_ids)

    def turn(self, index: int, read: Callable[[tuple[int, ...]], str]) -> Turn:
        """A given turn as recorded, yet without an answer. ``read`` gives the text of a completion's ids.

        Raises Conflict where that is another text than was acted on.
        """
        turn = self.turns[index]
        try:
            text = read(turn.completion_ids)
        except (IndexError, KeyError, OverflowError, ValueError):  # ids that the tokenizer does not have
            text = None
        if text != turn.text:
            raise Conflict(f"turn {index} of episode {self.episode.id} has tokens of another text", hint=_TOKENIZER)
        return turn

    def check_steps(self, index: int, steps: Sequence[StepRecord]) -> None:
        """Compare what a given turn did and what the environment answered. Raises Conflict."""
        recorded = self.turns[index].steps
        first = sum(len(turn.steps) for turn in self.turns[:index])
        for number, (was, now) in enumerate(zip(recorded, steps, strict=False), first):
            if was.action != now.action:
                raise self._other_actions(index)
            self._same(step_difference(index, number, was, now))
        # An episode's last turn may hold more: what the protocol itself did when the episode ended.
        last = index + 1 == len(self.episode.turns)
        if len(steps) > len(recorded) or (len(steps) < len(recorded) and not last):
            raise self._other_actions(index)

    def check_reply(self, index: int, reply: str, ids: Sequence[int]) -> None:
        """Compare what follows a given turn, in text and in tokens. Raises Conflict.

        Where an episode ended with the turn nothing was recorded, and what follows is new.
        """
        turn = self.turns[index]
        if not turn.environment_ids:
            return
        if turn.reply != reply:
            self._same(ReplayDifference("the reply", "text", turn.reply, reply, index))
        self._same_tokens(index + 1, len(turn.completion_ids), turn.environment_ids, ids)

    def ended(self, status: EpisodeStatus, error: str) -> Conflict:
        """The error where the loop ends the episode before the policy's turn."""
        return Conflict(
            f"episode {self.episode.id} ends before turn {self.length}: {status.value} {error}".rstrip(),
            hint="begin at an earlier turn, or give it more turns or tokens",
        )

    def _before(self, index: int) -> int:
        parts = (len(turn.completion_ids) + len(turn.environment_ids) for turn in self.turns[:index])
        return len(self.episode.prompt_ids) + sum(parts)

    def _same(self, difference: ReplayDifference | None) -> None:
        if difference is not None:
            raise Conflict(
                f"episode {self.episode.id} no longer plays as recorded: {difference}", hint="see envloop replay verify"
            )

    def _same_tokens(self, before: int, skipped: int, recorded: Sequence[int], shown: Sequence[int]) -> None:
        """``before``: the turn that the tokens precede; ``skipped``: ids of the turn before, which are not compared."""
        if tuple(recorded) == tuple(shown):
            return
        pairs = enumerate(zip(recorded, shown, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(recorded), len(shown)))
        at += self._before(before - 1) + skipped if before else 0
        raise Conflict(
            f"before turn {before} of episode {self.episode.id} the tokens differ from the recorded ones at {at}",
            hint=_TOKENIZER,
        )

    def _other_actions(self, index: int) -> Conflict:
        return Conflict(
            f"the protocol reads other actions from turn {index} of episode {self.episode.id}",
            hint="it was played by another version of envloop",
        )
