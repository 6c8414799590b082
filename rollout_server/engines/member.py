"""One engine of a pool: how busy it is, whether it answers, and which policies it has."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import Any

from envs.errors import ConfigError, EnvloopError, InfrastructureError
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.types import PolicyVersion, SamplingParams

__all__ = ["Fingerprint", "Member"]

_LOG = logging.getLogger(__name__)
_TEXT = "Once upon a time, there was a"
_SAME_MODEL = 0.2  # nats between two engines' logprobs of one token: several times what precisions differ by


class Fingerprint:
    """What one engine says of a fixed text, to know the same model by: ids, greedy token and its logprob."""

    def __init__(self, model: str, tokens: tuple[int, ...], sampled: int, logprob: float) -> None:
        self.model = model
        self.tokens = tokens
        self.sampled = sampled
        self.logprob = logprob

    @classmethod
    async def of(cls, engine: Engine) -> Fingerprint:
        """Ask the engine. Raises: InfrastructureError; ConfigError."""
        tokens = tuple(engine.tokenizer.encode(_TEXT, markup=False))
        if engine.name == "scripted":  # it reads the environment and no tokens
            return cls(engine.model, tokens, 0, 0.0)
        greedy = SamplingParams(temperature=0.0, max_tokens=1)
        done = await engine.generate(GenerationRequest(tokens, greedy, PolicyVersion()))
        return cls(engine.model, tokens, done.token_ids[0], done.logprobs[0])

    def refuse(self, other: Fingerprint, first: str, second: str) -> None:
        """Raise ConfigError where ``other`` is of another model: one episode would be played by both."""
        if self.model != other.model:
            raise _apart(f"{first} serves {self.model!r}, {second} serves {other.model!r}")
        if self.tokens != other.tokens:
            raise _apart(f"{first} and {second} have different tokenizers")
        if not math.isclose(self.logprob, other.logprob, abs_tol=_SAME_MODEL):
            raise _apart(
                f"{first} and {second} both call their model {self.model!r}, but the likeliest next token after a "
                f"fixed text has logprob {self.logprob:.3f} there and {other.logprob:.3f} here"
            )


class Member:
    """The state of one engine in a pool. Only the pool changes it, on one event loop.

    ``label`` names it in logs. ``capacity``: how many requests it may have at once.
    """

    def __init__(self, number: int, engine: Engine, label: str, capacity: int) -> None:
        self.number = number
        self.engine = engine
        self.label = label
        self.capacity = capacity
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self.up = False
        self.error: EnvloopError | None = None
        self.probe: asyncio.Task[None] | None = None
        self.policies: set[str] = set()
        self._owed: set[str] = set()  # adapters that it could not be told to forget
        self._changing = asyncio.Lock()

    @property
    def load(self) -> float:
        """The share of its capacity that is taken."""
        return self.in_flight / self.capacity

    def has(self, policy: PolicyVersion) -> bool:
        """Whether it is up and can sample this policy."""
        return self.up and (policy.adapter_path is None or policy.name in self.policies)

    async def revive(self, wanted: Mapping[str, PolicyVersion], reference: Fingerprint | None) -> Fingerprint:
        """Start the engine or find that it answers again, then give it every policy that it has missed.

        Raises: ConfigError where it serves something else or cannot take a policy; InfrastructureError.
        """
        await self.engine.start()
        check = getattr(self.engine, "check", None)  # of a server that somebody else starts and stops
        if check is not None:
            self.policies &= set(await check())
        mark = await Fingerprint.of(self.engine)
        if reference is not None:
            reference.refuse(mark, "another engine of the pool", self.label)
        for name in self._owed | (self.policies - wanted.keys()):
            await self.unload_policy(name)
        while missing := [policy for name, policy in wanted.items() if name not in self.policies]:
            await self.load_policy(missing[0])  # last, and until none is missing: more may be published meanwhile
        return mark

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Load an adapter. Raises as ``Engine.load_policy``."""
        async with self._changing:
            if policy.name in self._owed:
                await self.engine.unload_policy(policy.name)
                self._owed.discard(policy.name)
            if policy.name not in self.policies:
                await self.engine.load_policy(policy)
                self.policies.add(policy.name)

    def distrust(self, name: str) -> None:
        """What it may have under this name was never published: it is unloaded before the name is loaded again."""
        self.policies.discard(name)
        self._owed.add(name)

    async def unload_policy(self, name: str) -> None:
        """Forget an adapter; where the engine does not answer, when it is back. Raises: InfrastructureError."""
        async with self._changing:
            self.policies.discard(name)
            self._owed.add(name)
            await self.engine.unload_policy(name)
            self._owed.discard(name)

    def status(self) -> dict[str, Any]:
        """What an operator wants to know, as JSON."""
        return {
            "engine": self.label,
            "ready": self.up,
            "in_flight": self.in_flight,
            "capacity": self.capacity,
            "requests": self.requests,
            "failures": self.failures,
            "policies": sorted(self.policies),
            "error": None if self.error is None else self.error.to_json(),
        }

    async def close(self) -> None:
        """End the probe and the engine. A failure of one must not keep the others open."""
        self.up = False
        self.policies.clear()
        self._owed.clear()
        if self.probe is not None:
            self.probe.cancel()
            await asyncio.wait([self.probe])
        try:
            await self.engine.close()
        except InfrastructureError as error:
            _LOG.warning("engine %s could not be closed: %s", self.label, error)


def _apart(what: str) -> ConfigError:
    return ConfigError(
        f"the engines of a pool serve different models: {what}", hint="serve one model with one tokenizer on all"
    )
