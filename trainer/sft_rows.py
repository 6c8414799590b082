"""The rows that an SFT recipe learns from, read from where it says, and their report. Loads a tokenizer, no weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import make_url

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.episode_store import EpisodeStore
from trainer.chat_jsonl import read_chat_jsonl
from trainer.config import TrainConfig
from trainer.datasets import SftRows, chat_rows, select_episodes, sft_rows
from trainer.held_out_tasks import list_evaluation_tasks
from trainer.loops import LoopThread
from trainer.models import load_tokenizer
from trainer.services import store_url
from trainer.sft_validation import SftReport, drop_duplicates, sft_report
from trainer.splits import SplitGuard

__all__ = ["check_sft", "read_rows"]


def read_rows(
    config: TrainConfig, store: EpisodeStore | None, guard: SplitGuard, held_out: Sequence[Task]
) -> tuple[SftRows, SftReport]:
    """The rows and their report. ``store`` may be None where ``sft.jsonl`` names a file.

    Raises ConfigError for a broken file, an evaluation split, another tokenizer's episodes, or where no row is left.
    """
    s = config.sft
    if s.jsonl is not None:
        examples = read_chat_jsonl(s.jsonl)
        rows = chat_rows(examples, load_tokenizer(config.model), settings=s, guard=guard)
    else:
        assert store is not None, "a recipe without sft.jsonl reads a store"
        tokenizer = load_tokenizer(config.model)
        chosen = select_episodes(store, s, config.data.sources)
        rows = sft_rows(chosen, tokenizer, max_length=s.max_length, guard=guard, limit=s.limit)
    dropped = drop_duplicates(rows, s.drop_duplicates)
    if not len(rows):
        where = str(s.jsonl) if s.jsonl is not None else ", ".join(f"{d.env}/{d.split}" for d in config.data.sources)
        left_out = f"; left out: {dict(rows.left_out)}" if rows.left_out else ""
        what = "no conversation" if s.jsonl is not None else "no stored episode"
        raise ConfigError(
            f"{what} of {where} fits the recipe{left_out}",
            hint="widen the filters of [sft]"
            if s.jsonl is not None
            else "play some first (sft.collect = 100), or widen the filters of [sft]",
        )
    return rows, sft_report(rows, max_length=s.max_length, held_out=held_out, dropped=dropped)


def check_sft(config: TrainConfig) -> SftReport:
    """What a recipe would learn from now; nothing is played, trained or written. Raises: see ``read_rows``."""
    if config.recipe != "sft":
        raise ConfigError(f"this is a recipe for {config.recipe}", hint=f"run envloop train {config.recipe}")
    guard = SplitGuard(config.data.allow_eval_split)
    guard.check_sources(config.data.sources)
    with LoopThread() as loop:
        evaluations = loop.run(list_evaluation_tasks(config, (source.env for source in config.data.sources)))
    if config.sft.jsonl is not None:
        return read_rows(config, None, guard, evaluations.all)[1]
    url = config.sft.store or store_url(config)
    file = make_url(url).database if url.startswith("sqlite") else None
    if file and file != ":memory:" and not Path(file).exists():  # opening it would make it
        raise ConfigError(
            f"there is no episode store {file} yet", hint="play some first (sft.collect = 100), or name one"
        )
    with EpisodeStore(url) as store:
        return read_rows(config, store, guard, evaluations.all)[1]
