"""An expert that knows only what an agent has seen: it reads the texts of an episode, searches, and says what is next.

It looks first where the wanted thing is most likely found for the steps that it takes to look (``explorer_prior``),
remembers everything that it comes across, and needs neither the game nor its list of commands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import exp

from envs.alfworld.explorer_goal import Request, read_request, receptacle_kinds
from envs.alfworld.explorer_memory import Memory, Spot, is_a, kind_of, room_and_task
from envs.alfworld.explorer_prior import Prior, load_prior
from envs.alfworld.explorer_thoughts import Remark, describe_request, think

__all__ = ["Explorer"]

_DEVICES = {"clean": ("sinkbasin", "bathtubbasin"), "heat": ("microwave",), "cool": ("fridge",)}
# A command that has failed n times is not tried again for so many steps to the power of n - 1.
_PATIENCE = 3
_LOOKS = ("look", "inventory")
_SEARCHING = ("search", "open", "examine", "again")

# A command and the reason for it.
type _Idea = tuple[str, Remark]


class Explorer:
    """Reads along from an episode's first observation and chooses commands.

        explorer = Explorer(introduction)
        command = explorer.choose()
        explorer.observe(command, answer)

    It may also read along with somebody else's commands, and say at any time what it would do. ``admissible``, where it
    is known, tells what is within reach. ``thoughts`` is the seed that draws the wording of ``thought``; None keeps
    silent. Nothing that it reads makes it raise: where the task is not understood ``problem`` says so, and ``choose``
    only looks around.
    """

    def __init__(
        self,
        introduction: str,
        *,
        admissible: Iterable[str] = (),
        thoughts: int | None = None,
        prior: Prior | None = None,
    ) -> None:
        room, sentence = room_and_task(introduction)
        self._prior = prior or load_prior()
        self._thoughts = thoughts
        self._memory = Memory()
        self._room_known = self._memory.read_room(room, admissible)
        self.request: Request | None = read_request(sentence, [spot.kind for spot in self._memory.spots.values()])
        self.problem = ""
        if self.request is None:
            self.problem = f"the task {sentence!r:.200} is not understood" if sentence else "no task is named"
        self._failures: dict[str, tuple[int, int]] = {}  # command → how often it was not accepted, when last
        self._num_steps = 0
        self._news: list[Remark] = []
        if self.request is not None:
            self._news.append(Remark("task", task=describe_request(self.request)))
        self._idea: _Idea | None = None

    def observe(self, command: str, observation: str, admissible: Iterable[str] = ()) -> None:
        """Note a command and its answer."""
        chosen, reason = self._choice()
        memory = self._memory
        placed = self._num_placed()
        memory.observe(command, observation, admissible)
        self._num_steps += 1
        if memory.failed:
            self._failures[command] = (self._failures.get(command, (0, 0))[0] + 1, self._num_steps)
        self._news = []
        if memory.failed:
            self._news.append(Remark("failed"))
        elif command == chosen and reason.name in _SEARCHING and self._found_nothing(reason.spot):
            self._news.append(Remark("missing", reason.spot, sought=self._sought()[0]))
        elif self.request is not None and self.request.count > self._num_placed() > placed:
            self._news.append(Remark("second", sought=self.request.wanted))
        self._idea = None

    def choose(self) -> str:
        """The next command; the same until something is observed."""
        return self._choice()[0]

    def thought(self) -> str:
        """What goes with the command of ``choose``: one or two sentences; "" without a seed."""
        if self._thoughts is None:
            return ""
        return think([*self._news, self._choice()[1]], seed=self._thoughts, step=self._num_steps)

    def _choice(self) -> _Idea:
        if self._idea is None:
            ideas = (idea for idea in self._ideas() if self._may_work(idea[0]))
            self._idea = next(ideas, (_LOOKS[self._num_steps % len(_LOOKS)], Remark("lost")))
        return self._idea

    def _may_work(self, command: str) -> bool:
        failures, last = self._failures.get(command, (0, 0))
        return not failures or self._num_steps - last >= _PATIENCE ** (failures - 1)

    def _ideas(self) -> Iterator[_Idea]:
        """What could be done now, the best first."""
        request = self.request
        if request is None:
            return
        held = self._memory.held
        wanted = [thing for thing in held if is_a(thing, request.wanted)]
        if wanted and request.lamps:
            yield from self._bring_to_light(wanted[0], request)
        elif wanted:
            yield from self._treat_and_put(wanted[0], request)
        elif held:
            yield from self._drop(held[0])
        else:
            yield from self._fetch(request)
        yield from self._search_again()

    def _fetch(self, request: Request) -> Iterator[_Idea]:
        """Take a wanted thing that has been seen, else look for one; a lamp is looked for along the way."""
        placed = set(self._placed(request))
        devices = self._device_kinds()
        options = [
            (self._steps_inside(spot) + (spot.kind not in devices), spot.number, spot, thing)
            for thing, spot in self._memory.seen_things()
            if is_a(thing, request.wanted) and (thing, spot.name) not in placed
        ]
        for _, _, spot, thing in sorted(options, key=lambda option: option[:2]):
            if not self._memory.here(spot):
                yield f"go to {spot.name}", Remark("fetch", spot.name, thing, request.wanted)
            if spot.open is False:
                yield f"open {spot.name}", Remark("open", spot.name, thing, request.wanted)
            take = f"take {thing} from {spot.name}"
            yield from self._check(spot, take)
            yield take, Remark("take", spot.name, thing, request.wanted)
        yield from self._search()

    def _treat_and_put(self, thing: str, request: Request) -> Iterator[_Idea]:
        how = request.treatment
        if how and thing not in self._memory.treated[how]:
            kinds = _DEVICES[how]
            for device in sorted(self._spots_of(kinds), key=lambda spot: (kinds.index(spot.kind), self._steps(spot))):
                if not self._memory.here(device):
                    yield f"go to {device.name}", Remark("go_treat", device.name, thing, how=how)
                treat = f"{how} {thing} with {device.name}"
                yield from self._check(device, treat)
                yield treat, Remark("treat", device.name, thing, how=how)
            return
        placed = Counter(name for _, name in self._placed(request))
        destinations = self._spots_of((request.destination,))
        for spot in sorted(destinations, key=lambda spot: (-placed[spot.name], self._steps_inside(spot), spot.number)):
            if not self._memory.here(spot):
                yield f"go to {spot.name}", Remark("go_put", spot.name, thing)
            yield from self._put(thing, spot, "put")

    def _bring_to_light(self, thing: str, request: Request) -> Iterator[_Idea]:
        lamps = [(lamp, spot) for lamp, spot in self._memory.seen_things() if kind_of(lamp) in request.lamps]
        for lamp, spot in sorted(lamps, key=lambda option: (self._steps(option[1]), option[0])):
            if not self._memory.here(spot):
                yield f"go to {spot.name}", Remark("go_lamp", spot.name, thing, lamp=lamp)
            elif lamp not in self._memory.lit:
                yield f"use {lamp}", Remark("use", spot.name, thing, lamp=lamp)
        yield from self._search()

    def _drop(self, thing: str) -> Iterator[_Idea]:
        """Put down what is not wanted, where it is nearest and likely to fit."""
        spots = sorted(
            self._memory.spots.values(),
            key=lambda spot: (self._steps_inside(spot), -self._prior.rate(kind_of(thing), spot.kind)),
        )
        for spot in spots:
            if not self._memory.here(spot):
                yield f"go to {spot.name}", Remark("drop", spot.name, thing)
            yield from self._put(thing, spot, "drop")

    def _put(self, thing: str, spot: Spot, why: str) -> Iterator[_Idea]:
        """Put a thing into a receptacle that is here, in the words of the game's dialect or else in the other's."""
        if self._closed(spot):
            yield f"open {spot.name}", Remark("open_put", spot.name, thing)
        words = [f"put {thing} in/on {spot.name}", f"move {thing} to {spot.name}"]
        yield from self._check(spot, *words)
        for command in reversed(words) if self._memory.moves else words:
            yield command, Remark(why, spot.name, thing)

    def _check(self, spot: Spot, *commands: str) -> Iterator[_Idea]:
        """Where commands have just been refused for the first time: is one really there?"""
        if self._memory.failed and all(self._failures.get(command, (0, 0))[0] == 1 for command in commands):
            yield f"examine {spot.name}", Remark("check", spot.name)

    def _search(self) -> Iterator[_Idea]:
        """Look into what has not been seen yet: the best chance for a step first."""
        sought = self._sought()
        unseen = [spot for spot in self._memory.spots.values() if spot.contents is None]
        if not self._room_known:  # no list of the room: guess that there is one of each kind
            guessed = (Spot(f"{kind} 1") for kind in sorted(receptacle_kinds()))
            unseen += [spot for spot in guessed if spot.name not in self._memory.spots]
        for spot in sorted(unseen, key=lambda spot: (-self._worth(spot, sought), spot.kind, spot.number)):
            if not self._memory.here(spot):
                yield f"go to {spot.name}", Remark("search", spot.name, sought=sought[0])
            elif self._closed(spot):
                yield f"open {spot.name}", Remark("open", spot.name, sought=sought[0])
            else:
                yield f"examine {spot.name}", Remark("examine", spot.name, sought=sought[0])

    def _search_again(self) -> Iterator[_Idea]:
        """All has been seen and the goal is not reached: something was missed, so go round once more."""
        sought = self._sought()
        for spot in sorted(self._memory.spots.values(), key=lambda spot: (spot.visits, -self._worth(spot, sought))):
            if not self._memory.here(spot):
                yield f"go to {spot.name}", Remark("again", spot.name, sought=sought[0])

    def _worth(self, spot: Spot, sought: list[str]) -> float:
        """The chance to find something sought there, for each step that a look costs beyond what it saves later."""
        request = self.request
        assert request is not None, "only asked with a request"
        rate = 0.0
        for kind in sought:
            # A thing that only has to be put there would have won the game by lying there.
            if not (spot.kind == request.destination and request.count == 1 and not request.treatment):
                rate += self._prior.rate(kind, spot.kind)
        chance = 1 - exp(-rate)
        steps = float(max(1, self._steps_inside(spot)))
        if spot.kind in self._device_kinds():
            steps -= chance  # found there, it is treated without another way
        if spot.kind == request.destination and self._closed(spot):
            mates = [other for other in self._memory.spots.values() if other.kind == spot.kind]
            steps -= not any(mate.open for mate in mates)  # one of them must be opened anyway
        return chance / max(steps, 0.1)

    def _sought(self) -> list[str]:
        """The kinds of thing that still have to be found."""
        request = self.request
        if request is None:
            return []
        seen = {kind_of(thing) for thing, _ in self._memory.seen_things()}
        lamps = [] if seen.intersection(request.lamps) else list(request.lamps)
        held = any(is_a(thing, request.wanted) for thing in self._memory.held)
        return lamps or [request.wanted] if held else [request.wanted, *lamps]

    def _found_nothing(self, name: str) -> bool:
        contents = self._memory.spot(name).contents
        return contents is not None and not any(is_a(thing, kind) for thing in contents for kind in self._sought())

    def _placed(self, request: Request) -> list[tuple[str, str]]:
        """The (thing, receptacle) pairs that count: wanted things, treated, in the destination that has most of them.

        A destination of one thing that is placed already would have won; where it has not, this is no such thing.
        """
        if not request.destination:
            return []
        treated = self._memory.treated.get(request.treatment)
        by_spot: list[list[tuple[str, str]]] = [
            [
                (thing, spot.name)
                for thing in spot.contents or ()
                if is_a(thing, request.wanted) and (treated is None or thing in treated)
            ]
            for spot in self._memory.spots.values()
            if spot.kind == request.destination
        ]
        return max(by_spot, key=len, default=[])

    def _num_placed(self) -> int:
        return len(self._placed(self.request)) if self.request is not None else 0

    def _spots_of(self, kinds: tuple[str, ...]) -> list[Spot]:
        """The receptacles of these kinds that are known, those of the first kind first; else a guess at their names."""
        known = [spot for kind in kinds for spot in self._memory.spots.values() if spot.kind == kind]
        return known or [Spot(f"{kind} 1") for kind in kinds]

    def _device_kinds(self) -> tuple[str, ...]:
        return _DEVICES.get(self.request.treatment, ()) if self.request is not None else ()

    def _closed(self, spot: Spot) -> bool:
        """Whether it has to be opened, as far as one knows."""
        return spot.open is False or (spot.open is None and spot.contents is None and spot.kind in self._prior.openable)

    def _steps(self, spot: Spot) -> int:
        """Steps until one stands before it."""
        return int(not self._memory.here(spot))

    def _steps_inside(self, spot: Spot) -> int:
        """Steps until one stands before it and it is open."""
        return self._steps(spot) + self._closed(spot)
