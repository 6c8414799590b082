"""What makes two evaluations the same one: its settings and its policy, as a key that a resumed evaluation finds its
episodes by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from rollout_server.engines.openai import shown_url
from rollout_server.episode_store import EpisodeStore
from rollout_server.types import Episode
from trainer.config import TrainConfig
from trainer.models import model_source
from trainer.services import SCRIPTED_ENGINES

__all__ = [
    "evaluation_key",
    "evaluation_run",
    "evaluation_settings",
    "folder_digest",
    "played_before",
    "policy_identity",
]

_EDGE = 1 << 20
_GROWS = ("samples", "limit", "type")
"""Settings that say how much is played, not how: an evaluation that is resumed with more of them only goes on."""


def folder_digest(folder: Path) -> str:
    """A SHA-256 (hex) that tells one model or adapter folder from another: names and sizes of its weights and JSON
    files, their first and last MiB. Raises ConfigError for a folder without any."""
    digest = hashlib.sha256()
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json") and p.is_file())
    files = [p for p in files if p.name != "training_record.json"]
    if not files:
        raise ConfigError(f"{folder} holds no weights", hint="give a folder with safetensors files")
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_EDGE))
            if size > 2 * _EDGE:
                file.seek(-_EDGE, 2)
            digest.update(file.read())
    return digest.hexdigest()


def policy_identity(config: TrainConfig, *, with_model: bool, policy: str, adapter: Path | None) -> dict[str, Any]:
    """Who plays, as far as it decides what is played. ``policy``: the version that a rollout server would play."""
    r = config.rollout
    adapted = folder_digest(adapter) if adapter is not None else None
    if r.url is not None:
        return {"server": shown_url(r.url), "policy": policy if adapter is None else None, "adapter": adapted}
    options = {k: v for k, v in r.engine_options.items() if k != "api_key"}
    if r.engine in SCRIPTED_ENGINES:
        model = config.model.name if with_model else None
        return {"engine": r.engine, "options": options, "tokens_of": model}
    if r.engine in ("openai", "chat"):
        return {"engine": r.engine, "model": config.model.name, "options": options, "adapter": adapted}
    source = model_source(config.model)
    weights = folder_digest(Path(source)) if Path(source).is_dir() else f"{source}@{config.model.revision or 'newest'}"
    return {"engine": r.engine, "weights": weights, "dtype": config.model.dtype, "adapter": adapted}


def evaluation_settings(
    config: TrainConfig, env: str, split: str, *, type: str | None, max_episode_tokens: int
) -> dict[str, Any]:
    """Everything but the policy that decides what an evaluation plays, by name."""
    return {
        "env": env,
        "split": split,
        "type": type,
        "limit": config.eval.limit,
        "protocol": config.rollout.protocol,
        "temperature": config.eval.temperature,
        "samples": config.eval.samples,
        "max_tokens": config.rollout.max_tokens,
        "max_turns": config.rollout.max_turns,
        "max_episode_tokens": max_episode_tokens,
        "env_options": dict(config.rollout.env_options),
        "seed": config.run.seed,
    }


def evaluation_key(settings: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """12 hex digits: equal for evaluations that play the same way, however many tasks and samples they ask for."""
    how = {name: value for name, value in settings.items() if name not in _GROWS}
    text = json.dumps([how, dict(identity)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def evaluation_run(store: EpisodeStore, key: str, *, resume: bool) -> str:
    """The run name of an evaluation's episodes: ``eval-KEY``, the next free ``eval-KEY-2``, … or, to resume, the last
    one that there is."""
    last = 0
    while store.count(run=_numbered(key, last + 1)):
        last += 1
    return _numbered(key, last if resume and last else last + 1)


def played_before(store: EpisodeStore, run: str) -> Iterator[Episode]:
    """The first scored episode of each task and sample of a run; what failed is played again."""
    seen: set[tuple[str, int]] = set()
    for episode in store.iter_episodes(run=run):
        key = (episode.task.id, int(episode.metadata.get("sample", 0)))
        if episode.status.scored and key not in seen:
            seen.add(key)
            yield episode


def _numbered(key: str, number: int) -> str:
    return f"eval-{key}" if number == 1 else f"eval-{key}-{number}"
