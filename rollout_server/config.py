"""Settings of the rollout server, and the service that they describe: engine, env server and store wired together.

Read in this order, the last wins: a TOML file, the process environment (``ENVLOOP_ROLLOUT_<FIELD>``), arguments.
Two have a plain name that other tools share: ENVLOOP_TOKEN and ENVLOOP_STORE_URL.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from envs.config import EnvServerSettings
from envs.errors import ConfigError
from envs.server_settings import ServerSettings

if TYPE_CHECKING:
    from envs.client import EnvClient
    from rollout_server.episode_store import EpisodeStore
    from rollout_server.local import LocalRollouts
    from rollout_server.store_retention import Retention

__all__ = ["RolloutServerSettings", "Service", "default_store_url", "open_env_client", "open_service"]


def default_store_url() -> str:
    """ENVLOOP_STORE_URL, else a SQLite file in the user's data folder."""
    return RolloutServerSettings.load().open_store_url()


class RolloutServerSettings(ServerSettings):
    """All settings of ``envloop rollout serve``."""

    model_config = SettingsConfigDict(
        env_prefix="ENVLOOP_ROLLOUT_", extra="forbid", frozen=True, hide_input_in_errors=True
    )
    plain_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "ENVLOOP_TOKEN": ("token",),
        "ENVLOOP_STORE_URL": ("store_url",),
    }
    described_in: ClassVar[str] = "see envloop rollout serve --help"

    host: str = Field("127.0.0.1", description="Address to bind. Beyond loopback a token is required.")
    port: int = Field(8471, ge=0, le=65535, description="Port to bind; 0 takes a free one.")
    token: SecretStr | None = Field(None, min_length=8, description="Bearer token that every /v1 request must carry.")
    env_url: str | None = Field(None, description="Address of the env server; unset: the environments run in here.")
    env_streams: int = Field(
        8, ge=0, le=64, description="WebSockets that carry the episodes of an env server at 'env_url'; 0: requests."
    )
    env_token: SecretStr | None = Field(
        None, description="Bearer token of the env server, its expert token where experts play. Unset: 'token'."
    )
    engine: str = Field(
        "expert",
        description="vllm, openai, chat, transformers, or a script: expert, explorer, repair, near_miss, random, noop.",
    )
    model: str | None = Field(None, description="A folder, a hub name, or smollm2.")
    base_urls: tuple[str, ...] = Field(
        (),
        description="Addresses of OpenAI-compatible vLLM servers, for the engine 'openai'. Several make a pool.",
    )
    engine_capacity: int = Field(64, ge=1, le=4096, description="Requests at once on each engine of a pool.")
    engine_options: dict[str, Any] = Field(default_factory=dict, description="Passed to the engine as they are.")
    protocol: str = Field("agentbench_fc", description="Protocol of 'envloop rollout play'; requests name their own.")
    store_url: SecretStr | None = Field(None, description="SQLAlchemy URL of the episode store; unset: a SQLite file.")
    keep_for: str | None = Field(
        None, description="Delete stored episodes that began longer ago, such as 30d. Unset: they are kept."
    )
    keep_last: int | None = Field(None, ge=0, description="Keep so many of the newest stored episodes.")
    keep_bytes: int | None = Field(None, ge=0, description="Keep the newest episodes whose records take no more.")
    prune_every_s: float = Field(3600.0, gt=0, description="Seconds between two looks at what is to be deleted.")
    max_concurrency: int = Field(64, ge=1, le=4096, description="Live episodes at once, over all requests.")
    keep_policies: int = Field(3, ge=1, le=1000, description="Adapters that the engine keeps loaded.")
    body_limit: int = Field(16 << 20, ge=1024, description="Bytes in one request body; above it: 413.")
    adapter_limit: int = Field(2 << 30, ge=1024, description="Bytes in one uploaded adapter; above it: 413.")
    any_base_model: bool = Field(False, description="Adapters may name another base model than the one that is served.")
    adapter_dir: Path | None = Field(
        None, description="Keeps uploaded adapters: a server that is started again publishes them. Unset: none is kept."
    )
    shutdown_grace_s: float = Field(10.0, gt=0, description="Seconds that running requests get to end at shutdown.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="Level of the server's log.")
    log_format: Literal["text", "json"] = Field("text", description="Lines for people, or one JSON object a line.")

    def open_store_url(self) -> str:
        """The store's URL, secret opened; a file in the user's data folder where none is set."""
        if self.store_url is not None:
            return self.store_url.get_secret_value()
        import platformdirs

        folder = platformdirs.user_data_path("envloop", appauthor=False)
        return f"sqlite:///{folder / 'episodes.db'}"

    def retention(self) -> Retention:
        """What the store keeps. Raises ConfigError for an age that is none."""
        from envs.errors import ConfigError, InvalidOption
        from rollout_server.episode_filters import parse_age
        from rollout_server.store_retention import Retention

        try:
            older_than = None if self.keep_for is None else parse_age(self.keep_for)
        except InvalidOption as error:
            raise ConfigError(f"keep_for: {error.message}", hint=error.hint) from error
        return Retention(older_than=older_than, keep_last=self.keep_last, max_bytes=self.keep_bytes)

    def all_engine_options(self) -> dict[str, Any]:
        """The engine's options with the servers' addresses. Raises ConfigError where the engine has no servers."""
        if not self.base_urls:
            return dict(self.engine_options)
        if self.engine not in ("openai", "chat"):
            raise ConfigError(
                f"base_urls name servers, but the engine is {self.engine}", hint="choose the engine openai"
            )
        if self.engine == "chat" and len(self.base_urls) > 1:
            raise ConfigError("the engine chat asks one server", hint="name one, or take the engine openai")
        if len(self.base_urls) == 1:
            return {"base_url": self.base_urls[0], **self.engine_options}
        return {"base_url": self.base_urls, "capacity": self.engine_capacity, **self.engine_options}

    def open_env_token(self) -> str | None:
        """The token for the env server, secret opened."""
        token = self.env_token or self.token
        return token.get_secret_value() if token else None


class Service(NamedTuple):
    """What ``open_service`` gives: all three are closed with its context."""

    rollouts: LocalRollouts
    client: EnvClient
    store: EpisodeStore


@contextlib.asynccontextmanager
async def open_env_client(settings: RolloutServerSettings) -> AsyncIterator[EnvClient]:
    """A client of the env server at ``env_url``, or of an env service in this process, ended with the context.

    The service in this process takes the env server's own settings (``ENVLOOP_ENV_*``, ALFWORLD_DATA, DBBENCH_URL).
    """
    from envs.client import EnvClient

    if settings.env_url is not None:
        async with EnvClient(settings.env_url, token=settings.open_env_token(), streams=settings.env_streams) as client:
            yield client
        return
    from envs.server.app import create_app

    # Nobody else can reach it: without tokens this process has every right, the expert's too.
    own = EnvServerSettings.load().model_copy(update={"token": None, "expert_token": None, "tokens": ()})
    async with EnvClient.in_process(create_app(own)) as client:
        yield client


@contextlib.asynccontextmanager
async def open_service(settings: RolloutServerSettings) -> AsyncIterator[Service]:
    """The rollout service of these settings. The engine starts with the first request (or by ``engine.start()``).

    Raises: ConfigError for a wrong setting; BackendUnavailable where the store cannot be reached.
    """
    import asyncio

    from rollout_server.engines.factory import make_engine
    from rollout_server.episode_store import EpisodeStore
    from rollout_server.local import LocalRollouts

    engine = make_engine(settings.engine, model=settings.model, **settings.all_engine_options())
    store = await asyncio.to_thread(EpisodeStore, settings.open_store_url())
    try:
        async with open_env_client(settings) as client:
            rollouts = LocalRollouts(
                client,
                engine,
                store=store,
                max_concurrency=settings.max_concurrency,
                keep_policies=settings.keep_policies,
                adapter_limit=settings.adapter_limit,
                any_base_model=settings.any_base_model,
            )
            try:
                yield Service(rollouts, client, store)
            finally:
                await rollouts.close()
    finally:
        store.close()
