"""The reference engine: TextWorld through the ``alfworld`` package, in worker processes. Thousands of times slower.

A session leases one worker; a worker plays one game at a time. TextWorld gives no memory back, so a worker that has
grown beyond the limit is ended when its session closes, and another is started for the next one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from envs.alfworld.engine import GameSource
from envs.alfworld.game import game_texts
from envs.alfworld.pddl import Fact
from envs.errors import BackendUnavailable, CapacityExceeded, ConfigError, TaskDataError
from envs.types import Readiness

__all__ = ["FAST_WORKER", "STOCK_WORKER", "TextWorldEngine", "TextWorldSession"]

# What starts a worker: TextWorld as it is installed, or the one that remembers (see textworld_fast_worker).
STOCK_WORKER = (sys.executable, "-m", "envs.alfworld.textworld_worker")
FAST_WORKER = (sys.executable, "-m", "envs.alfworld.textworld_fast_worker")

_PACKAGES = ("textworld", "alfworld", "fast_downward")
_OF_THE_AGENT = frozenset({"atlocation", "holdsany", "holds"})
_CHUNK_BYTES = 1 << 16


class _Worker:
    """One worker process and its two pipes. Neither a write nor a read waits longer than the timeout.

    ``stop`` may be called while another thread waits for an answer: that one gets its BackendUnavailable at once.
    """

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._timeout_s = timeout_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        # TextWorld copies its planner's library (34 MB) to a temporary folder; nothing of it may outlive the start.
        self._folder = tempfile.TemporaryDirectory(prefix="envloop-textworld-", ignore_cleanup_errors=True)
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=os.environ | {"PYTHONPATH": path, "TMPDIR": self._folder.name},
                bufsize=0,
            )
        except OSError as error:
            self._clean_up()
            msg = f"no TextWorld worker can be started: {error}"
            raise BackendUnavailable(msg) from error
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        os.set_blocking(self._requests.fileno(), False)
        os.set_blocking(self._answers.fileno(), False)
        self._in_use = threading.Lock()  # the pipes, by a request
        self.memory_bytes = 0
        try:
            self._receive()  # it says that it is ready
        except BackendUnavailable:
            self.stop()
            raise
        self._folder.cleanup()  # the library is loaded and unlinked; nothing else is written

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def request(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises BackendUnavailable where the worker died or is silent."""
        with self._in_use:
            if self._requests.closed:
                raise self._gone("has been stopped")
            self._send(memoryview(json.dumps(message).encode() + b"\n"))
            return self._receive()

    def stop(self) -> None:
        """End the process and free what it used. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        with self._in_use:  # who waits for an answer hears of the end from the pipe, as long as it is open
            self._requests.close()
            self._answers.close()
            self._clean_up()

    def _clean_up(self) -> None:
        self._log.close()
        self._folder.cleanup()

    def _send(self, unsent: memoryview) -> None:
        deadline = time.monotonic() + self._timeout_s
        while unsent:
            self._wait_for(self._requests, selectors.EVENT_WRITE, deadline)
            try:
                unsent = unsent[self._requests.write(unsent[:_CHUNK_BYTES]) or 0 :]
            except OSError as error:
                raise self._gone(f"cannot be written to ({error})") from error

    def _receive(self) -> dict[str, Any]:
        line = bytearray()
        deadline = time.monotonic() + self._timeout_s
        while not line.endswith(b"\n"):  # an answer is one line, and there is no other before the next request
            self._wait_for(self._answers, selectors.EVENT_READ, deadline)
            chunk = self._answers.read(_CHUNK_BYTES)
            if chunk == b"":
                raise self._gone("died")
            line += chunk or b""
        try:
            answer: dict[str, Any] = json.loads(line)
            self.memory_bytes = int(answer.get("memory", 0))
        except (ValueError, AttributeError) as error:  # whatever else wrote to its output
            raise self._gone(f"said what is no answer: {bytes(line)!r:.80}") from error
        return answer

    def _wait_for(self, pipe: IO[bytes], event: int, deadline: float) -> None:
        """Until a pipe is ready. Raises BackendUnavailable at the deadline (of ``time.monotonic``)."""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise self._gone(f"gave no answer within {self._timeout_s:g} s")

    def _gone(self, what: str) -> BackendUnavailable:
        hint = ""
        with contextlib.suppress(ValueError):  # the log is closed: the worker has been stopped
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            hint = lines[-1][:300] if lines else ""
        msg = f"TextWorld worker {self.pid} {what}"
        return BackendUnavailable(msg, hint=hint)


class TextWorldSession:
    """An episode of TextWorld in a worker of its own. ``with_facts``: also tell the facts after each step."""

    def __init__(self, engine: TextWorldEngine, worker: _Worker, *, with_facts: bool) -> None:
        self._engine = engine
        self._worker: _Worker | None = worker
        self._with_facts = with_facts
        self._facts: frozenset[Fact] | None = None
        self._admissible: list[str] = []
        self._won = False

    def reset(self) -> str:
        """Begin again (a second or more); the game's introduction."""
        return self._request({"op": "reset"})

    def step(self, command: str) -> tuple[str, bool]:
        """Apply a command: (what the player reads, whether the goal is reached)."""
        return self._request({"op": "step", "command": command}), self._won

    def admissible(self) -> list[str]:
        """Every command that the game accepts now, sorted."""
        return self._admissible[:]

    @property
    def won(self) -> bool:
        """Whether the goal is reached."""
        return self._won

    def facts(self) -> frozenset[Fact] | None:
        """The true facts that steps can change, as ``State.facts`` names them; None where they are not asked for."""
        return self._facts

    def state_hash(self) -> str:
        """Always "": TextWorld's state is not cheap to tell."""
        return ""

    def close(self) -> None:
        """Give the worker back."""
        worker, self._worker = self._worker, None
        if worker is not None:
            self._engine.release(worker)

    def _request(self, message: Mapping[str, Any]) -> str:
        if self._worker is None:
            msg = "this TextWorld session is closed"
            raise BackendUnavailable(msg)
        try:
            answer = self._worker.request({**message, "facts": self._with_facts})
        except BackendUnavailable:
            worker, self._worker = self._worker, None
            self._engine.discard(worker)
            raise
        self._won, self._admissible = bool(answer["won"]), list(answer["admissible"])
        if self._with_facts:
            # The domain has one agent, whom the native engine's facts leave out.
            self._facts = frozenset((name, *args[name in _OF_THE_AGENT :]) for name, *args in answer["facts"])
        return str(answer["text"])


