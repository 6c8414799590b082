"""Settings of the environment server: defaults here, then a TOML file, the process environment, arguments.

Every field is read from ``ENVLOOP_ENV_<FIELD>`` (nested: ``ENVLOOP_ENV_DBBENCH__URL``). Six also have a plain name,
shared with other tools: ENVLOOP_TOKEN, ENVLOOP_EXPERT_TOKEN, ALFWORLD_DATA, DBBENCH_DATA, DBBENCH_URL,
DBBENCH_SERVER_BINARY.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from envs.errors import ConfigError

__all__ = ["AlfworldSettings", "DbBenchSettings", "EnvServerSettings", "is_loopback"]

_PLAIN_NAMES: dict[str, tuple[str, ...]] = {
    "ENVLOOP_TOKEN": ("token",),
    "ENVLOOP_EXPERT_TOKEN": ("expert_token",),
    "ALFWORLD_DATA": ("alfworld", "data_dir"),
    "DBBENCH_DATA": ("dbbench", "data_dir"),
    "DBBENCH_URL": ("dbbench", "url"),
    "DBBENCH_SERVER_BINARY": ("dbbench", "server_binary"),
}


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host (a name or an address, IPv6 with or without brackets)."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


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
        description="mysql://user:password@host:port of an account that may create databases and users; "
        "without it a private server is started.",
    )
    server_binary: Path | None = Field(
        default=None, description="mysqld or mariadbd for the private server; found on PATH if unset."
    )
    data_dir: Path | None = Field(default=None, description="Folder with AgentBench's *.jsonl files.")
    statement_timeout_s: float | None = Field(
        default=None, gt=0, le=600, description="Seconds after which a statement is killed; unset: the benchmark's 60."
    )


class EnvServerSettings(BaseSettings):
    """All settings of ``envloop env serve``."""

    model_config = SettingsConfigDict(
        env_prefix="ENVLOOP_ENV_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

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
    envs: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("alfworld", "dbbench"),
        min_length=1,
        description="Names of the environments served; a text is split at commas.",
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
    workers: int = Field(default=32, ge=1, le=1024, description="Threads for what may block: resets, database steps.")
    max_batch: int = Field(default=1024, ge=1, le=65536, description="Items in one batch request.")
    body_limit: int = Field(default=1 << 20, ge=1024, description="Bytes in one request body; above it: 413.")
    shutdown_grace_s: float = Field(
        default=10.0, gt=0, description="Seconds that running requests get to end at shutdown."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Level of the server's log."
    )

    @field_validator("envs", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then ENVLOOP_ENV_*, then the plain names. Neither .env nor secret files are read."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _PlainNames(settings_cls)

    @classmethod
    def load(cls, path: Path | None = None, **overrides: Any) -> EnvServerSettings:
        """Settings from an optional TOML file, the process environment and overrides (None means unset).

        Raises ConfigError with the file or variable, the field and the reason; never with a token's value.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            settings = cls(**given)
            if path is None:
                return settings
            layers = [_read_toml(path), settings.model_dump(exclude_unset=True)]
            return cls.model_validate(_merged(*layers))
        except ValidationError as error:
            where = str(path) if path is not None else "the settings"
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(f"{where}: {problems}", hint="envs/config.py describes every setting") from error

    def family_settings(self, name: str) -> dict[str, Any]:
        """The keyword arguments of an environment family: what is set, secrets opened. Empty for other environments."""
        section = getattr(self, name, None)
        if not isinstance(section, BaseModel):
            return {}
        values = {field: getattr(section, field) for field in type(section).model_fields}
        opened = {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in values.items()}
        return {k: v for k, v in opened.items() if v is not None}

    def refuse_open_door(self) -> None:
        """Raise ConfigError where the server would be reachable from other machines without a token."""
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"binding {self.host} without a token would let anyone use the server",
                hint="set ENVLOOP_TOKEN (8 characters or more), or bind 127.0.0.1",
            )


class _PlainNames(PydanticBaseSettingsSource):
    """The variables without our prefix; an empty one counts as unset."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for variable, (*sections, name) in _PLAIN_NAMES.items():
            value = os.environ.get(variable)
            if value:
                target = found
                for section in sections:
                    target = target.setdefault(section, {})
                target[name] = value
        return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint="correct the file at the place named") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", hint="check the path given with --config") from error


def _merged(*layers: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            old = result.get(name)
            result[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
