"""Winning against losing continuations of one beginning, from stored episodes. Pure: ids as they were sampled.

Two episodes of a task share every token up to the turn at which they part. What comes before is the prompt; what each
says there, or from there on, is a side of a pair. Forks of one episode share most; an expert and a near miss of DB
Bench share the looks before the mistake.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, product
from typing import Literal

from envs.types import Task
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Episode, FinishReason, Turn
from trainer.batch import invalid_turn
from trainer.datasets import check_tokenizer
from trainer.settings import PreferenceSettings
from trainer.splits import SplitGuard

__all__ = [
    "Pair",
    "Preference",
    "Preferences",
    "Side",
    "Verdict",
    "balanced_weights",
    "digest",
    "pair_rows",
    "parting_turn",
    "verdict_rows",
]

type _Scope = Literal["turn", "episode"]


@dataclass(frozen=True, slots=True)
class Side:
    """One continuation. ``ids`` and ``mask`` have one length; mask 1 is what the policy said and is learnt."""

    episode_id: str
    reward: float
    ids: tuple[int, ...]
    mask: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two continuations of ``prompt_ids``, which are everything before turn ``turn`` in both episodes."""

    task: Task
    turn: int
    prompt_ids: tuple[int, ...]
    chosen: Side
    rejected: Side

    @property
    def sides(self) -> tuple[Side, ...]:
        """Every continuation, the better one first."""
        return (self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One continuation of ``prompt_ids`` and whether it is desirable."""

    task: Task
    turn: int
    prompt_ids: tuple[int, ...]
    side: Side
    desirable: bool

    @property
    def sides(self) -> tuple[Side, ...]:
        """The continuation."""
        return (self.side,)


type Preference = Pair | Verdict


@dataclass(slots=True)
class Preferences[Row: (Pair, Verdict)]:
    """Rows to learn from, how many episodes of how many tasks were looked at, and what was left out for which reason.

    ``left_out`` counts in the unit that the reason names: episodes, tasks, pairs or rows.
    """

    rows: list[Row] = field(default_factory=list)
    episodes: int = 0
    tasks: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Said:
    """What of a turn matters here. ``usable``: closed by the policy itself, and the environment could act on it."""

    ids: tuple[int, ...]
    environment_ids: tuple[int, ...]
    given: bool
    usable: bool


@dataclass(frozen=True, slots=True)
class _Played:
    """What of an episode matters here: thousands are held at once."""

    id: str
    task: Task
    reward: float
    won: bool
    prompt_ids: tuple[int, ...]
    turns: tuple[_Said, ...]

    def before(self, turn: int) -> tuple[int, ...]:
        """Every id before a turn."""
        said = ((*t.ids, *t.environment_ids) for t in self.turns[:turn])
        return (*self.prompt_ids, *chain.from_iterable(said))

    def side(self, turn: int, scope: _Scope) -> Side:
        """What was said at a turn, or from there on; tokens of the environment after the policy's last are dropped."""
        turns = self.turns[turn : turn + 1] if scope == "turn" else self.turns[turn:]
        ids = tuple(i for t in turns for i in (*t.ids, *t.environment_ids))
        mask = tuple(m for t in turns for m in (*[int(not t.given)] * len(t.ids), *[0] * len(t.environment_ids)))
        last = max((i for i, m in enumerate(mask) if m), default=-1) + 1
        return Side(self.id, self.reward, ids[:last], mask[:last])


def parting_turn(first: Episode, second: Episode) -> int | None:
    """The index of the turn at which two episodes part: every token before it is the same in both.

    None where their prompts differ, where the policy said the same to the end of one of them, or where the environment
    answered the same words otherwise: then nothing that a policy said makes the difference.
    """
    return _parting(_played(first, 0.0), _played(second, 0.0))


def pair_rows(
    episodes: Iterable[Episode], tokenizer: HFTokenizer, settings: PreferenceSettings, *, guard: SplitGuard
) -> Preferences[Pair]:
    """Every pair of a winning and a losing continuation that ``settings`` ask for, by task in the order of episodes.

    Raises ConfigError for an episode of an evaluation split or of another tokenizer.
    """
    found: Preferences[Pair] = Preferences()
    seen: set[tuple[tuple[int, ...], ...]] = set()
    for group in _groups(episodes, tokenizer, settings, guard, found):
        candidates = _candidates(group, settings, found.left_out)
        kept = _first(candidates, settings.pairs_per_task)
        if len(candidates) > len(kept):
            found.left_out["pairs above pairs_per_task"] += len(candidates) - len(kept)
        for pair in kept:
            key = _key(pair.prompt_ids, pair.chosen.ids, pair.rejected.ids)
            if key in seen:
                found.left_out["pairs that come twice"] += 1
                continue
            seen.add(key)
            found.rows.append(pair)
    return found


def verdict_rows(
    episodes: Iterable[Episode], tokenizer: HFTokenizer, settings: PreferenceSettings, *, guard: SplitGuard
) -> Preferences[Verdict]:
    """Rows for KTO: whole episodes by whether they were won, or both sides of every pair of turns.

    Raises ConfigError for an episode of an evaluation split or of another tokenizer.
    """
    found: Preferences[Verdict] = Preferences()
    if settings.scope == "turn":
        pairs = pair_rows(episodes, tokenizer, settings, guard=guard)
        found.episodes, found.tasks, found.left_out = pairs.episodes, pairs.tasks, pairs.left_out
        made = [Verdict(p.task, p.turn, p.prompt_ids, s, s is p.chosen) for p in pairs.rows for s in p.sides]
    else:
        made = []
        for group in _groups(episodes, tokenizer, settings, guard, found):
            for won in (True, False):
                rows = [_verdict(p) for p in group if p.won is won]
                fitting = [r for r in rows if _fits(r.prompt_ids, r.sides, settings, found.left_out, "episodes")]
                most = settings.pairs_per_task or len(fitting)
                if len(fitting) > most:
                    found.left_out["episodes above pairs_per_task"] += len(fitting) - most
                made += fitting[:most]
    found.rows = _consistent(made, found.left_out)
    return found


def balanced_weights(verdicts: Sequence[Verdict]) -> tuple[float, float]:
    """Weights of desirable and undesirable rows that make both kinds count alike: the rarer one is weighed up.

    Eq. (8) of the KTO paper: the ratio of the weighted counts is 1, within its bounds of 1 to 4/3.
    """
    good = sum(v.desirable for v in verdicts)
    bad = len(verdicts) - good
    if not good or not bad:
        return 1.0, 1.0
    return max(1.0, bad / good), max(1.0, good / bad)


def digest(rows: Sequence[Preference]) -> str:
    """A SHA-256 (hex) of rows in their order: what a resumed run must meet again."""
    text = "\n".join(repr((r.prompt_ids, [(s.ids, s.mask) for s in r.sides], isinstance(r, Pair))) for r in rows)
    marks = "".join(str(int(r.desirable)) for r in rows if isinstance(r, Verdict))
    return sha256(f"{text}\n{marks}".encode()).hexdigest()


def _groups(
    episodes: Iterable[Episode],
    tokenizer: HFTokenizer,
    settings: PreferenceSettings,
    guard: SplitGuard,
    found: Preferences[Pair] | Preferences[Verdict],
) -> Iterator[list[_Played]]:
    """The episodes of each task, checked and counted."""
    groups: dict[tuple[str, ...], list[_Played]] = defaultdict(list)
    for episode in episodes:
        guard.check_task(episode.task)
        reward = episode.reward if settings.compare == "reward" else episode.training_reward
        if reward is None:  # without a result: the machinery failed, or somebody stopped it
            found.left_out["episodes without a result"] += 1
            continue
        check_tokenizer(episode, tokenizer)
        found.episodes += 1
        task = episode.task
        groups[task.env, task.id, task.content_hash, episode.protocol].append(_played(episode, reward))
    found.tasks = len(groups)
    return iter(groups.values())


def _played(episode: Episode, reward: float) -> _Played:
    turns = tuple(_said(turn) for turn in episode.turns)
    return _Played(episode.id, episode.task, reward, episode.success, episode.prompt_ids, turns)


def _said(turn: Turn) -> _Said:
    usable = turn.finish_reason is FinishReason.STOP and not invalid_turn(turn)
    return _Said(turn.completion_ids, turn.environment_ids, turn.given, usable)


def _parting(first: _Played, second: _Played) -> int | None:
    if first.prompt_ids != second.prompt_ids:
        return None
    for index, (a, b) in enumerate(zip(first.turns, second.turns, strict=False)):
        if a.ids == b.ids and a.environment_ids == b.environment_ids:
            continue
        # A cut turn gets its end from the environment: the same tokens, whoever said the last one.
        if (*a.ids, *a.environment_ids) != (*b.ids, *b.environment_ids):
            return None if a.ids == b.ids else index
    return None


def _candidates(group: Sequence[_Played], settings: PreferenceSettings, left_out: Counter[str]) -> list[Pair]:
    """Every fitting pair of a task, the longest shared beginning first; none that another one says the other way."""
    ranked = sorted(group, key=lambda p: -p.reward)
    found: list[Pair] = []
    apart = False
    for better, worse in product(ranked, reversed(ranked)):
        if better.reward - worse.reward < settings.margin:
            continue
        apart = True
        turn = _parting(better, worse)
        if turn is None:
            other = better.prompt_ids != worse.prompt_ids
            left_out["pairs of other prompts" if other else "pairs that the policy said alike"] += 1
        elif better.turns[turn].given or worse.turns[turn].given:
            left_out["pairs that part in a turn that was given"] += 1
        elif settings.scope == "turn" and not better.turns[turn].usable:
            left_out["pairs whose better turn was cut or invalid"] += 1
        else:
            sides = better.side(turn, settings.scope), worse.side(turn, settings.scope)
            pair = Pair(better.task, turn, better.before(turn), *sides)
            if _fits(pair.prompt_ids, pair.sides, settings, left_out, "pairs"):
                found.append(pair)
    if not apart:
        left_out["tasks without a better and a worse episode"] += 1
    said = {_key(p.prompt_ids, p.chosen.ids, p.rejected.ids) for p in found}
    agreed = [p for p in found if _key(p.prompt_ids, p.rejected.ids, p.chosen.ids) not in said]
    if len(agreed) < len(found):
        left_out["pairs that another one contradicts"] += len(found) - len(agreed)
    once: dict[tuple[tuple[int, ...], ...], Pair] = {}
    for pair in agreed:
        once.setdefault(_key(pair.prompt_ids, pair.chosen.ids, pair.rejected.ids), pair)
    if len(once) < len(agreed):
        left_out["pairs that come twice"] += len(agreed) - len(once)
    return sorted(once.values(), key=lambda p: -p.turn)


def _fits(
    prompt: Sequence[int], sides: Sequence[Side], settings: PreferenceSettings, left_out: Counter[str], unit: str
) -> bool:
    if not all(any(side.mask) for side in sides):
        left_out[f"{unit} with nothing of the policy's"] += 1
    elif len(prompt) + max(len(side.ids) for side in sides) > settings.max_length:
        left_out[f"{unit} longer than max_length"] += 1
    else:
        return True
    return False


def _first(candidates: Sequence[Pair], most: int) -> list[Pair]:
    """At most ``most``: in their order, yet an episode that is in a pair already only where no fresh one is left."""
    if not most or len(candidates) <= most:
        return list(candidates)
    rest, kept, used = list(candidates), list[Pair](), Counter[str]()
    while len(kept) < most:
        pair = min(rest, key=lambda p: sum(used[s.episode_id] for s in p.sides))  # the first of the least used
        rest.remove(pair)
        kept.append(pair)
        used.update(s.episode_id for s in pair.sides)
    return kept


def _verdict(played: _Played) -> Verdict:
    first = next((i for i, turn in enumerate(played.turns) if not turn.given), 0)
    return Verdict(played.task, first, played.before(first), played.side(first, "episode"), played.won)


def _consistent(verdicts: Sequence[Verdict], left_out: Counter[str]) -> list[Verdict]:
    """Every row once; none of what is called desirable in one place and undesirable in another."""
    judged: dict[tuple[tuple[int, ...], ...], set[bool]] = defaultdict(set)
    for v in verdicts:
        judged[_key(v.prompt_ids, v.side.ids)].add(v.desirable)
    kept: dict[tuple[tuple[int, ...], ...], Verdict] = {}
    for v in verdicts:
        key = _key(v.prompt_ids, v.side.ids)
        if len(judged[key]) > 1:
            left_out["rows that are desirable and undesirable"] += 1
        elif key in kept:
            left_out["rows that come twice"] += 1
        else:
            kept[key] = v
    return list(kept.values())


def _key(*ids: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return ids
