"""Stored episodes and chat files as training rows: an episode's ids as they were played, never tokenised again."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.chat import ChatFormat
from rollout_server.episode_store import EpisodeFilters, EpisodeStore
from rollout_server.export_messages import conversation
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode, FinishReason, Message, Role
from trainer.chat_jsonl import IGNORED, ChatExample, check_rendering, encode_example
from trainer.settings import SftSettings, TaskSource
from trainer.splits import SplitGuard

__all__ = [
    "IGNORED",
    "RowOrigin",
    "SftRows",
    "chat_rows",
    "check_tokenizer",
    "near_key",
    "select_episodes",
    "sft_rows",
]


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """Where a row comes from, and what its validation looks at.

    ``name``: the episode's id, or ``FILE:LINE``. ``source``: the engine and policy that played it, or the file.
    ``empty_turns``: learnt turns without a visible character. ``near``: see ``near_key``.
    """

    name: str
    source: str
    task: Task | None
    roles: tuple[Role, ...]
    empty_turns: int
    near: str


@dataclass(slots=True)
class SftRows:
    """Rows for TRL's SFTTrainer and what they come from: ``input_ids``, ``labels`` and ``origins`` have one length.

    ``left_out`` counts what is in no row by the reason; ``too_long`` has the lengths in tokens of those over the limit.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    origins: list[RowOrigin] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    too_long: list[int] = field(default_factory=list)

    @property
    def tasks(self) -> list[Task]:
        """The rows' tasks, of those that tell one."""
        return [origin.task for origin in self.origins if origin.task is not None]

    def __len__(self) -> int:
        return len(self.input_ids)

    def keep(self, indices: Sequence[int], reason: str) -> None:
        """Keep these rows alone, in their order, and count the others under ``reason``."""
        if gone := len(self) - len(indices):
            self.left_out[reason] += gone
        self.input_ids = [self.input_ids[i] for i in indices]
        self.labels = [self.labels[i] for i in indices]
        self.origins = [self.origins[i] for i in indices]

    def _add(self, ids: list[int], labels: list[int], origin: RowOrigin, max_length: int) -> None:
        if len(ids) > max_length:
            self.left_out["too long"] += 1
            self.too_long.append(len(ids))
        elif all(label == IGNORED for label in labels):
            self.left_out["nothing to learn"] += 1
        else:
            self.input_ids.append(ids)
            self.labels.append(labels)
            self.origins.append(origin)


def near_key(messages: Iterable[Message]) -> str:
    """A hash (hex) that conversations share which differ only in numbers, case, punctuation and white space."""
    text = "\n".join(f"{m.role.value} {m.content}" for m in messages).lower()
    return hashlib.sha256(re.sub(r"[\W_]+", " ", re.sub(r"\d+", "0", text)).encode(errors="replace")).hexdigest()


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

    An episode of more than ``max_length`` tokens is left out and counted, and so is one of an engine that tells texts
    alone, or that a run played to evaluate itself. Raises ConfigError for an episode of an evaluation split or of
    another tokenizer.
    """
    rows = SftRows()
    for episode in episodes:
        if limit and len(rows) >= limit:
            break
        guard.check_task(episode.task)
        if episode.metadata.get("held_out"):
            rows.left_out["played to evaluate the run"] += 1
            continue
        if episode.text_only:
            rows.left_out["text only, no token ids"] += 1
            continue
        check_tokenizer(episode, tokenizer)
        ids = [*episode.prompt_ids, *episode.completion_ids]
        labels = [IGNORED] * len(episode.prompt_ids)
        labels += [i if m else IGNORED for i, m in zip(episode.completion_ids, episode.mask, strict=True)]
        rows._add(ids, labels, _episode_origin(episode), max_length)
    return rows


def chat_rows(
    examples: Iterable[ChatExample],
    tokenizer: HFTokenizer,
    *,
    settings: SftSettings,
    guard: SplitGuard,
) -> SftRows:
    """Rows of a chat file's conversations: the assistant's tokens are learnt, as the agent loop would write them.

    ``sft.success_only`` leaves out those with a reward below 1, ``sft.envs`` those of other environments. Raises
    ConfigError for one of an evaluation split, or that the model's chat template would write otherwise.
    """
    rows = SftRows()
    chat = ChatFormat(tokenizer)
    for example in examples:
        if settings.limit and len(rows) >= settings.limit:
            break
        if example.task is not None:
            guard.check_task(example.task)
        if settings.success_only and example.reward is not None and example.reward < 1.0:
            rows.left_out["not solved"] += 1
            continue
        if settings.envs and (example.task is None or example.task.env not in settings.envs):
            rows.left_out["of another environment"] += 1
            continue
        check_rendering(example, tokenizer)
        ids, labels = encode_example(example, chat)
        learnt = [s.message.content for s in example.said if s.learnt]
        origin = RowOrigin(
            name=example.name,
            source=example.name.rpartition(":")[0],
            task=example.task,
            roles=tuple(m.role for m in example.messages),
            empty_turns=sum(not text.strip() for text in learnt),
            near=near_key(example.messages),
        )
        rows._add(ids, labels, origin, settings.max_length)
    return rows


def _episode_origin(episode: Episode) -> RowOrigin:
    messages = conversation(episode).messages
    return RowOrigin(
        name=episode.id,
        source=f"{episode.engine} {episode.model} ({episode.policy})",
        task=episode.task,
        roles=tuple(m.role for m in messages),
        empty_turns=sum(not t.text.strip() for t in episode.turns if not t.given),
        near=near_key(messages),
    )