class TextWorldEngine:
    """Opens games in TextWorld.

    ``max_workers`` processes at most; a worker above ``memory_limit_mb`` is not used again; no answer within
    ``timeout_s`` counts as a dead worker. ``command`` starts a worker. ``with_facts`` has sessions tell the facts as
    well. Raises ConfigError where the extra ``alfworld`` is not installed.
    """

    name = "textworld"

    def __init__(
        self,
        *,
        max_workers: int = 4,
        memory_limit_mb: int = 1500,
        timeout_s: float = 120.0,
        command: Sequence[str] = STOCK_WORKER,
        with_facts: bool = False,
    ) -> None:
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            msg = f"engine 'textworld' needs packages that are not installed: {', '.join(missing)}"
            raise ConfigError(msg, hint="pip install 'envloop[alfworld]' (needs a C++ compiler)")
        if max_workers < 1:
            msg = f"max_workers must be at least 1, not {max_workers}"
            raise ConfigError(msg)
        self._max_workers = max_workers
        self._memory_limit_bytes = memory_limit_mb * 1024 * 1024
        self._timeout_s = timeout_s
        self._command = tuple(command)
        self._with_facts = with_facts
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._leased: set[_Worker] = set()
        self._starting = 0
        self._closed = False

    def open(self, source: GameSource) -> TextWorldSession:
        """Lease a worker and load the game (a second or more).

        Raises TaskDataError, CapacityExceeded, BackendUnavailable.
        """
        game = game_texts(source.load(), path=source.path)
        worker = self._lease()
        try:
            answer = worker.request({"op": "open", "game": game})
        except BackendUnavailable:
            self.discard(worker)
            raise
        if "error" in answer:
            self.discard(worker)  # whatever a failed load leaves behind
            msg = f"{source.path}: TextWorld cannot load it: {answer['error']}"
            raise TaskDataError(msg)
        return TextWorldSession(self, worker, with_facts=self._with_facts)

    def release(self, worker: _Worker) -> None:
        """Take a worker back, for another game or, grown too large, to end it."""
        with self._lock:
            keep = not self._closed and worker in self._leased and worker.memory_bytes <= self._memory_limit_bytes
            if keep:
                self._leased.discard(worker)
                self._idle.append(worker)
        if not keep:
            self.discard(worker)

    def discard(self, worker: _Worker) -> None:
        """End a worker."""
        with self._lock:
            self._leased.discard(worker)
        worker.stop()

    def worker_pids(self) -> list[int]:
        """The process ids of the live workers."""
        with self._lock:
            return sorted(worker.pid for worker in [*self._idle, *self._leased])

    def ready(self) -> Readiness:
        """Whether another game can be opened now."""
        with self._lock:
            busy = len(self._leased) + self._starting
        detail = f"TextWorld, {busy} of {self._max_workers} workers busy"
        return Readiness(ready=not self._closed and busy < self._max_workers, detail=detail)

    def close(self) -> None:
        """End every worker. Idempotent."""
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._leased]
            self._idle.clear()
            self._leased.clear()
        for worker in workers:
            worker.stop()

    def _lease(self) -> _Worker:
        with self._lock:
            if self._closed:
                msg = "the TextWorld engine is closed"
                raise BackendUnavailable(msg)
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    self._leased.add(worker)
                    return worker
                worker.stop()  # it died between two episodes: nobody's loss
            if len(self._leased) + self._starting >= self._max_workers:
                msg = f"all {self._max_workers} TextWorld workers are busy"
                raise CapacityExceeded(msg, hint="close an episode, or raise textworld_workers")
            self._starting += 1
        try:
            worker = _Worker(self._command, self._timeout_s)  # seconds: outside the lock
        finally:
            with self._lock:
                self._starting -= 1
        if self._admit(worker):
            return worker
        worker.stop()
        msg = "the TextWorld engine was closed while a worker started"
        raise BackendUnavailable(msg)

    def _admit(self, worker: _Worker) -> bool:
        """Count a started worker as leased, unless the engine has been closed meanwhile."""
        with self._lock:
            if self._closed:
                return False
            self._leased.add(worker)
            return True
