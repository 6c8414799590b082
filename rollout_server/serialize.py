"""The JSON forms of episodes, groups, requests and policy versions: lossless, with a schema named in every document.

A document is the record's fields under their own names plus ``"schema": "envloop.<kind>/<version>"``. Numbers keep
their exact value (Python writes the shortest text that reads back as the same double). JSON has no infinities or NaN:
they are written ``{"$float": "inf"}``, anywhere, also in options, metadata and a model's own tool arguments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from envs.errors import InvalidOption
from rollout_server.types import Episode, Group, PolicyVersion, RolloutRequest

__all__ = [
    "SCHEMA_VERSION",
    "dumps",
    "episode_from_json",
    "episode_to_json",
    "group_from_json",
    "group_to_json",
    "policy_from_json",
    "policy_to_json",
    "request_from_json",
    "request_to_json",
]

SCHEMA_VERSION = 1
_FLOAT = "$float"
_KINDS: dict[str, type[Any]] = {
    "episode": Episode,
    "group": Group,
    "policy": PolicyVersion,
    "rollout_request": RolloutRequest,
}


def dumps(document: Any) -> str:
    """The compact JSON text of a document, in ASCII, so that any string at all can be stored and sent."""
    return json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def episode_to_json(episode: Episode) -> dict[str, Any]:
    """The episode as plain dicts and lists. Raises InvalidOption where options or metadata are not JSON."""
    return _write("episode", episode)


def episode_from_json(document: Any, *, marked: bool = True) -> Episode:
    """Inverse of ``episode_to_json``. Raises InvalidOption for another version or a wrong field, naming it.

    ``marked`` False: the caller knows that no number of the document is marked (its text has no ``$float``), which
    spares the search for marks.
    """
    episode: Episode = _read("episode", document, marked=marked)
    return episode


def group_to_json(group: Group) -> dict[str, Any]:
    """The group with its episodes, each without a schema of its own."""
    return _write("group", group)


def group_from_json(document: Any) -> Group:
    """Inverse of ``group_to_json``."""
    group: Group = _read("group", document)
    return group


def request_to_json(request: RolloutRequest) -> dict[str, Any]:
    """The request; every field is written, also those that have their default."""
    return _write("rollout_request", request)


def request_from_json(document: Any) -> RolloutRequest:
    """Inverse of ``request_to_json``; left out fields take their defaults, and so does a left out schema."""
    if isinstance(document, dict) and "schema" not in document:
        document = {"schema": _schema("rollout_request"), **document}
    request: RolloutRequest = _read("rollout_request", document)
    return request


def policy_to_json(policy: PolicyVersion) -> dict[str, Any]:
    """``{"schema", "name", "number", "adapter_path"}``."""
    return _write("policy", policy)


def policy_from_json(document: Any) -> PolicyVersion:
    """Inverse of ``policy_to_json``."""
    policy: PolicyVersion = _read("policy", document)
    return policy


def _schema(kind: str) -> str:
    return f"envloop.{kind}/{SCHEMA_VERSION}"


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[kind])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _write(kind: str, record: Any) -> dict[str, Any]:
    try:
        fields = to_jsonable_python(record, inf_nan_mode="constants", fallback=_plain)
    except (PydanticSerializationError, TypeError) as error:
        raise InvalidOption(
            f"this {kind} cannot be written as JSON: {error}", hint="options and metadata may hold JSON values only"
        ) from error
    return {"schema": _schema(kind), **_mark(fields)}


def _read(kind: str, document: Any, *, marked: bool = True) -> Any:
    if not isinstance(document, dict):
        raise InvalidOption(f"a {kind} must be a JSON object, not {type(document).__name__}")
    schema = document.get("schema")
    if schema != _schema(kind):
        raise InvalidOption(
            f"cannot read {kind} with schema {schema!r}",
            hint=f"this version reads {_schema(kind)!r}; a newer envloop may have written the document",
        )
    fields = {name: _unmark(value) if marked else value for name, value in document.items() if name != "schema"}
    try:
        return _adapter(kind).validate_python(fields, extra="forbid")
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or kind}: {e['msg']}" for e in error.errors(include_url=False)]
        shown = "; ".join(problems[:5]) + ("; …" if len(problems) > 5 else "")
        raise InvalidOption(f"not a valid {kind}: {shown}", hint="see the API's schema for its fields") from error


def _mark(value: Any) -> Any:
    """Non-finite floats as marked objects; an object that looks like such a mark already is wrapped once more."""
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: repr(value)}
    if isinstance(value, list):
        return [_mark(item) if isinstance(item, float | list | dict) else item for item in value]
    if isinstance(value, dict):
        marked = {name: _mark(item) for name, item in value.items()}
        return {_FLOAT: [marked[_FLOAT]]} if marked.keys() == {_FLOAT} else marked
    return value


def _unmark(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmark(item) if isinstance(item, list | dict) else item for item in value]
    if isinstance(value, dict):
        if value.keys() == {_FLOAT}:
            inner = value[_FLOAT]
            if isinstance(inner, str) and inner in ("inf", "-inf", "nan"):
                return float(inner)
            if isinstance(inner, list) and len(inner) == 1:
                return {_FLOAT: _unmark(inner[0])}
            raise InvalidOption(f'{{"{_FLOAT}": …}} must hold "inf", "-inf" or "nan"')
        return {name: _unmark(item) for name, item in value.items()}
    return value
