"""Policy versions: published in order, sampled by name, dropped when they are old and nothing uses them any more."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from envs.errors import ConfigError, Conflict, InfrastructureError, InvalidOption, UnknownPolicy
from rollout_server.engines.adapters import AdapterInfo, check_adapter, check_finite, check_fit
from rollout_server.engines.base import Engine
from rollout_server.engines.model_shapes import model_shapes
from rollout_server.types import PolicyVersion

__all__ = ["PolicyRegistry"]

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class PolicyRegistry:
    """The versions that an engine can sample from, oldest first; the last is current. The first is the base model.

    The newest ``keep_last`` adapters stay loaded, and older ones as long as an episode uses them. A version keeps the
    number and the name that it was given: neither is used again. Reading is safe from any thread; publishing and
    acquiring belong on the engine's event loop. An adapter's folder must stay where it is while its version is known:
    an engine may read it again.

    An adapter is judged before the engine sees it: ``max_bytes`` of weights, none of them NaN or infinite, its rank,
    the model that it was trained on and the shapes of that model, as far as the engine tells and its files are here.

    An episode acquires its version and, before each turn, asks ``now`` which one to sample from: the same, until it was
    dropped by force.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        keep_last: int = 3,
        base: str = "base",
        max_bytes: int | None = None,
        any_base_model: bool = False,
    ) -> None:
        if keep_last < 1:
            raise ConfigError(f"keep_last is {keep_last}, but at least the newest adapter must stay", hint="1 or more")
        self._engine = engine
        self._keep_last = keep_last
        self._max_bytes = max_bytes
        self._any_base_model = any_base_model
        self._shapes: Mapping[str, tuple[int, ...]] | None = None
        self._versions = [PolicyVersion(name=base, number=0)]
        self._used_names = {base}
        self._next_number = 1
        self._pins: Counter[str] = Counter()
        self._state = threading.Lock()
        self._publishing = asyncio.Lock()

    @property
    def current(self) -> PolicyVersion:
        """The version that a new episode samples from unless told otherwise."""
        with self._state:
            return self._versions[-1]

    def versions(self) -> tuple[PolicyVersion, ...]:
        """The known versions, oldest first."""
        with self._state:
            return tuple(self._versions)

    def get(self, name: str | None = None) -> PolicyVersion:
        """The version of this name, or the current one. Raises UnknownPolicy."""
        with self._state:
            return self._find(name)

    def pins(self) -> Mapping[str, int]:
        """How many episodes hold each version; those that none holds are left out."""
        with self._state:
            return {name: count for name, count in self._pins.items() if count}

    async def publish(
        self, name: str, adapter_path: Path, *, any_base_model: bool = False, number: int | None = None
    ) -> PolicyVersion:
        """Load an adapter into the engine as the newest version and make it current. Requests under way go on.

        ``any_base_model``, here or for all: it may name another base model than the engine's; its shapes must fit.
        ``number``: the one that it had before a restart. Nothing changes where it fails. Raises: InvalidOption (name),
        Conflict (name in use or used before), ConfigError (the folder is no adapter or does not fit),
        BackendUnavailable.
        """
        if not _NAME.fullmatch(name):
            raise InvalidOption(
                f"the policy name {name!r} is not usable",
                hint="1 to 100 letters, digits, dots, dashes and underscores, beginning with a letter or a digit",
            )
        adapter = await asyncio.to_thread(self._check, adapter_path, any_base_model)
        async with self._publishing:
            with self._state:
                if name in self._used_names:
                    raise Conflict(
                        f"a policy named {name!r} was published before", hint="names are used once, like step-12"
                    )
                number = self._next_number if number is None else max(number, self._next_number)
                version = PolicyVersion(name=name, number=number, adapter_path=str(adapter.path))
            await self._engine.load_policy(version)
            with self._state:
                self._used_names.add(name)
                self._next_number = number + 1
                self._versions.append(version)
        await self._drop_old()
        return version

    def _check(self, path: Path, any_base_model: bool) -> AdapterInfo:
        names: tuple[str, ...] = getattr(self._engine, "base_models", ())  # none of a script
        info = check_adapter(
            path,
            max_rank=getattr(self._engine, "max_lora_rank", None) or None,  # 0: no adapters, as the engine says itself
            base_models=() if any_base_model or self._any_base_model else names,
            max_bytes=self._max_bytes,
        )
        if self._shapes is None:
            self._shapes = next(filter(None, map(model_shapes, names)), {})
        check_fit(info, self._shapes)
        check_finite(info)
        return info

    async def drop(self, name: str, *, force: bool = False) -> None:
        """Forget an adapter before its time; where it was current, the version before it is.

        ``force`` drops it under the episodes that hold it: what the engine is sampling ends as it began, and the next
        turn is ``now``'s. Raises: UnknownPolicy; Conflict for the base model and, without ``force``, for one in use.
        """
        async with self._publishing:
            with self._state:
                version = self._find(name)
                if version.adapter_path is None:
                    raise Conflict("the base model cannot be dropped", hint="drop adapters")
                if self._pins[name] and not force:
                    raise Conflict(
                        f"{self._pins[name]} episodes hold the policy {name!r}",
                        hint="wait for them, or force it: they go on with the current version and are marked so",
                    )
                self._versions.remove(version)
            await self._unload(version)

    @asynccontextmanager
    async def acquire(self, name: str | None = None) -> AsyncIterator[PolicyVersion]:
        """Use a version (None: the current one) for an episode: it is not dropped meanwhile. Raises UnknownPolicy."""
        with self._state:
            version = self._find(name)
            self._pins[version.name] += 1
        try:
            yield version
        finally:
            with self._state:
                self._pins[version.name] -= 1
            await self._drop_old()

    def _find(self, name: str | None) -> PolicyVersion:
        if name is None:
            return self._versions[-1]
        for version in self._versions:
            if version.name == name:
                return version
        known = ", ".join(v.name for v in self._versions)
        reason = "was dropped" if name in self._used_names else "was never published"
        raise UnknownPolicy(f"the policy {name!r} {reason}", hint=f"known: {known}")

    async def _drop_old(self) -> None:
        with self._state:
            adapters = [v for v in self._versions if v.adapter_path is not None]
            old = [v for v in adapters[: -self._keep_last] if not self._pins[v.name]]
            self._versions = [v for v in self._versions if v not in old]
            self._pins += Counter()  # forget zeros
        for version in old:
            await self._unload(version)

    async def _unload(self, version: PolicyVersion) -> None:
        try:
            await self._engine.unload_policy(version.name)
        except InfrastructureError as error:
            # Only memory is at stake: the episode that ended, or the version that was published, is good.
            _LOG.warning("policy %s could not be unloaded: %s", version.name, error)
