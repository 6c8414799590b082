"""The rollout server: ``create_app`` for any ASGI host, ``serve`` for a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from envs import __version__
from envs.config import EnvServerSettings
from envs.server.auth import Access
from envs.server.guard import Guard, http_error, invalid_request
from envs.server.run import run_app
from rollout_server.config import RolloutServerSettings, Service, open_service
from rollout_server.server.adapters import AdapterFolder
from rollout_server.server.retention import keep_pruned
from rollout_server.server.routes import UPLOADS, build_routes

__all__ = ["Running", "create_app", "serve"]

logger = logging.getLogger(__name__)

_DESCRIPTION = """Plays episodes with a language model and keeps every token of them.

Every error has the shape `{"error": {"code", "message", "hint"}}`. An infrastructure error is never a reward."""


class Running:
    """What the routes need; filled when the app starts."""

    service: Service
    adapters: AdapterFolder
    starting: asyncio.Task[None]


def create_app(
    settings: RolloutServerSettings,
    opener: Callable[[RolloutServerSettings], AbstractAsyncContextManager[Service]] = open_service,
) -> FastAPI:
    """The app. Its lifespan opens the service and, however it ends, closes it; the model loads in the background.

    ``opener`` gives the service. Raises ConfigError, also in the lifespan, for settings that it refuses.
    """
    running = Running()

    retention = settings.retention()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with opener(settings) as service:
            running.service = service
            running.adapters = AdapterFolder(limit=settings.adapter_limit)
            running.starting = asyncio.create_task(service.rollouts.engine.start())
            running.starting.add_done_callback(_log_failure)
            pruning = asyncio.create_task(keep_pruned(service.store, retention, every_s=settings.prune_every_s))
            try:
                yield
            finally:
                running.starting.cancel()
                pruning.cancel()
                await asyncio.wait([running.starting, pruning])
                await asyncio.to_thread(running.adapters.close)

    app = FastAPI(
        title="envloop rollout server", version=__version__, description=_DESCRIPTION, lifespan=lifespan, debug=False
    )
    app.include_router(build_routes(running))
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(HTTPException, http_error)
    # Access reads the tokens only; nothing else of the env server's settings applies here.
    access = Access(EnvServerSettings.model_construct(token=settings.token, expert_token=None))
    app.add_middleware(Guard, access=access, body_limit=settings.body_limit, streamed=(UPLOADS,))
    return app


def _log_failure(starting: asyncio.Task[None]) -> None:
    """A model that cannot be loaded: /readyz tells it too, and the next request tries again."""
    if not starting.cancelled() and starting.exception() is not None:
        logger.error("the engine did not start", exc_info=starting.exception())


def serve(
    settings: RolloutServerSettings, *, on_ready: Callable[[str], None] | None = None, stop_on_eof: bool = False
) -> None:
    """Serve until SIGINT or SIGTERM, then end every episode and the engine. Runs in the main thread.

    ``on_ready`` is given the URL once the server listens (``/readyz`` says when the model is loaded). ``stop_on_eof``
    also stops it when its standard input is closed. Raises ConfigError: bound beyond loopback without a token, the
    address taken, or a wrong setting.
    """
    settings.refuse_open_door()
    app = create_app(settings)

    async def started(url: str) -> None:
        if on_ready is not None:
            on_ready(url)

    run_app(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        grace_s=settings.shutdown_grace_s,
        on_started=started,
        stop_on_eof=stop_on_eof,
    )
