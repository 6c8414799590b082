"""Playing the native engine against TextWorld: the text, the admissible commands and the result must agree."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from envs.alfworld.dialect import read_goal_text, write_in_dialect
from envs.alfworld.engine import Engine, GameSource, Session
from envs.alfworld.expert import plan
from envs.alfworld.native_engine import NativeEngine, NativeSession

__all__ = ["WALKERS", "DiffReport", "Difference", "Walker", "diff_engines", "in_dialect"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first point at which two engines part: what was played until then and what each of them said."""

    game: str
    walker: str
    commands: tuple[str, ...]
    what: str
    native: str
    reference: str


@dataclass(frozen=True, slots=True)
class DiffReport:
    """How far two engines were compared.

    ``num_wins`` counts episodes that reached the goal at any step (they go on after it), ``num_differences`` those that
    parted, each of which ends there.
    """

    num_games: int
    num_episodes: int
    num_steps: int
    num_wins: int
    num_differences: int
    first: Difference | None


# Chooses the next command from (random source, the native session, the commands played so far).
type Walker = Callable[[random.Random, NativeSession, Sequence[str]], str]


def in_dialect(source: GameSource, dialect: str) -> GameSource:
    """The same household told in another dialect (``0.2``, ``0.4``)."""
    data = source.load()
    domain, grammar = write_in_dialect(dialect, read_goal_text(data["grammar"]))
    told = dict(data) | {"pddl_domain": domain, "grammar": grammar}
    return GameSource(f"{source.content_hash}/{dialect}", f"{source.path} ({dialect})", lambda: told)


def diff_engines(
    games: Iterable[GameSource],
    *,
    reference: Engine,
    native: Engine | None = None,
    dialect: str | None = None,
    steps: int = 50,
    seed: int = 0,
    walkers: Sequence[str] = ("curious", "expert", "adversarial"),
    jobs: int = 1,
) -> DiffReport:
    """Play each game once with each walker in both engines.

    ``dialect`` tells the games in another one first (None: as they are). ``jobs`` games are compared at a time, which
    takes as many workers of the reference. Raises what the engines raise.
    """
    native = native or NativeEngine()
    sources = [in_dialect(game, dialect) if dialect else game for game in games]

    def compare(source: GameSource) -> list[tuple[int, bool, Difference | None]]:
        return [_compare(source, native, reference, walker, steps=steps, seed=seed) for walker in walkers]

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        episodes = [episode for found in pool.map(compare, sources) for episode in found]
    differences = [difference for _, _, difference in episodes if difference is not None]
    return DiffReport(
        num_games=len(sources),
        num_episodes=len(episodes),
        num_steps=sum(count for count, _, _ in episodes),
        num_wins=sum(won for _, won, _ in episodes),
        num_differences=len(differences),
        first=differences[0] if differences else None,
    )


def _compare(
    source: GameSource, native: Engine, reference: Engine, walker: str, *, steps: int, seed: int
) -> tuple[int, bool, Difference | None]:
    """One episode: (steps compared, whether it was ever won, the first difference)."""
    rng = random.Random(f"{seed}/{source.content_hash}/{walker}")  # noqa: S311 - reproducible, no secret
    played: list[str] = []
    won = False
    ours = native.open(source)
    theirs = reference.open(source)
    try:
        if not isinstance(ours, NativeSession):
            msg = "the engine under test must be the native one"
            raise TypeError(msg)
        texts = (ours.reset(), theirs.reset())
        while True:
            won = won or ours.won
            for what, mine, other in _views(ours, theirs, texts):
                if mine != other:
                    found = Difference(source.path, walker, tuple(played), what, mine, other)
                    return len(played), won, found
            if len(played) >= steps:
                return len(played), won, None
            command = WALKERS[walker](rng, ours, played)
            played.append(command)
            texts = (ours.step(command)[0], theirs.step(command)[0])
    finally:
        theirs.close()
        ours.close()


def _views(ours: Session, theirs: Session, texts: tuple[str, str]) -> Iterator[tuple[str, str, str]]:
    yield "text", *texts
    yield "won", str(ours.won), str(theirs.won)
    yield "admissible commands", "\n".join(ours.admissible()), "\n".join(theirs.admissible())


def _walk_at_random(rng: random.Random, session: NativeSession, played: Sequence[str]) -> str:
    """Any admissible command, going elsewhere less often than the many ``go to`` would have it."""
    commands = session.admissible()
    staying = [command for command in commands if not command.startswith("go to ")]
    return rng.choice(staying if staying and rng.random() < 0.6 else commands)


def _walk_curiously(rng: random.Random, session: NativeSession, played: Sequence[str]) -> str:
    """Do things to objects and look at what came of it: what a random walk reaches too seldom to compare."""
    game, state = session.game, session.state
    commands = session.admissible()

    def some(*verbs: str) -> list[str]:
        return [command for command in commands if command.startswith(verbs)]

    last = played[-1] if played else ""
    if last.startswith(("move ", "put ", "take ")) and rng.random() < 0.6:
        return rng.choice([*some("examine "), "look"])
    if last.startswith(("clean ", "heat ", "cool ", "slice ", "use ")) and rng.random() < 0.5:
        return rng.choice([*some("examine "), *some(last)])
    devices = {game.names[name] for name in game.sinks | game.microwaves | game.fridges}
    if state.held:
        chances = (
            (0.4, some("clean ", "heat ", "cool ", "slice ")),
            (0.5, [command for command in some("go to ") if command.removeprefix("go to ") in devices]),
            (0.5, some("move ", "put ")),
        )
    else:
        chances = ((0.6, some("open ")), (0.6, some("take ")), (0.3, some("use ")))
    for chance, options in chances:
        if options and rng.random() < chance:
            return rng.choice(options)
    return rng.choice(commands)


def _walk_to_the_goal(rng: random.Random, session: NativeSession, played: Sequence[str]) -> str:
    """The expert's way, with glances aside; at random once it is won."""
    if rng.random() < 0.15:
        return rng.choice(["look", "inventory", *(c for c in session.admissible() if c.startswith("examine "))])
    commands = plan(session.state)
    return commands[0] if commands else _walk_at_random(rng, session, played)


def _walk_as_an_adversary(rng: random.Random, session: NativeSession, played: Sequence[str]) -> str:
    """What a model might write: almost right commands, stale ones, the other dialect's, and noise."""
    command = _walk_at_random(rng, session, played)
    names = list(session.game.names.values())
    tricks: tuple[Callable[[], str], ...] = (
        lambda: command,
        lambda: command,
        lambda: f"  {command}\t",
        lambda: f"{command}\n",
        command.upper,
        command.capitalize,
        lambda: command.replace(" ", "  ", 1),
        lambda: command[: rng.randrange(len(command))],
        lambda: f"{command}.",
        lambda: rng.choice(list(played) or [""]),
        lambda: f"go to {rng.choice(names)}",
        lambda: f"take {rng.choice(names)} from {rng.choice(names)}",
        lambda: f"put {rng.choice(names)} in/on {rng.choice(names)}",
        lambda: f"move {rng.choice(names)} to {rng.choice(names)}",
        lambda: f"examine {rng.choice(names)}",
        lambda: f"use {rng.choice(names)}",
        lambda: rng.choice(["", "help", "look", "inventory", "{o} \\ [x|y] #look.feedback#", "go to", "看", "\x00"]),
    )
    return rng.choice(tricks)()


WALKERS: dict[str, Walker] = {
    "random": _walk_at_random,
    "curious": _walk_curiously,
    "expert": _walk_to_the_goal,
    "adversarial": _walk_as_an_adversary,
}
