"""Several engines as one: the least loaded first, an episode where its prefix is cached, the failed ones out.

Every member serves the same model: in this process, or behind an OpenAI-compatible API somewhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envs.errors import BackendUnavailable, ConfigError, EnvloopError, InfrastructureError, UnknownPolicy
from rollout_server.engines.base import Engine, GenerationRequest, Tokenizer
from rollout_server.engines.member import Fingerprint, Member
from rollout_server.engines.prefixes import PrefixIndex
from rollout_server.types import Completion, PolicyVersion

__all__ = ["EnginePool"]

_LOG = logging.getLogger(__name__)
_MORE, _SPARE = 1.5, 2  # a cached prefix is worth so many times the least load, and so many requests, but no more


@dataclass(eq=False, slots=True)
class _Ticket:
    """A request that waits for a member. ``tried``: those that failed it already, the last to be asked again."""

    policy: PolicyVersion
    taken: asyncio.Future[Member]
    cached: frozenset[int]
    tried: frozenset[int]


class EnginePool:
    """An ``Engine`` over others that serve the same model.

    A request goes to the member that has most of its prompt cached, unless that one is clearly more loaded; else to the
    least loaded. One that failed by infrastructure is sent elsewhere, up to ``attempts`` times in all; the member that
    failed it is out until a probe finds it well again, first after ``probe_s`` seconds, then after twice as long each
    time up to ``probe_limit_s``. While no member is up, requests wait up to ``patience_s`` for one.

    Policies are loaded on all members that are up; one that comes back gets what it missed before it is used; one that
    cannot load a policy that others can is out. ``capacity``: requests at once, of every member or one number each;
    what is more waits here, in order.
    """

    name = "pool"

    def __init__(
        self,
        members: Sequence[Engine],
        *,
        labels: Sequence[str] = (),
        capacity: int | Sequence[int] = 64,
        attempts: int = 4,
        probe_s: float = 0.25,
        probe_limit_s: float = 15.0,
        patience_s: float = 60.0,
    ) -> None:
        capacities = [capacity] * len(members) if isinstance(capacity, int) else list(capacity)
        labels = labels or [f"{number} ({engine.name})" for number, engine in enumerate(members)]
        if not members or not len(members) == len(capacities) == len(labels) or min(capacities) < 1 or attempts < 1:
            raise ConfigError(
                f"a pool of {len(members)} engines with capacities {capacities}, {attempts} attempts",
                hint="at least one engine, a capacity of 1 or more for each, 1 attempt or more",
            )
        self._members = [Member(*parts) for parts in zip(range(len(members)), members, labels, capacities, strict=True)]
        self.model = members[0].model
        self._find_tokenizer()
        self.max_model_len = 0  # the shortest of the members', known after start()
        self._attempts = attempts
        self._probe_s, self._probe_limit_s, self._patience_s = probe_s, probe_limit_s, patience_s
        self._reference: Fingerprint | None = None
        self._policies: dict[str, PolicyVersion] = {}
        self._prefixes = PrefixIndex()
        self._waiting: deque[_Ticket] = deque()
        self._start_lock = asyncio.Lock()
        self._loading = asyncio.Lock()
        self._open = False

    @property
    def alive(self) -> bool:
        """Whether any member takes requests."""
        return any(member.up for member in self._members)

    @property
    def base_models(self) -> tuple[str, ...]:
        """The names that the members know their model by."""
        return tuple({name: None for m in self._members for name in getattr(m.engine, "base_models", ())})

    @property
    def max_lora_rank(self) -> int | None:
        """The largest rank that every member takes; None where no member says."""
        ranks = [getattr(member.engine, "max_lora_rank", None) for member in self._members]
        return min((rank for rank in ranks if rank is not None), default=None)

    @property
    def constrains(self) -> bool:
        """Whether every member can hold a turn to a grammar."""
        return all(getattr(member.engine, "constrains", False) for member in self._members)

    @property
    def keeps_time(self) -> bool:
        """Whether every member stops in time and answers what it has sampled."""
        return all(getattr(member.engine, "keeps_time", False) for member in self._members)

    def status(self) -> list[dict[str, Any]]:
        """One object a member: load, health and why, policies."""
        return [member.status() for member in self._members]

    async def start(self) -> None:
        """Start every member. Those that cannot be reached are tried again later; at least one must be there.

        Raises: ConfigError where a member is set up wrongly or serves another model; the first member's error where
        none can be reached.
        """
        async with self._start_lock:
            if self._open:
                return
            found = await asyncio.gather(*map(self._first_start, self._members), return_exceptions=True)
            errors = [one for one in found if isinstance(one, BaseException)]
            wrong = [error for error in errors if not isinstance(error, InfrastructureError)]
            try:
                if wrong or len(errors) == len(found):
                    raise (wrong or errors)[0]
                self._agree([one for one in found if isinstance(one, Fingerprint)])
            except BaseException:
                await self._close_members()
                raise
            self._open = True
            for member, outcome in zip(self._members, found, strict=True):
                if isinstance(outcome, EnvloopError):
                    self._out(member, outcome)
            self._admit()

    def _find_tokenizer(self) -> None:
        found = [member.engine.tokenizer for member in self._members if hasattr(member.engine, "tokenizer")]
        if found:
            self.tokenizer: Tokenizer = found[0]

    async def _first_start(self, member: Member) -> Fingerprint:
        mark = await member.revive({}, None)
        member.up = True
        return mark

    def _agree(self, marks: Sequence[Fingerprint]) -> None:
        up = [member for member in self._members if member.up]
        for member, mark in zip(up[1:], marks[1:], strict=True):
            marks[0].refuse(mark, up[0].label, member.label)
        self._reference = marks[0]
        self._find_tokenizer()
        self._measure()

    def _measure(self) -> None:
        known = [getattr(member.engine, "max_model_len", 0) for member in self._members if member.up]
        self.max_model_len = min(filter(None, known), default=0)

    async def generate(self, request: GenerationRequest) -> Completion:
        """Sample one turn on one of the members; see ``Engine.generate``. Cancelling cancels it there.

        Raises BackendUnavailable where every attempt failed, or no member came back in time.
        """
        tried: set[int] = set()
        for left in reversed(range(self._attempts)):
            member = await self._take(request, tried)
            try:
                return await member.engine.generate(request)
            except (UnknownPolicy, InfrastructureError, ConfigError) as error:
                if isinstance(error, UnknownPolicy) and request.policy.name not in self._policies:
                    raise  # unloaded meanwhile; otherwise the server was started again and has forgotten it
                member.failures += 1
                tried.add(member.number)
                self._out(member, error)
                if not left:
                    raise
            finally:
                member.in_flight -= 1
                self._admit()
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _take(self, request: GenerationRequest, tried: set[int]) -> Member:
        """Wait for a member, in order of arrival, and count the request as its own."""
        name, needs = request.policy.name, request.policy.adapter_path is not None
        if not self._open:
            raise BackendUnavailable("the pool of engines is not running", hint="call start() first")
        if needs and name not in self._policies:
            raise _unknown(name)
        ticket = _Ticket(
            request.policy,
            asyncio.get_running_loop().create_future(),
            self._prefixes.find(name, request.prompt_ids),
            frozenset(tried),
        )
        self._waiting.append(ticket)
        self._admit()
        try:
            hope = True
            while not ticket.taken.done():
                await asyncio.wait([ticket.taken], timeout=self._patience_s)
                before, hope = hope, any(member.has(request.policy) for member in self._members)
                if not (before or hope or ticket.taken.done()):
                    raise self._nobody(name)
        except BaseException:
            self._give_up(ticket)
            raise
        member = ticket.taken.result()
        member.requests += 1
        self._prefixes.add(name, request.prompt_ids, member.number)
        return member

    def _give_up(self, ticket: _Ticket) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif ticket.taken.done() and ticket.taken.exception() is None:  # admitted and cancelled in the same turn
            ticket.taken.result().in_flight -= 1
            self._admit()

    def _admit(self) -> None:
        """Give members to those who wait, in order, as far as there is room."""
        for ticket in list(self._waiting):
            if not any(member.up and member.in_flight < member.capacity for member in self._members):
                return
            member = self._choose(ticket)
            if member is not None:
                self._waiting.remove(ticket)
                member.in_flight += 1
                ticket.taken.set_result(member)

    def _choose(self, ticket: _Ticket) -> Member | None:
        open_to = [m for m in self._members if m.has(ticket.policy) and m.in_flight < m.capacity]
        if not open_to:
            return None
        open_to = [m for m in open_to if m.number not in ticket.tried] or open_to
        least = min(open_to, key=_load_of)
        home = min((m for m in open_to if m.number in ticket.cached), key=_load_of, default=least)
        return home if home.in_flight <= _MORE * least.load * home.capacity + _SPARE else least

    def _nobody(self, policy: str) -> BackendUnavailable:
        why = "; ".join(f"{m.label}: {m.error or 'without this policy'}" for m in self._members)
        return BackendUnavailable(f"no engine of the pool can sample {policy!r}: {why}", hint="see the engines' logs")

    def _out(self, member: Member, error: EnvloopError) -> None:
        """Send nothing more to a member until it is found well."""
        if member.up:
            _LOG.warning("engine %s is out: %s", member.label, error)
            self._prefixes.forget(member.number)
        member.up, member.error = False, error
        if self._open and (member.probe is None or member.probe.done()):
            member.probe = asyncio.create_task(self._bring_back(member))

    async def _bring_back(self, member: Member) -> None:
        """Probe a member until it is well and has every policy. Ends with the pool."""
        delay = self._probe_s
        while True:
            await asyncio.sleep(delay)
            try:
                await member.revive(self._policies, self._reference)
                break
            except Exception as error:  # noqa: BLE001 - logged and shown; a probe that ends would keep the member out
                known = (
                    error if isinstance(error, EnvloopError) else BackendUnavailable(f"{type(error).__name__}: {error}")
                )
                if str(known) != str(member.error):
                    _LOG.warning("engine %s stays out: %s", member.label, known)
                member.error = known
                delay = min(2 * delay, self._probe_limit_s)
        member.up, member.error = True, None
        _LOG.warning("engine %s is back", member.label)
        self._measure()
        self._admit()

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Load an adapter on every member that is up; see ``Engine.load_policy``. Others get it when they are back.

        A member that cannot, where another can, is out. Raises only where none can.
        """
        if policy.adapter_path is None:
            return
        async with self._loading:
            if policy.name in self._policies:
                return
            try:
                outcomes = await self._load_everywhere(policy)
                loaded = None in outcomes.values()
                errors = {member: error for member, error in outcomes.items() if error is not None}
                for member, error in errors.items():
                    if loaded or isinstance(error, InfrastructureError):
                        self._out(member, error)
                if not loaded:
                    first = min(errors.values(), key=lambda error: isinstance(error, InfrastructureError), default=None)
                    raise first or BackendUnavailable("no engine of the pool is up", hint="see /readyz")
            except BaseException:  # also cancelled, when some have it: the name may be given to other weights yet
                for member in self._members:
                    member.distrust(policy.name)
                raise
            self._policies[policy.name] = policy

    async def _load_everywhere(self, policy: PolicyVersion) -> dict[Member, EnvloopError | None]:
        """What each member that is up said to it, those too that came up meanwhile."""
        outcomes: dict[Member, EnvloopError | None] = {}
        while turn := [member for member in self._members if member.up and member not in outcomes]:
            said = await asyncio.gather(*(_load(member, policy) for member in turn))
            outcomes |= dict(zip(turn, said, strict=True))
        return outcomes

    async def unload_policy(self, name: str) -> None:
        """Forget an adapter on every member; one that does not answer is told when it is back."""
        async with self._loading:
            self._policies.pop(name, None)
            for ticket in [one for one in self._waiting if one.policy.name == name]:
                self._waiting.remove(ticket)
                ticket.taken.set_exception(_unknown(name))
            await asyncio.gather(*(_unload(m, name) for m in self._members if m.up))

    async def close(self) -> None:
        """End the probes, the members and those who wait. Idempotent."""
        async with self._start_lock:
            self._open = False
            while self._waiting:
                self._waiting.popleft().taken.set_exception(BackendUnavailable("the pool of engines was closed"))
            await self._close_members()
            self._policies.clear()

    async def _close_members(self) -> None:
        await asyncio.gather(*(member.close() for member in self._members))


def _unknown(name: str) -> UnknownPolicy:
    return UnknownPolicy(f"no engine has the policy {name!r} loaded", hint="publish it first")


def _load_of(member: Member) -> tuple[float, int]:
    return member.load, member.number


async def _load(member: Member, policy: PolicyVersion) -> EnvloopError | None:
    try:
        await member.load_policy(policy)
    except EnvloopError as error:
        return error
    return None


async def _unload(member: Member, name: str) -> None:
    try:
        await member.unload_policy(name)
    except InfrastructureError as error:
        _LOG.warning("engine %s keeps policy %s for now: %s", member.label, name, error)
