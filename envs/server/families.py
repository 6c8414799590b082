"""The environment families of one server process: built at start, tried again where not ready, closed at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envs.base import EnvFamily, HasFigures
from envs.config import EnvServerSettings
from envs.errors import BackendUnavailable, ConfigError, EnvloopError, UnknownEnv
from envs.registry import Registry
from envs.types import EnvSpec, Readiness

__all__ = ["Families"]

_RETRY_S = 2.0

logger = logging.getLogger(__name__)


@runtime_checkable
class _Startable(EnvFamily, Protocol):
    """A family with machinery (a database server) that it starts when first needed, or when told."""

    def start(self) -> None: ...


@dataclass(slots=True)
class _Slot:
    """One enabled environment: its family, or why there is none yet and when to try again (monotonic seconds)."""

    spec: EnvSpec
    lock: asyncio.Lock
    family: EnvFamily | None = None
    error: EnvloopError | None = None
    retry_at: float = 0.0


class Families:
    """Families by name or versioned id.

    A family that cannot be built because something outside is missing (a database that is still starting) leaves the
    server up and not ready, and is tried again when it is asked for. A wrong setting stops the start instead.
    """

    def __init__(self, registry: Registry, settings: EnvServerSettings) -> None:
        self._registry = registry
        self._settings = settings
        self._slots = {spec.name: _Slot(spec, asyncio.Lock()) for spec in map(registry.spec, settings.envs)}
        self._closed = False
        self._warm = False

    @property
    def specs(self) -> Sequence[EnvSpec]:
        """The specs of the enabled environments, in the settings' order."""
        return tuple(slot.spec for slot in self._slots.values())

    async def start(self, *, warm: bool = False) -> None:
        """Build every family, side by side; ``warm`` also starts what a family would start with its first episode.

        Raises ConfigError after closing those that were built.
        """
        self._warm = warm
        results = await asyncio.gather(*map(self._build, self._slots.values()), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            await self.close()
            raise failures[0]

    def spec(self, name: str) -> EnvSpec:
        """The spec of an enabled environment. Raises UnknownEnv."""
        return self._slot(name).spec

    async def get(self, name: str) -> EnvFamily:
        """The family. Raises UnknownEnv, or the reason why it cannot be built now."""
        slot = self._slot(name)
        if slot.family is not None:
            return slot.family
        async with slot.lock:
            due = slot.family is None and time.monotonic() >= slot.retry_at
            family = await self._build(slot) if due else slot.family
        if family is not None:
            return family
        if slot.error is not None:
            raise type(slot.error)(slot.error.message, hint=slot.error.hint)
        raise BackendUnavailable(f"environment {slot.spec.name!r} is not loaded", hint="try again in a moment")

    async def readiness(self, name: str) -> Readiness:
        """Whether the environment can start episodes now. Raises UnknownEnv only."""
        try:
            family = await self.get(name)
            return await asyncio.to_thread(family.ready)
        except UnknownEnv:
            raise
        except EnvloopError as error:
            return Readiness(False, error.message, error.hint or "check its settings; the server's log says more")

    def figures(self) -> list[tuple[tuple[str, str], float]]:
        """What the families hold that there are, by environment and resource."""
        found: list[tuple[tuple[str, str], float]] = []
        for slot in self._slots.values():
            family: object = slot.family
            if isinstance(family, HasFigures):
                found += [((slot.spec.name, what), number) for what, number in family.figures().items()]
        return found

    async def close(self) -> None:
        """Close every family; one that fails to close does not keep the others open. Idempotent."""
        self._closed = True
        families = [slot.family for slot in self._slots.values() if slot.family is not None]
        for slot in self._slots.values():
            slot.family = None
        results = await asyncio.gather(*(asyncio.to_thread(f.close) for f in families), return_exceptions=True)
        for family, result in zip(families, results, strict=True):
            if isinstance(result, BaseException):
                logger.error("environment %s did not close cleanly", family.spec.name, exc_info=result)

    def _slot(self, name: str) -> _Slot:
        slot = self._slots.get(name)
        if slot is None:
            slot = next((s for s in self._slots.values() if s.spec.id == name), None)
        if slot is None:
            known = ", ".join(self._slots)
            raise UnknownEnv(f"no environment is called {name!r} here", hint=f"this server has: {known}")
        return slot

    def _make(self, name: str) -> EnvFamily:
        family = self._registry.make(name, **self._settings.family_settings(name))
        if self._warm and isinstance(family, _Startable):
            try:
                if family.ready().ready:  # else readiness says what is missing
                    family.start()
            except BaseException:
                family.close()
                raise
        return family

    async def _build(self, slot: _Slot) -> EnvFamily | None:
        name = slot.spec.name
        building = asyncio.create_task(asyncio.to_thread(self._make, name))
        try:
            slot.family = await asyncio.shield(building)
            slot.error = None
        except ConfigError:
            raise
        except EnvloopError as error:
            logger.warning("environment %s is not ready: %s", name, error)
            slot.error = error
            slot.retry_at = time.monotonic() + _RETRY_S
        except asyncio.CancelledError:
            # The thread cannot be stopped: wait for what it makes, so that close() finds it.
            await asyncio.wait([building])
            if building.exception() is None:
                slot.family = building.result()
            raise
        if self._closed and slot.family is not None:
            family, slot.family = slot.family, None
            await asyncio.to_thread(family.close)
            raise BackendUnavailable("the server is shutting down")
        return slot.family
