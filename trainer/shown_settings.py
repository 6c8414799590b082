"""A recipe's settings as others may see them, and what in them differs. Pure functions over their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

__all__ = ["default_setting", "flat_settings", "set_settings", "shown_settings"]

# Where things lie, and who may reach them: nothing for a model card or a tracker.
_PRIVATE = (
    *("rollout.url", "rollout.env_url", "rollout.store", "sft.store", "run.output_dir", "run.resume"),
    *("rollout.engine_options.base_url", "rollout.engine_options.log_path", "rollout.engine_options.tokenizer_path"),
)
_SECRET = ("token", "api_key", "password", "secret")
_NOT_SECRET = ("max_tokens", "tokens", "_tokens")


def flat_settings(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping by dotted names; lists and empty mappings are values."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            out |= flat_settings(value, f"{name}.")
        else:
            out[name] = value
    return out


def shown_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted names, without addresses, stores, folders and whatever is called a secret.

    A model or an adapter that is a folder is shown by its last part.
    """
    out = {}
    for name, value in flat_settings(tree).items():
        last = name.rpartition(".")[2].lower()
        if name in _PRIVATE or last.endswith(("_url", "store")) or _secret(last):
            continue
        folder = name in ("model.name", "lora.init_adapter") and isinstance(value, str) and _is_folder(value)
        out[name] = value.rstrip("/").rpartition("/")[2] if folder else value
    return out


def set_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that are not the recipe's defaults, by dotted names, fit to be shown.

    Only of the sections that the recipe reads: an SFT run's ``[grpo]`` says nothing.
    """
    recipe = str(tree.get("recipe", "grpo"))
    others = {"grpo", "sft", "dpo", "kto", "ppo"} - {recipe}
    default = flat_settings(_defaults(recipe))
    return {
        name: value
        for name, value in shown_settings(tree).items()
        if name.partition(".")[0] not in others and default.get(name, None) != value and name != "recipe"
    }


def default_setting(recipe: str, name: str) -> Any:
    """The default of a setting by its dotted name; None where a recipe of this kind has none."""
    return flat_settings(_defaults(recipe)).get(name)


def _secret(last: str) -> bool:
    return any(word in last for word in _SECRET) and not last.endswith(_NOT_SECRET)


def _is_folder(value: str) -> bool:
    return value.startswith((".", "/", "~")) or value.count("/") > 1


@cache
def _defaults(recipe: str) -> Mapping[str, Any]:
    from envs.errors import ConfigError
    from trainer.config import parse_config

    try:
        return parse_config({"recipe": recipe}).model_dump(mode="json")
    except ConfigError:  # a recipe of another version
        return parse_config({}).model_dump(mode="json")
