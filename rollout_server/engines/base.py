"""The seam of an engine: token ids in, token ids and logprobs out, from a named policy version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envs.types import Action, EnvSpec, Observation, ToolSpec
from rollout_server.constraints import Constraint
from rollout_server.types import Completion, Message, PolicyVersion, SamplingParams, StepRecord

__all__ = ["AskExpert", "ChatContext", "Engine", "GenerationRequest", "ScriptContext", "Tokenizer"]


class Tokenizer(Protocol):
    """What the loop needs of a tokenizer. Implementations: ``rollout_server.tokenizer``."""

    end_of_turn_id: int
    """The id of the token that ends a turn (``<|im_end|>`` in ChatML)."""

    def encode(self, text: str, *, markup: bool) -> list[int]:
        """Ids of a text, nothing added. ``markup`` True reads special tokens in the text as such (only for text that
        envloop wrote); False encodes them as ordinary characters (for everything that came from outside)."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included. For reading and parsing only."""
        ...


class AskExpert(Protocol):
    """Asks an expert of the environment, by default its first, what it would do now."""

    def __call__(self, expert: str | None = None, /) -> Awaitable[Action | None]:
        """The action, or None where the expert knows none. Raises: InvalidOption for a name; InfrastructureError."""
        ...


@dataclass(frozen=True, slots=True)
class ScriptContext:
    """What a scripted engine knows beyond tokens: the environment's view, so far (``initial``, ``steps``) and now, and
    how to write an action down, with the thought before it or "".

    ``seed`` is the turn's; ``episode_seed`` stays the same for an episode and differs within its group.
    """

    env: EnvSpec
    initial: Observation
    steps: tuple[StepRecord, ...]
    observation: Observation
    turn: int
    seed: int
    expert: AskExpert
    render: Callable[[Action, str], str]
    episode_seed: int = 0


@dataclass(frozen=True, slots=True)
class ChatContext:
    """The conversation behind a request's ids as messages, with the tools that it offers."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One turn to sample. ``script`` is read by scripted engines only, ``chat`` by those with ``text_only``.

    ``constraint``: what the turn may say, for engines with ``constrains``; its logprobs are then those of the
    constrained distribution. ``time_limit_s``: engines with ``keeps_time`` stop after so many seconds and answer what
    they have sampled by then, which may be nothing, with ``FinishReason.TIME``. Others are cancelled by the loop.
    """

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    policy: PolicyVersion
    script: ScriptContext | None = None
    constraint: Constraint | None = None
    time_limit_s: float | None = None
    chat: ChatContext | None = None


@runtime_checkable
class Engine(Protocol):
    """Samples completions. Many ``generate`` calls run at once on one event loop.

    Two abilities are told by attributes that an engine may lack (then it has not the ability): ``constrains`` and
    ``keeps_time``, see ``GenerationRequest``. An engine in front of others has those that all of them have. A third,
    ``text_only``, is a lack: the engine samples text, and its ids are not those that a model sampled.
    """

    name: str
    model: str
    tokenizer: Tokenizer

    async def start(self) -> None:
        """Load the model. Idempotent. Raises: ConfigError, BackendUnavailable."""
        ...

    async def generate(self, request: GenerationRequest) -> Completion:
        """Sample one turn, ending at ``tokenizer.end_of_turn_id`` or at ``sampling.max_tokens``.

        Cancelling the awaiting task stops the sampling. Raises: UnknownPolicy; InfrastructureError; InvalidOption for
        a constraint that the engine cannot hold to.
        """
        ...

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Make a LoRA adapter available under ``policy.name``. Requests under way are not disturbed.

        Raises: ConfigError where the adapter does not fit; BackendUnavailable where the engine cannot take adapters.
        """
        ...

    async def unload_policy(self, name: str) -> None:
        """Forget an adapter. Unknown names are ignored."""
        ...

    async def close(self) -> None:
        """Free the model and end its processes. Idempotent."""
        ...
