"""Settings of the environment server: defaults here, then a TOML file, the process environment, arguments.

Every field is read from ``ENVLOOP_ENV_<FIELD>`` (nested: ``ENVLOOP_ENV_DBBENCH__URL``). Eight also have a plain
name, shared with other tools: ENVLOOP_TOKEN, ENVLOOP_EXPERT_TOKEN, ENVLOOP_TOKENS, ENVLOOP_JOURNAL_URL, ALFWORLD_DATA,
DBBENCH_DATA, DBBENCH_URL, DBBENCH_SERVER_BINARY.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from envs.server_settings import ServerSettings

__all__ = ["ROLES", "AlfworldSettings", "DbBenchSettings", "EnvServerSettings"]

ROLES = ("read", "play", "admin")  # each may what the ones before it may
_SHORTEST_TOKEN = 8


class AlfworldSettings(BaseModel):
    """How ALFWorld is played here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_dir: Path | None = Field(
        default=None, description="Folder in the json_2.1.1 layout; without it, generated games only."
    )
    engine: Literal["native", "textworld", "both"] = Field(
        default="native",
        description="textworld and both (which plays both and ends an episode where they differ) need the extra "
        "'alfworld'.",
    )
    dialect: Literal["0.2", "0.4"] | None = Field(
        default=None,
        description="Retell every game in this dialect, also one of an unknown grammar; unset: as its file tells it.",
    )
    index_dir: Path | None = Field(
        default=None,
        description="Folder of the games' index; unset: alfworld in ENVLOOP_CACHE_DIR, or in the user's cache folder.",
    )


