"""How AgentBench words ALFWorld for a policy and reads its action back, shared by both protocols.

Source: AgentBench, ``src/server/tasks/alfworld`` (``task.py``, ``utils.py``). Exact where a score depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rollout_server.protocols.bleu import sentence_bleu

__all__ = ["actions_text", "intro_text", "match_action", "observation_text", "repeats"]

_THRESHOLD = 0.01
_PUT = re.compile(r"put (?P<object>.+?) (?:in/on|in|on|into|onto) (?P<place>.+)")
_MOVE = re.compile(r"move (?P<object>.+?) to (?P<place>.+)")


def intro_text(text: str) -> str:
    """The first observation without its first paragraph (TextWorld's welcome), paragraphs joined by one newline."""
    first, *others = text.split("\n\n")
    return "\n".join(others) if first.lstrip().startswith("-=") else "\n".join((first, *others))


def observation_text(text: str) -> str:
    """An observation without the prefix ``You arrive at loc N. ``."""
    return text[text.find(". ") + 2 :] if text.startswith("You arrive at loc ") else text


def actions_text(actions: Sequence[str]) -> str:
    """The list that follows every observation."""
    return " AVAILABLE ACTIONS: " + "\n".join(actions) + "\n"


def repeats(outputs: Sequence[str]) -> bool:
    """AgentBench's failure test: the last three raw outputs are one and the same, from the fourth step."""
    return len(outputs) > 3 and len(set(outputs[-3:])) == 1


def match_action(raw: str, admissible: Sequence[str]) -> str:
    """The game's command for what a policy wrote.

    Stripped, lower-cased, first line; an exact match, else the same in the game's other spelling (``put X in/on Y`` of
    alfworld up to 0.3.5 is ``move X to Y`` since 0.4.0), else the admissible action with the highest BLEU
    (smoothing method 4) above 0.01, the first among equals, else the text as it is.
    """
    action = raw.strip().lower().split("\n")[0]
    if not admissible or action in admissible:
        return action
    for spelling in _other_spellings(action):
        if spelling in admissible:
            return spelling
    words = action.split()
    scores = [sentence_bleu(choice.split(), words) for choice in admissible]
    best = max(range(len(scores)), key=scores.__getitem__)
    return admissible[best] if scores[best] > _THRESHOLD else action


def _other_spellings(action: str) -> tuple[str, ...]:
    if found := _PUT.fullmatch(action):
        thing, place = found["object"], found["place"]
        return f"move {thing} to {place}", f"put {thing} in/on {place}"
    if found := _MOVE.fullmatch(action):
        return (f"put {found['object']} in/on {found['place']}",)
    return ()
