"""The filters of ``envloop replay`` commands: the same options for every command that looks for episodes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from envs.errors import InvalidOption

__all__ = ["named_or_found", "with_filters"]

_SEVERAL = {
    "env": "this environment",
    "task": "this task",
    "type": "this task type",
    "split": "this split",
    "policy": "this policy version",
    "status": "this status, such as completed",
    "run": "this run",
    "protocol": "this protocol",
    "engine": "this engine",
    "model": "this model",
    "group": "this group",
}
_NAMES = {"task": "task_id", "type": "task_type", "group": "group_id"}
_ONE: dict[str, tuple[Any, str]] = {
    "min_reward": (float, "Only rewards of at least this."),
    "max_reward": (float, "Only rewards of at most this."),
    "since": (str, "Only begun at or after this: 2026-01-31, 2026-01-31T12:00+01:00, or an age such as 7d."),
    "until": (str, "Only begun before this; likewise."),
}


def with_filters(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes every filter as an option; it is given them as ``filters``, by the store's names."""
    own = inspect.signature(command, eval_str=True).parameters
    options: dict[str, Any] = {}
    for name, what in _SEVERAL.items():
        said = typer.Option(f"--{name}", help=f"Only {what}; repeat for either of several.")
        options[f"filter_{name}"] = Annotated[list[str] | None, said]
    for name, (kind, what) in _ONE.items():
        options[f"filter_{name}"] = Annotated[kind | None, typer.Option(f"--{name.replace('_', '-')}", help=what)]

    def run(**values: Any) -> None:
        given = {name.removeprefix("filter_"): values.pop(name) for name in options}
        filters = {_NAMES.get(name, name): value for name, value in given.items() if value not in (None, [])}
        command(**values, filters=filters)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [parameter.replace(kind=keyword) for name, parameter in own.items() if name != "filters"]
    parameters += [inspect.Parameter(n, keyword, default=None, annotation=kind) for n, kind in options.items()]
    functools.update_wrapper(run, command)
    vars(run).pop("__wrapped__")  # typer would read its signature instead
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def named_or_found(episode_ids: list[str] | None, filters: dict[str, Any], *, every: bool) -> bool:
    """Whether episodes are named. Raises InvalidOption unless there are ids, or filters, or ``--all``: only one of
    these, so that nothing happens to the whole store by accident."""
    if bool(episode_ids) + bool(filters or every) == 1:
        return bool(episode_ids)
    if episode_ids:
        raise InvalidOption("ids and filters are not taken together", hint="name episodes, or filter them")
    raise InvalidOption("no episode is named", hint="give ids, filters such as --run NAME, or --all")
