"""Episodes as a Parquet file of typed columns, which ``datasets.load_dataset("parquet", ...)`` opens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envs.errors import ConfigError
from rollout_server.serialize import dumps, episode_to_json
from rollout_server.types import Episode

__all__ = ["write_parquet"]

_BATCH = 64  # episodes of a row group: what is held in memory at once


def write_parquet(episodes: Iterable[Episode], path: Path) -> None:
    """Write the episodes, a row each. Raises ConfigError without pyarrow.

    ``prompt_ids``, then of everything after the prompt, shape (T,): ``completion_ids``, ``mask`` (1: the policy
    sampled it), ``logprobs`` (0.0 for others) and ``policy_versions`` ("" for others). A turn that was ``given`` has
    mask 0 throughout. Options, metadata and the arguments of each step are JSON texts; a seed is a text, since it has
    no bound.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            "parquet needs the package pyarrow, which is not installed", hint="pip install 'envloop[train]'"
        ) from error
    schema = _schema()
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for episode in episodes:
            rows.append(_row(episode))
            if len(rows) == _BATCH:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                rows.clear()
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def _schema() -> Any:
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    step = pa.struct(
        {
            "name": text,
            "arguments": text,
            "observation": text,
            "reward": number,
            "terminated": pa.bool_(),
            "truncated": pa.bool_(),
            "valid": pa.bool_(),
            "state_hash": text,
        }
    )
    turn = pa.struct(
        {
            "index": pa.int32(),
            "policy": text,
            "text": text,
            "finish_reason": text,
            "completion_tokens": pa.int32(),
            "environment_tokens": pa.int32(),
            "steps": pa.list_(step),
            "reply": text,
            "given": pa.bool_(),
        }
    )
    return pa.schema(
        {
            **dict.fromkeys(("id", "group_id", "env", "task_id", "task_type", "split", "content_hash"), text),
            **dict.fromkeys(("seed", "protocol", "engine", "model", "policy", "status"), text),
            "reward": number,
            "training_reward": number,
            "success": pa.bool_(),
            "prompt": pa.list_(pa.struct({"role": text, "content": text})),
            "prompt_ids": pa.list_(pa.int64()),
            "completion_ids": pa.list_(pa.int64()),
            "mask": pa.list_(pa.int8()),
            "logprobs": pa.list_(number),
            "policy_versions": pa.list_(text),
            "turns": pa.list_(turn),
            **dict.fromkeys(("error", "started_at", "run", "sampling", "reward_parts", "options", "metadata"), text),
            "duration_s": number,
        }
    )


def _row(episode: Episode) -> dict[str, Any]:
    document = episode_to_json(episode)
    same = ("id", "group_id", "env", "protocol", "engine", "model", "policy", "status", "prompt")
    turns = [
        {
            "index": turn["index"],
            "policy": turn["policy"],
            "text": turn["text"],
            "finish_reason": turn["finish_reason"],
            "completion_tokens": len(turn["completion_ids"]),
            "environment_tokens": len(turn["environment_ids"]),
            "steps": [_step(step, record) for step, record in zip(turn["steps"], recorded.steps, strict=True)],
            "reply": turn["reply"],
            "given": recorded.given,
        }
        for turn, recorded in zip(document["turns"], episode.turns, strict=True)
    ]
    row = {name: document[name] for name in same} | {
        "task_id": episode.task.id,
        "task_type": episode.task.type,
        "split": episode.task.split,
        "content_hash": episode.task.content_hash,
        "seed": str(episode.seed),
        "reward": episode.reward,
        "training_reward": episode.training_reward,
        "success": episode.success,
        "prompt_ids": episode.prompt_ids,
        "completion_ids": episode.completion_ids,
        "mask": episode.mask,
        "logprobs": episode.logprobs,
        "policy_versions": episode.policy_versions,
        "turns": turns,
        "error": episode.error,
        "started_at": episode.started_at,
        "run": str(episode.metadata.get("run", "")),
        "duration_s": episode.duration_s,
        **{name: dumps(document[name]) for name in ("sampling", "reward_parts", "options", "metadata")},
    }
    return {name: _well_formed(value) for name, value in row.items()}


def _step(step: dict[str, Any], record: Any) -> dict[str, Any]:
    return {
        "name": step["action"]["name"],
        "arguments": dumps(step["action"]["arguments"]),
        "observation": step["observation"]["text"],
        "reward": record.reward,  # not its JSON form: a column may hold an infinity
        **{name: step[name] for name in ("terminated", "truncated", "valid", "state_hash")},
    }


def _well_formed(value: Any) -> Any:
    """Lone surrogates, which a model's JSON can hold, have no UTF-8: they become question marks."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {name: _well_formed(item) for name, item in value.items()}
    return [_well_formed(item) for item in value] if isinstance(value, list) else value
