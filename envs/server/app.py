"""The environment server: ``create_app`` for any ASGI host, ``serve`` for a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from envs import __version__
from envs.config import EnvServerSettings
from envs.registry import Registry, default_registry
from envs.server.auth import Access
from envs.server.batches import build_batches
from envs.server.families import Families
from envs.server.guard import Guard, http_error, invalid_request
from envs.server.journal import Journal
from envs.server.journal_place import kept_journal
from envs.server.metrics import Metrics
from envs.server.openenv import OpenEnvServer
from envs.server.operations import Operations
from envs.server.pace import Pace
from envs.server.processes import run_processes
from envs.server.routes import build_routes
from envs.server.run import bind, run_app
from envs.server.sessions import SessionTable
from envs.server.stream import build_stream
from envs.types import Readiness

__all__ = ["create_app", "serve"]

logger = logging.getLogger(__name__)

_BACKLOG = 2048
# The journal's thread must not wait long for the interpreter: while it writes, no other process of the server can.
_SWITCH_S = 0.001
# Answers from so many bytes on are packed for who accepts that. An observation's text shrinks to a fifth even so fast.
_PACKED_FROM, _PACKING = 1024, 2

_DESCRIPTION = """Environments for language-model agents. Create an episode, step it, read its reward.

Every error has the shape `{"error": {"code", "message", "hint"}}`. An `infrastructure_error` is never a reward."""


def create_app(settings: EnvServerSettings, registry: Registry | None = None, *, warm: bool = False) -> FastAPI:
    """The app. Its lifespan builds the environments and, however it ends, closes every episode and environment.

    ``warm`` starts an environment's machinery (a private database) with the app and not with the first episode.

    Raises: ConfigError here for an unknown environment's name or a bad journal, and in the lifespan for settings that a
    family refuses; BackendUnavailable where the journal cannot be had.
    """
    families = Families(registry or default_registry(), settings)
    url = settings.journal_url.get_secret_value() if settings.journal_url else "off"
    journal = None if url == "off" else Journal(url)
    metrics = Metrics()
    sessions = SessionTable(
        families,
        max_episodes=settings.max_episodes,
        idle_timeout_s=settings.idle_timeout_s,
        remember_ended=settings.remember_ended,
        remember_ended_s=settings.remember_ended_s,
        threads=settings.threads,
        journal=journal,
        metrics=metrics,
    )
    access = Access(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await families.start(warm=warm)
            reaper = asyncio.create_task(_reap(sessions, settings.idle_timeout_s))
            try:
                yield
            finally:
                reaper.cancel()
                await asyncio.wait([reaper])
        finally:
            await sessions.aclose()
            await families.close()
            if journal is not None:
                await journal.aclose()

    app = FastAPI(
        title="envloop env server", version=__version__, description=_DESCRIPTION, lifespan=lifespan, debug=False
    )
    app.state.families = families
    app.state.journal = journal
    app.state.metrics = metrics
    operations = Operations(sessions, max_batch=settings.max_batch)
    pace = Pace(settings.max_requests_per_s)
    app.include_router(build_routes(families, operations, access, metrics))
    app.include_router(build_batches(operations))
    app.include_router(build_stream(operations, access, pace))
    for name in settings.openenv:
        server = OpenEnvServer(name, families, sessions, access, pace, body_limit=settings.body_limit)
        app.include_router(server.router(), prefix=server.path, include_in_schema=False)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(HTTPException, http_error)
    app.add_middleware(GZipMiddleware, minimum_size=_PACKED_FROM, compresslevel=_PACKING)
    app.add_middleware(Guard, access=access, body_limit=settings.body_limit, pace=pace)
    return app


async def _reap(sessions: SessionTable, idle_timeout_s: float) -> None:
    """Look for abandoned episodes, ten times within the idle time but at least every five seconds."""
    while True:
        await asyncio.sleep(min(5.0, idle_timeout_s / 10))
        try:
            await sessions.reap()
        except Exception:
            logger.exception("looking for abandoned episodes failed")


def serve(
    settings: EnvServerSettings,
    registry: Registry | None = None,
    *,
    on_ready: Callable[[str, Mapping[str, Readiness]], None] | None = None,
    stop_on_eof: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM, then close every environment. Runs in the main thread.

    Running episodes stay in the journal, and a server that is started with it goes on with them.

    With ``settings.workers`` above 1, so many processes serve the port together.

    ``on_ready`` is given the URL and each environment's readiness once the server listens. ``stop_on_eof`` also stops
    it when its standard input is closed, so that it never outlives the process that started it.
    Raises ConfigError: bound beyond loopback without a token, the address taken, or a setting that a family refuses.
    """
    settings.refuse_open_door()
    with kept_journal(settings) as settings:  # noqa: PLR1704 - from here on with the journal's address
        if settings.workers == 1:
            _serve_here(settings, registry, on_ready, stop_on_eof=stop_on_eof)
            return
        # A socket that all accept from gives most connections to whoever is first; Linux spreads them over several.
        spread = sys.platform == "linux"
        reserved = bind(settings.host, settings.port)
        port = reserved.getsockname()[1]
        if spread:
            other = bind(settings.host, port, shared=True)
            reserved.close()
            reserved = other
        else:
            reserved.listen(_BACKLOG)

        def work(number: int) -> None:
            listener = bind(settings.host, port, shared=True) if spread else reserved
            tell = on_ready if number == 0 else None
            _serve_here(settings, registry, tell, listener=listener)

        try:
            run_processes(settings.workers, work, stop_on_eof=stop_on_eof)
        finally:
            reserved.close()


def _serve_here(
    settings: EnvServerSettings,
    registry: Registry | None,
    on_ready: Callable[[str, Mapping[str, Readiness]], None] | None,
    *,
    stop_on_eof: bool = False,
    listener: socket.socket | None = None,
) -> None:
    sys.setswitchinterval(_SWITCH_S)
    app = create_app(settings, registry, warm=True)

    async def started(url: str) -> None:
        if on_ready is not None:
            families: Families = app.state.families
            names = [spec.name for spec in families.specs]
            states = await asyncio.gather(*map(families.readiness, names))
            on_ready(url, dict(zip(names, states, strict=True)))

    run_app(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        grace_s=settings.shutdown_grace_s,
        on_started=started,
        stop_on_eof=stop_on_eof,
        listener=listener,
        frame_limit=settings.body_limit,
    )
