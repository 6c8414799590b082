"""Whether an episode's ids are those of its conversation rendered as a whole, as a chat template and tokenizer give it.

They are in three cases not: where text from outside holds the name of a token (it was encoded as ordinary characters,
a render would make it markup); where the policy cut its text into tokens as the tokenizer would not, which any sampling
may do, or ended within a character; and where its words begin with blanks that the tokenizer joins to the newline
before them. Training takes the ids as they were sampled and needs none of this; what exports text alone does.
"""

from __future__ import annotations

from collections.abc import Iterator

from envs.errors import InvalidOption
from rollout_server.engines.base import Tokenizer
from rollout_server.types import Episode

__all__ = ["whole_text"]


def whole_text(episode: Episode, tokenizer: Tokenizer) -> str:
    """The conversation's text, of which the tokenizer makes exactly the episode's ids.

    The same text as the model's own template renders, for the templates that ``check_template`` accepts; after the last
    turn it ends where the episode does. Raises InvalidOption where it does not give the same ids, naming the first part
    of the episode that differs: a render would then train on other tokens than those that were sampled.
    """
    ids = [*episode.prompt_ids, *episode.completion_ids]
    text = tokenizer.decode(ids)
    again = tokenizer.encode(text, markup=True)
    if again == ids:
        return text
    at = next((n for n, (a, b) in enumerate(zip(ids, again, strict=False)) if a != b), min(len(ids), len(again)))
    part, begin, end = next(p for p in _parts(episode) if at < p[2] or p[2] == len(ids))
    shown = tokenizer.decode(ids[max(begin, at - 3) : min(end, at + 8)])
    raise InvalidOption(
        f"episode {episode.id} is not its rendered text: {part} is cut into other tokens at {shown!r}",
        hint="export its ids; a text would be trained on with other tokens than were sampled",
    )


def _parts(episode: Episode) -> Iterator[tuple[str, int, int]]:
    """The parts of an episode and their places in its ids: name, first, behind the last."""
    end = len(episode.prompt_ids)
    yield "the first prompt", 0, end
    for turn in episode.turns:
        for name, ids in (("what was said in", turn.completion_ids), ("the reply to", turn.environment_ids)):
            begin, end = end, end + len(ids)
            yield f"{name} turn {turn.index}", begin, end
