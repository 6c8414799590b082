"""A policy that is a person: sees each observation on the terminal and types what to do."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable

from envs.errors import BackendUnavailable, ConfigError
from envs.types import Action, EnvSpec, Observation, ToolSpec
from rollout_server.chat import ChatFormat
from rollout_server.engines.base import GenerationRequest, Tokenizer
from rollout_server.replay_view import visible
from rollout_server.types import Completion, FinishReason, PolicyVersion

__all__ = ["HandEngine", "LineInput", "read_action"]

_QUIT = "quit"


class LineInput:
    """Lines of a file descriptor, awaited: a terminal, a pipe or a file. No thread is left waiting for a person."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read = bytearray()

    async def line(self) -> str | None:
        """The next line without its end; None where there is no more."""
        while b"\n" not in self._read:
            chunk = await self._chunk()
            if not chunk:
                rest, self._read = self._read.decode(errors="replace"), bytearray()
                return rest or None
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace")

    async def _chunk(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:  # a plain file: it never waits
            return os.read(self._descriptor, 65_536)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, 65_536)


class HandEngine:
    """An engine whose turns are typed. ``say`` prints, ``lines`` reads; the end of input or ``quit`` stops the episode.

    A turn is one action, written as the protocol writes it and encoded with ``tokenizer``. Logprobs are 0, as those of
    scripts: nothing was drawn.
    """

    name = "hand"
    model = "hand"

    def __init__(self, tokenizer: Tokenizer, lines: LineInput, say: Callable[[str], None]) -> None:
        self.tokenizer = tokenizer
        self.stopped = False
        self._chat = ChatFormat(tokenizer)
        self._lines = lines
        self._say = say
        self._stop: Callable[[], object] | None = None

    def on_stop(self, stop: Callable[[], object]) -> None:
        """``stop`` is called when the person stops; it must cancel whoever waits for the turn."""
        self._stop = stop

    async def start(self) -> None:
        """Nothing to load."""

    async def generate(self, request: GenerationRequest) -> Completion:
        """Show the observation, ask until the answer is an action. Raises ConfigError outside the agent loop."""
        script = request.script
        if script is None:
            raise ConfigError("playing by hand needs the agent loop", hint="envloop replay fork … --by-hand")
        self._say(f"\n--- turn {script.turn} ---\n{visible(script.observation.text)}")
        self._say(_help(script.env, script.observation))
        while True:
            line = await self._lines.line()
            if line is None or line.strip() == _QUIT:
                return await self._stopped()
            action = read_action(script.env, script.observation, line)
            if isinstance(action, str):
                self._say(action)
                continue
            ids = tuple(self._chat.turn(script.render(action, "")))
            if len(ids) > request.sampling.max_tokens:
                self._say(
                    f"that has {len(ids)} tokens, and a turn at most {request.sampling.max_tokens}: shorter, please"
                )
                continue
            return Completion(ids, (0.0,) * len(ids), FinishReason.STOP, request.policy.name)

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Raises BackendUnavailable: a person takes no adapter."""
        raise BackendUnavailable("a person takes no adapters", hint="use the vllm or transformers engine")

    async def unload_policy(self, name: str) -> None:
        """Nothing to forget."""

    async def close(self) -> None:
        """Nothing to free."""

    async def _stopped(self) -> Completion:
        self.stopped = True
        if self._stop is None:
            raise ConfigError("the input ended before the episode did")
        self._stop()
        await asyncio.Event().wait()  # until the cancellation that was just asked for
        raise AssertionError("unreachable")


def read_action(env: EnvSpec, observation: Observation, line: str) -> Action | str:
    """The action that a line means, or what is wrong with it.

    A number chooses from the admissible actions. A tool's name and its argument call that tool; anything else is the
    argument of the first one. A list is written as JSON, or as one plain value.
    """
    text = line.strip()
    if not text:
        return "type an action, or quit"
    if observation.admissible_actions and text.isascii() and text.isdecimal():
        if not 1 <= int(text) <= len(observation.admissible_actions):
            return f"there are the actions 1 to {len(observation.admissible_actions)}"
        text = observation.admissible_actions[int(text) - 1]
    word, _, rest = text.partition(" ")
    named = next((tool for tool in env.tools if tool.name == word), None)
    return _call(named, rest.strip()) if named else _call(env.tools[0], text)


def _call(tool: ToolSpec, text: str) -> Action:
    name, schema = next(iter(tool.parameters["properties"].items()))
    if schema.get("type") != "array":
        return Action(tool.name, {name: text})
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return Action(tool.name, {name: value if isinstance(value, list) else [text] if text else []})


def _help(env: EnvSpec, observation: Observation) -> str:
    lines = [f"{number:4} {visible(text)}" for number, text in enumerate(observation.admissible_actions, 1)]
    if len(env.tools) > 1:
        lines += [f"     {tool.name} {next(iter(tool.parameters['properties']))}" for tool in env.tools]
    return "\n".join([*lines, "action (a number, a text, or quit):"])
