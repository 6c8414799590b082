"""Serving an ASGI app in a process of its own: signals, the end of standard input, an orderly end. For both servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from fastapi import FastAPI

from envs.errors import ConfigError

__all__ = ["bind", "run_app"]


class _Server(uvicorn.Server):
    """Leaves the signals to ``run_app``, which has more to end than uvicorn knows of, and says when it listens."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call back."""
        await super().startup(sockets)
        await self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_app(
    app: FastAPI,
    *,
    host: str,
    port: int,
    log_level: str,
    grace_s: float,
    on_started: Callable[[str], Awaitable[None]],
    stop_on_eof: bool = False,
    listener: socket.socket | None = None,
    frame_limit: int = 1 << 20,
) -> None:
    """Serve until SIGINT or SIGTERM, then leave the app's lifespan. Runs in the main thread.

    ``on_started`` is given the URL once the server listens (``port`` 0 takes a free one). Running requests get
    ``grace_s`` seconds to end; a second signal does not wait for them. ``stop_on_eof`` also stops it when its standard
    input is closed, so that it never outlives the process that started it. ``listener`` is a bound socket to use
    instead, which several processes may share. ``frame_limit``: bytes in one message of a WebSocket.
    Raises: ConfigError where the address is taken; whatever the lifespan raises.
    """
    listener = listener or bind(host, port)
    config = uvicorn.Config(
        app,
        lifespan="off",  # entered below, so that its errors reach the caller and its end is certain
        # At debug uvicorn logs the headers of every WebSocket, the token among them.
        log_level="info" if log_level == "debug" else log_level,
        log_config=None,  # as the process has it
        access_log=False,  # Guard tells more: the request's id, and how long it took
        timeout_graceful_shutdown=max(1, round(grace_s)),
        server_header=False,
        ws_max_size=frame_limit,
    )
    bound, taken = listener.getsockname()[:2]
    server = _Server(config, lambda: on_started(_url(bound, taken)))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        running = asyncio.current_task()
        stopping = False

        def stop() -> None:
            nonlocal stopping
            if server.started:
                server.force_exit = server.should_exit  # asked twice: do not wait for requests
                server.should_exit = True
            elif running is not None and not stopping:
                running.cancel()
            stopping = True

        def watch_input() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        if stop_on_eof:
            loop.add_reader(0, watch_input)
        async with app.router.lifespan_context(app):
            await server.serve(sockets=[listener])

    try:
        with (
            asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
            contextlib.suppress(asyncio.CancelledError),
        ):
            runner.run(main())
    finally:
        listener.close()


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that is bound and does not listen yet. Raises ConfigError where the address is taken.

    With ``shared`` several of this user's processes may bind it, and the system spreads connections over them.
    """
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="choose another --host or --port (0 takes a free port), or end what uses it",
        ) from error
    return listener


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
