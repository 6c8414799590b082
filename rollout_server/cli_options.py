"""Options that several commands of ``envloop rollout`` and ``envloop replay`` take, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rollout_server.config import RolloutServerSettings
    from rollout_server.episode_store import EpisodeStore

__all__ = [
    "BaseUrls",
    "Config",
    "EngineName",
    "EnvUrl",
    "EpisodeId",
    "Json",
    "Model",
    "StoreUrl",
    "load_settings",
    "open_store",
]

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with the rollout server's settings.")]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine", help="vllm, openai, chat, transformers, expert, explorer, repair, near_miss, random or noop."
    ),
]
Model = Annotated[str | None, typer.Option("--model", help="A folder, a hub name, or smollm2.")]
BaseUrls = Annotated[
    list[str] | None,
    typer.Option("--base-url", help="Server of the engine openai or chat; repeat for a pool of several."),
]
EnvUrl = Annotated[str | None, typer.Option("--env-url", help="Address of an env server; without: in this process.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Episode store (else ENVLOOP_STORE_URL).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
EpisodeId = Annotated[str, typer.Argument(help="An episode's id, or its unique beginning.")]


def load_settings(config: Path | None, **overrides: Any) -> RolloutServerSettings:
    """The rollout server's settings: file, environment, then the given options."""
    from rollout_server.config import RolloutServerSettings

    return RolloutServerSettings.load(config, **overrides)


def open_store(url: str | None) -> EpisodeStore:
    """The episode store at ``url``, else of the settings."""
    from rollout_server.episode_store import EpisodeStore

    return EpisodeStore(load_settings(None, store_url=url).open_store_url())