class DbBenchSettings(BaseModel):
    """How DB Bench is played here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr | None = Field(
        default=None,
        description="mysql://user:password@host:port of an account that may create databases and users; several, "
        "parted by blanks, share the episodes; sqlite: is an approximation without a server. Unset: a private server.",
    )
    server_binary: Path | None = Field(
        default=None, description="mysqld or mariadbd for the private server; found on PATH if unset."
    )
    data_dir: Path | None = Field(default=None, description="Folder with AgentBench's *.jsonl files.")
    statement_timeout_s: float | None = Field(
        default=None, gt=0, le=600, description="Seconds after which a statement is killed; unset: the benchmark's 60."
    )
    max_connections: int | None = Field(
        default=None, ge=1, le=10_000, description="Live episodes on one database server at once; unset: 256."
    )
    spare_databases: int | None = Field(
        default=None, ge=0, le=256, description="Databases made ahead, so that an episode begins at once; unset: 8."
    )
    max_data_bytes: int | None = Field(
        default=None, ge=2**28, description="All data of a private server, in memory; unset: 2 GiB."
    )
    max_statements: int | None = Field(default=None, ge=1, description="Statements of one episode; unset: 1000.")
    max_rows: int | None = Field(default=None, ge=1, description="Rows of a result that are read; unset: 100,000.")
    max_bytes: int | None = Field(default=None, ge=1, description="Bytes of a result that are read; unset: 64 MiB.")
    max_database_bytes: int | None = Field(
        default=None, ge=2**20, description="What one episode's tables may hold; unset: 64 MiB."
    )
    max_database_rows: int | None = Field(
        default=None, ge=1, description="Rows that one episode may write; unset: 1,000,000."
    )


class EnvServerSettings(ServerSettings):
    """All settings of ``envloop env serve``."""

    model_config = SettingsConfigDict(
        env_prefix="ENVLOOP_ENV_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )
    plain_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "ENVLOOP_TOKEN": ("token",),
        "ENVLOOP_EXPERT_TOKEN": ("expert_token",),
        "ENVLOOP_TOKENS": ("tokens",),
        "ENVLOOP_JOURNAL_URL": ("journal_url",),
        "ALFWORLD_DATA": ("alfworld", "data_dir"),
        "DBBENCH_DATA": ("dbbench", "data_dir"),
        "DBBENCH_URL": ("dbbench", "url"),
        "DBBENCH_SERVER_BINARY": ("dbbench", "server_binary"),
    }
    described_in: ClassVar[str] = "envs/config.py describes every setting"

    host: str = Field(default="127.0.0.1", description="Address to bind. Beyond loopback a token is required.")
    port: int = Field(default=8470, ge=0, le=65535, description="Port to bind; 0 takes a free one.")
    token: SecretStr | None = Field(
        default=None, min_length=8, description="Bearer token that every /v1 request must carry."
    )
    expert_token: SecretStr | None = Field(
        default=None,
        min_length=8,
        description="Bearer token that may also ask for expert actions; gives all other rights too.",
    )
    tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="More bearer tokens, each with what it may: read:SECRET (look), play:SECRET (what 'token' may), "
        "admin:SECRET (what 'expert_token' may). Several of a kind serve together, so that one can be replaced. A text "
        "is split at blanks.",
    )
    envs: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("alfworld", "dbbench"),
        min_length=1,
        description="Names of the environments served; a text is split at commas.",
    )
    openenv: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Names of the environments that are also OpenEnv servers, each under /openenv/NAME; a text is "
        "split at commas.",
    )
    alfworld: AlfworldSettings = Field(default_factory=AlfworldSettings)
    dbbench: DbBenchSettings = Field(default_factory=DbBenchSettings)
    max_episodes: int = Field(default=512, ge=1, le=1_000_000, description="Live episodes at once; above it: 429.")
    idle_timeout_s: float = Field(
        default=900.0, gt=0, description="An episode that nobody touches for so long is cancelled."
    )
    remember_ended: int = Field(default=4096, ge=1, description="How many ended episodes can still be read.")
    remember_ended_s: float = Field(
        default=900.0,
        ge=0,
        description="For how long an ended episode can still be read, unless remember_ended is reached before.",
    )
    journal_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL of the journal, in which episodes outlive the server and which several servers may "
        "share: sqlite:///FILE, mysql://..., postgresql://... 'off': none. Unset: 'envloop env serve' keeps a file for "
        "its port in ENVLOOP_CACHE_DIR, or in the user's cache folder.",
    )
    workers: int = Field(
        default=1, ge=1, le=256, description="Processes that serve the port together, with one journal."
    )
    threads: int = Field(
        default=320,
        ge=1,
        le=1024,
        description="Most threads for what may block: resets, database steps. Fewer than live database episodes, and "
        "slow statements of some hold up others.",
    )
    max_batch: int = Field(default=1024, ge=1, le=65536, description="Items in one batch request.")
    body_limit: int = Field(default=1 << 20, ge=1024, description="Bytes in one request body; above it: 413.")
    max_requests_per_s: float | None = Field(
        default=None, gt=0, description="Requests that one caller may send in a second; above it: 429. Unset: no limit."
    )
    shutdown_grace_s: float = Field(
        default=10.0, gt=0, description="Seconds that running requests get to end at shutdown."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Level of the server's log."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How the log is written: lines for people, or one JSON object a line."
    )

    @field_validator("envs", "openenv", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("tokens", mode="before")
    @classmethod
    def _split_tokens(cls, value: Any) -> Any:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for token in value:
            role, _, secret = token.get_secret_value().partition(":")
            if role not in ROLES or len(secret) < _SHORTEST_TOKEN:
                roles = ", ".join(ROLES)
                msg = f"each is ROLE:SECRET, ROLE one of {roles}, SECRET of {_SHORTEST_TOKEN} characters or more"
                raise ValueError(msg)
        return value

    @property
    def guarded(self) -> bool:
        """Whether callers need a token."""
        return self.token is not None or bool(self.tokens)

    def family_settings(self, name: str) -> dict[str, Any]:
        """The keyword arguments of an environment family: what is set, secrets opened. Empty for other environments."""
        section = getattr(self, name, None)
        if not isinstance(section, BaseModel):
            return {}
        values = {field: getattr(section, field) for field in type(section).model_fields}
        opened = {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in values.items()}
        return {k: v for k, v in opened.items() if v is not None}
