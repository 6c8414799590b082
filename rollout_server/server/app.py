"""The rollout server: ``create_app`` for any ASGI host, ``serve`` for a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from envs import __version__
from envs.config import EnvServerSettings
from envs.errors import EnvloopError, InfrastructureError
from envs.server.auth import Access
from envs.server.guard import Guard, http_error, invalid_request
from envs.server.run import run_app
from rollout_server.config import RolloutServerSettings, Service, open_service
from rollout_server.server.adapters import AdapterFolder
from rollout_server.server.policy_routes import UPLOADS, build_policy_routes
from rollout_server.server.retention import keep_pruned
from rollout_server.server.routes import build_routes
from rollout_server.service import EpisodeCallback
from rollout_server.types import Group, RolloutRequest

__all__ = ["Running", "create_app", "serve"]

logger = logging.getLogger(__name__)

_DESCRIPTION = """Plays episodes with a language model and keeps every token of them.

Every error has the shape `{"error": {"code", "message", "hint"}}`. An infrastructure error is never a reward."""


class Running:
    """What the routes need; filled when the app starts."""

    service: Service
    adapters: AdapterFolder
    starting: asyncio.Task[None]

    def __init__(self, body_limit: int) -> None:
        self.body_limit = body_limit
        self._up = asyncio.Lock()
        self._published = 0  # of the adapters that a server before this one was sent
        self._refused: list[str] = []

    async def bring_up(self) -> None:
        """Start the engine where it is not, then publish what was uploaded before a restart, in the same order.

        An adapter that is refused now is left out, and the log says so; it stays on the disk. Raises as
        ``Engine.start`` and for an engine that fails meanwhile: the next call goes on from there.
        """
        async with self._up:
            rollouts = self.service.rollouts
            await rollouts.engine.start()
            while self._published < len(self.adapters.kept):
                kept = self.adapters.kept[self._published]
                try:
                    version = await rollouts.publish_policy(
                        kept.name, kept.folder, any_base_model=True, number=kept.number
                    )
                except InfrastructureError:
                    raise
                except EnvloopError as error:
                    logger.error("the uploaded policy %s is not published again: %s", kept.name, error)
                    self._refused.append(kept.name)
                else:
                    await self.adapters.keep(version, kept.folder, await self.known_policies())
                self._published += 1

    async def known_policies(self) -> list[str]:
        """The names whose uploads stay: versions, those that are not published again yet, and those that cannot be."""
        waiting = [kept.name for kept in self.adapters.kept[self._published :]]
        return [*(version.name for version in await self.service.rollouts.policies()), *waiting, *self._refused]

    async def rollouts(self, request: RolloutRequest, *, on_episode: EpisodeCallback | None = None) -> Sequence[Group]:
        """Play a request once everything is up."""
        await self.bring_up()
        return await self.service.rollouts.rollouts(request, on_episode=on_episode)


def create_app(
    settings: RolloutServerSettings,
    opener: Callable[[RolloutServerSettings], AbstractAsyncContextManager[Service]] = open_service,
) -> FastAPI:
    """The app. Its lifespan opens the service and, however it ends, closes it; the model loads in the background.

    ``opener`` gives the service. Raises ConfigError, also in the lifespan, for settings that it refuses.
    """
    running = Running(settings.body_limit)

    retention = settings.retention()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with opener(settings) as service:
            running.service = service
            running.adapters = AdapterFolder(limit=settings.adapter_limit, root=settings.adapter_dir)
            running.starting = asyncio.create_task(running.bring_up())
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
    app.include_router(build_policy_routes(running))
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(HTTPException, http_error)
    # Access reads the tokens only; nothing else of the env server's settings applies here.
    access = Access(EnvServerSettings.model_construct(token=settings.token, expert_token=None))
    app.add_middleware(Guard, access=access, body_limit=settings.body_limit, streamed=UPLOADS)
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
