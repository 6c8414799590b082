"""Whether a policy goes round in circles: a request's own rule, beside those of the protocols."""

from __future__ import annotations

import json

from rollout_server.protocols.base import ParsedTurn
from rollout_server.types import RepetitionRule

__all__ = ["RepetitionWatch"]


class RepetitionWatch:
    """Sees an episode's turns in order."""

    def __init__(self, rule: RepetitionRule | None) -> None:
        self._rule = rule
        self._seen: list[str] = []

    def saw(self, parsed: ParsedTurn, text: str) -> bool:
        """Note a turn; whether the rule ends the episode with it."""
        if self._rule is None:
            return False
        actions = [[action.name, dict(action.arguments)] for action in parsed.actions]
        self._seen.append(json.dumps(actions, sort_keys=True, default=repr) if actions else text.strip())
        return any(self._cycles(length, self._rule.times) for length in range(1, self._rule.longest_cycle + 1))

    def _cycles(self, length: int, times: int) -> bool:
        last = self._seen[-length * times :]
        return len(last) == length * times and last == last[:length] * times
