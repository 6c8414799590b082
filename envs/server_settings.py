"""What the settings of every server of ours share: where they are read from, and that no door stands open.

Read in this order, the last wins: a TOML file, variables without our prefix that other tools share, those with it,
arguments. Neither ``.env`` nor secret files are read.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from envs.errors import ConfigError

__all__ = ["ServerSettings", "is_loopback"]


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


class ServerSettings(BaseSettings):
    """The base of a server's settings.

    ``plain_names``: variable without our prefix → the way to its field. ``described_in``: where a user reads about the
    settings, for error messages.
    """

    plain_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    described_in: ClassVar[str] = ""

    host: str
    token: SecretStr | None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then variables with our prefix, then the plain names."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _PlainNames(settings_cls, cls.plain_names)

    @classmethod
    def load(cls, path: Path | None = None, **overrides: Any) -> Self:
        """Settings from an optional TOML file, the process environment and overrides (None means unset).

        Raises ConfigError with the file or variable, the field and the reason; never with a secret's value.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            settings = cls(**given)
            if path is None:
                return settings
            return cls.model_validate(_merged(_read_toml(path), settings.model_dump(exclude_unset=True)))
        except ValidationError as error:
            where = str(path) if path is not None else "the settings"
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(f"{where}: {problems}", hint=cls.described_in) from error

    @property
    def guarded(self) -> bool:
        """Whether callers need a token."""
        return self.token is not None

    def refuse_open_door(self) -> None:
        """Raise ConfigError where the server would be reachable from other machines without a token."""
        if not self.guarded and not is_loopback(self.host):
            raise ConfigError(
                f"binding {self.host} without a token would let anyone use the server",
                hint="set ENVLOOP_TOKEN (8 characters or more), or bind 127.0.0.1",
            )


class _PlainNames(PydanticBaseSettingsSource):
    """The variables without our prefix; an empty one counts as unset."""

    def __init__(self, settings_cls: type[BaseSettings], names: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(settings_cls)
        self._names = names

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for variable, (*sections, name) in self._names.items():
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
