"""Where two engines that play the same commands part: in the text, the win, the admissible commands or the facts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envs.alfworld.engine import Session
from envs.alfworld.native_engine import NativeSession
from envs.alfworld.pddl import Fact
from envs.alfworld.textworld_engine import TextWorldSession

__all__ = ["Difference", "Disagreement", "first_disagreement"]

_MAX_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What two engines tell differently: ``text``, ``won``, ``admissible commands`` or ``facts``, as each has it."""

    what: str
    native: str
    reference: str

    def diff(self) -> str:
        """For a person: the lines that the reference alone tells (``-``), and the native engine alone (``+``)."""
        ours, theirs = self.native.splitlines(), self.reference.splitlines()
        lines = difflib.unified_diff(theirs, ours, "reference", "native", lineterm="", n=1)
        shown = "\n".join(line for number, line in enumerate(lines) if number > 1 and not line.startswith("@@"))
        if not shown:  # the lines are equal, but not what parts them
            shown = f"-{self.reference!r}\n+{self.native!r}"
        return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}… ({len(shown)} characters)"


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two engines part: what was played until then, what they tell differently, and what each of them tells.

    ``walker`` and ``seed`` say who played, where that can be repeated. ``what`` is ``loading`` where only the reference
    refuses the game, ``failure`` where the native engine raises an exception.
    """

    game: str
    walker: str
    seed: int
    commands: tuple[str, ...]
    what: str
    native: str
    reference: str

    def transcript(self, *, last: int | None = None) -> str:
        """The difference for a person, in ASCII: the way there (its ``last`` commands) and both answers."""
        player = f", {self.walker} walker, seed {self.seed}" if self.walker else ""
        head = f"{self.game}{player}: {self.what} differs after {len(self.commands)} commands"
        shown = self.commands[-last:] if last else self.commands
        steps = [f"  > {ascii(command)[1:-1]:.200}" for command in shown]
        if len(shown) < len(self.commands):
            steps.insert(0, "  (...)")
        diff = Disagreement(self.what, self.native, self.reference).diff()
        lines = [head, *steps, *(f"  {line}" for line in diff.splitlines())]
        return "\n".join(line.encode("ascii", "backslashreplace").decode() for line in lines)


def first_disagreement(native: NativeSession, reference: Session, texts: tuple[str, str]) -> Disagreement | None:
    """The first thing told differently after the same commands; ``texts`` are the native and the reference's answer.

    The facts are compared where the reference tells them.
    """
    for what, ours, theirs in _views(native, reference, texts):
        if ours != theirs:
            return Disagreement(what, ours, theirs)
    return None


def _views(native: NativeSession, reference: Session, texts: tuple[str, str]) -> Iterator[tuple[str, str, str]]:
    yield "text", *texts
    yield "won", str(native.won), str(reference.won)
    yield "admissible commands", "\n".join(native.admissible()), "\n".join(reference.admissible())
    facts = reference.facts() if isinstance(reference, TextWorldSession) else None
    if facts is not None:
        ours = {fact for fact in native.state.facts() if fact[0] != "takenout"}  # told by the text of ``look``
        if ours != facts:
            yield "facts", _lines(ours), _lines(facts)


def _lines(facts: Iterable[Fact]) -> str:
    return "\n".join(sorted(map(" ".join, facts)))
