"""Engines by name. Each is imported only when it is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from envs.errors import ConfigError
from rollout_server.engines.base import Engine

__all__ = ["EngineKind", "make_engine"]

EngineKind = Literal[
    "vllm",
    "vllm_process",
    "openai",
    "chat",
    "transformers",
    "expert",
    "gold",
    "explorer",
    "repair",
    "near_miss",
    "random",
    "noop",
]

_SCRIPTED = ("expert", "gold", "explorer", "repair", "near_miss", "random", "noop")


def make_engine(kind: str, *, model: str | None = None, **options: Any) -> Engine:
    """An engine that is not started yet. ``options`` are its constructor's.

    ``model`` is a folder, a hub name, or ``smollm2`` for the small model that the extra ``demo`` brings (converted on
    first use). Scripted kinds need none; with one they play in its tokens. A list as ``base_url`` of ``openai`` makes
    an ``EnginePool`` over as many servers; the pool's own options are then taken too. Raises ConfigError for an
    unknown kind, a missing model or an option that the engine does not have.
    """
    if kind in _SCRIPTED:
        from rollout_server.engines.scripted import ScriptedEngine

        tokenizer = _tokenizer(model) if model else None
        return _build(kind, ScriptedEngine, kind, tokenizer, **options)
    if kind not in get_args(EngineKind):
        raise ConfigError(f"no engine is called {kind!r}", hint=f"known: {', '.join(get_args(EngineKind))}")
    if not model:
        raise ConfigError(f"the engine {kind} needs a model", hint="a folder, a hub name, or smollm2")
    if kind == "openai":
        from rollout_server.engines.openai import OpenAIEngine

        # The name is the server's own; only the tokenizer is loaded here.
        if model == _smollm2_name() and "tokenizer_path" not in options:
            options["tokenizer_path"] = _resolve(model)
        if isinstance(options.get("base_url"), list | tuple):
            return _pool(model, **options)
        return _build(kind, OpenAIEngine, model=model, **options)
    if kind == "chat":
        from rollout_server.engines.chat_completions import ChatCompletionsEngine

        return _build(kind, ChatCompletionsEngine, model=model, **options)
    if kind == "vllm":
        from rollout_server.engines.vllm import VllmEngine

        return _build(kind, VllmEngine, _resolve(model), **options)
    if kind == "vllm_process":
        from rollout_server.engines.vllm_process import VllmProcessEngine

        return _build(kind, VllmProcessEngine, _resolve(model), **options)
    from rollout_server.engines.transformers import TransformersEngine

    return _build(kind, TransformersEngine, _resolve(model), **options)


def _pool(model: str, *, base_url: Sequence[str], **options: Any) -> Engine:
    """One engine a server. What a member fails is sent to another at once, so none tries again by itself."""
    from rollout_server.engines.openai import OpenAIEngine, shown_url
    from rollout_server.engines.pool import EnginePool

    if len(set(base_url)) < len(base_url):
        raise ConfigError(f"a server is named twice: {', '.join(base_url)}", hint="give each address once")
    of_pool = set(inspect.signature(EnginePool).parameters) - {"members", "labels"}
    shared = {"retries": 0, **{name: value for name, value in options.items() if name not in of_pool}}
    members = [_build("openai", OpenAIEngine, url, model, **shared) for url in base_url]
    return EnginePool(
        members,
        labels=[shown_url(url) for url in base_url],
        **{name: value for name, value in options.items() if name in of_pool},
    )


def _build(kind: str, make: Callable[..., Engine], *args: Any, **options: Any) -> Engine:
    known = [n for n, p in inspect.signature(make).parameters.items() if p.kind is not p.VAR_KEYWORD]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"the engine {kind} has no option {', '.join(unknown)}", hint=f"known: {', '.join(known)}")
    try:
        inspect.signature(make).bind(*args, **options)
    except TypeError as error:
        raise ConfigError(f"the engine {kind}: {error}", hint="set it in the engine's options") from error
    return make(*args, **options)


def _smollm2_name() -> str:
    from rollout_server.smollm2 import MODEL_NAME

    return MODEL_NAME


def _resolve(model: str) -> str:
    from rollout_server.smollm2 import MODEL_NAME, ensure_smollm2

    return str(ensure_smollm2()) if model == MODEL_NAME else model


def _tokenizer(model: str) -> Any:
    from rollout_server.tokenizer import HFTokenizer

    return HFTokenizer(_resolve(model))
