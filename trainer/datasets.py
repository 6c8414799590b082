"""Stored episodes as training rows, with the ids as they were played: nothing is tokenised again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.episode_store import EpisodeFilters, EpisodeStore
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode, FinishReason
from trainer.settings import SftSettings, TaskSource
from trainer.splits import SplitGuard

__all__ = ["IGNORED", "SftRows", "check_tokenizer", "select_episodes", "sft_rows"]

IGNORED = -100
"""The label that no loss counts."""


@dataclass(slots=True)
class SftRows:
    """Rows for TRL's SFTTrainer and what they come from. ``left_out`` counts episodes by the reason."""

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def select_episodes(
    store: EpisodeStore, settings: SftSettings, sources: Iterable[TaskSource], *, run: str | None = None
) -> Iterator[Episode]:
    """Episodes of the recipe's splits that pass its filters, oldest first; ``run`` keeps those of one run."""
    for source in sources:
        if settings.envs and source.env not in settings.envs:
            continue
        filters: EpisodeFilters = {"env": source.env, "split": source.split}
        if settings.success_only:
            filters["min_reward"] = 1.0
        if run is not None:
            filters["run"] = run
        for episode in store.iter_episodes(**filters):
            fits = (
                episode.status.scored
                and (not settings.engines or episode.engine in settings.engines)
                and (settings.constrained or not episode.constrained)
                and (not settings.policies or episode.policy in settings.policies)
                and (not source.types or episode.task.type in source.types)
                and (not source.task_ids or episode.task.id in source.task_ids)
            )
            if fits:
                yield episode


def check_tokenizer(episode: Episode, tokenizer: HFTokenizer) -> None:
    """Raise ConfigError unless the episode was played with this tokenizer.

    Its ids must decode to the texts that were recorded with them: the prompt's messages, and every completion.
    """
    vocabulary = len(tokenizer.hf)
    ids = (*episode.prompt_ids, *episode.completion_ids)
    good = max(ids, default=0) < vocabulary
    if good:
        prompt = tokenizer.decode(episode.prompt_ids)
        good = all(message.content in prompt for message in episode.prompt)
    for turn in (turn for turn in episode.turns if good and turn.completion_ids):  # none: an earlier fork's context
        closed = turn.finish_reason is FinishReason.STOP
        body = turn.completion_ids[:-1] if turn.completion_ids[-1] == tokenizer.end_of_turn_id else turn.completion_ids
        good = good and tokenizer.decode(body) == turn.text and (not closed or len(body) < len(turn.completion_ids))
    if not good:
        raise ConfigError(
            f"episode {episode.id} (model {episode.model!r}) was played with another tokenizer",
            hint="collect episodes with this model's tokenizer (sft.collect), or name the model that played them",
        )


def sft_rows(
    episodes: Iterable[Episode], tokenizer: HFTokenizer, *, max_length: int, guard: SplitGuard, limit: int = 0
) -> SftRows:
    """Rows of ``input_ids`` and ``labels``: the policy's tokens are learnt, everything else is ``IGNORED``.

    An episode of more than ``max_length`` tokens is left out and counted. Raises ConfigError for an episode of an
    evaluation split or of another tokenizer.
    """
    rows = SftRows()
    for episode in episodes:
        if limit and len(rows.tasks) >= limit:
            break
        guard.check_task(episode.task)
        check_tokenizer(episode, tokenizer)
        ids = [*episode.prompt_ids, *episode.completion_ids]
        labels = [IGNORED] * len(episode.prompt_ids)
        labels += [i if m else IGNORED for i, m in zip(episode.completion_ids, episode.mask, strict=True)]
        if len(ids) > max_length:
            rows.left_out["too long"] += 1
        elif not any(episode.mask):
            rows.left_out["nothing to learn"] += 1
        else:
            rows.input_ids.append(ids)
            rows.labels.append(labels)
            rows.tasks.append(episode.task)
    return rows
