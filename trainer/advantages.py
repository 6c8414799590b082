"""Credit for single turns, on top of the advantage that an episode has in its group. Pure functions, no library.

TRL gives every episode one advantage A_E: its reward against its group's. Here each turn t of an episode gets a step
advantage A_S(t), and every policy token of the turn is trained with ``A_E + step_weight * A_S(t)``:

- GiGPO (Feng et al. 2025, Group-in-Group Policy Optimization): turns of one group's episodes that began in the same
  state of the environment (the anchor) are compared by their discounted returns-to-go. A turn that no other shares its
  state with has A_S = 0, so where no state is met twice the rest is plain GRPO.
- Oracle potential: a turn is worth what its steps changed of a potential that the environment tells for training
  (ALFWorld: how much nearer the shortest plan came), against the mean turn of its group, or the mean of those that
  began as near. A potential that were the optimal value would make this the advantage of the optimal policy, up to a
  constant.

Step advantages have mean 0 in what they are compared with: an anchor's turns, a level's or a group's. Episodes
without a result are given to none of these functions, so they are in no baseline.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

from envs.errors import ConfigError
from rollout_server.types import Episode, RewardWeights, Turn
from trainer.batch import invalid_turn
from trainer.settings import GrpoSettings

__all__ = [
    "ORACLE_TERMS",
    "Baseline",
    "Scale",
    "StepCredit",
    "anchor_states",
    "gigpo",
    "normalised",
    "oracle_potential",
    "per_token",
    "returns_to_go",
    "step_credit",
    "turn_rewards",
]

type Scale = Literal["std", "none"]
"""By what centred values are divided: their standard deviation, or nothing."""

type Baseline = Literal["group", "level"]
"""With which turns of a group one is compared: all, or those that began at the same potential."""

type StepCredit = Callable[[Sequence[Episode]], list[tuple[float, ...]]]
"""The scored episodes of one group in, the weighted step advantage of each of their own turns out."""

ORACLE_TERMS = {"alfworld": ("potential",), "dbbench": ("right_table", "overlap")}
"""The shaping terms of an environment that say by how much a step changed a potential."""

_EPSILON = 1e-4  # as TRL has it beside a standard deviation


def step_credit(settings: GrpoSettings, weights: RewardWeights) -> StepCredit | None:
    """The rule that ``grpo.advantage`` names; None for ``group``, which knows episodes only."""
    weight, scale = settings.step_weight, settings.step_scale

    def gigpo_rule(episodes: Sequence[Episode]) -> list[tuple[float, ...]]:
        return _times(weight, gigpo(episodes, weights=weights, gamma=settings.step_gamma, scale=scale))

    def oracle_rule(episodes: Sequence[Episode]) -> list[tuple[float, ...]]:
        values = oracle_potential(
            episodes,
            scale=scale,
            invalid_cost=settings.step_invalid_cost,
            repeat_cost=settings.step_repeat_cost,
            baseline=settings.step_baseline,
        )
        return _times(weight, values)

    return {"group": None, "gigpo": gigpo_rule, "oracle_potential": oracle_rule}[settings.advantage]


def gigpo(
    episodes: Sequence[Episode], *, weights: RewardWeights, gamma: float, scale: Scale
) -> list[tuple[float, ...]]:
    """GiGPO's step advantage of every own turn of a group's episodes: see the module."""
    returns = [returns_to_go(turn_rewards(episode, weights), gamma) for episode in episodes]
    return _against_equals(returns, [anchor_states(episode) for episode in episodes], scale)


def oracle_potential(
    episodes: Sequence[Episode],
    *,
    scale: Scale,
    invalid_cost: float = 0.0,
    repeat_cost: float = 0.0,
    baseline: Baseline = "group",
) -> list[tuple[float, ...]]:
    """The change of the potential in every own turn, against the group's turns: all (``group``), or those that began at
    the same potential (``level``), so that a turn of somebody who is still searching is not held against one of
    somebody who carries the thing home already.

    A turn without a step changed nothing: 0. Searching in the wrong place changes the potential as little, and is far
    better than an invalid turn, which is worth ``invalid_cost`` less, or than one that showed only what the episode had
    shown before, word for word: ``repeat_cost`` less. Raises ConfigError for an environment that tells no potential.
    """
    changes: list[list[float]] = []
    levels: list[list[float]] = []
    for episode in episodes:
        terms = ORACLE_TERMS.get(episode.env)
        if terms is None:
            known = ", ".join(sorted(ORACLE_TERMS))
            raise ConfigError(
                f"{episode.env} tells no potential for grpo.advantage = 'oracle_potential'",
                hint=f"take 'gigpo' or 'group'; a potential is told by {known}",
            )
        told = [math.fsum(s.shaping.get(term, 0.0) for s in turn.steps for term in terms) for turn in episode.turns]
        began = [0.0, *itertools.accumulate(told)]
        again = _repeated(episode)
        own = [(at, turn) for at, turn in enumerate(episode.turns) if not turn.given]
        levels.append([round(began[at], 6) if baseline == "level" else 0.0 for at, _ in own])
        changes.append(
            [
                told[at] - (invalid_cost if invalid_turn(turn) else repeat_cost * (turn.index in again))
                for at, turn in own
            ]
        )
    return _against_equals(changes, levels, scale)


def _against_equals[K](
    values: Sequence[Sequence[float]], keys: Sequence[Sequence[K]], scale: Scale
) -> list[tuple[float, ...]]:
    """Each turn's value against those of the turns with the same key, in the shape of ``values``."""
    places: dict[K, list[tuple[int, int]]] = defaultdict(list)
    for number, row in enumerate(keys):
        for at, key in enumerate(row):
            places[key].append((number, at))
    out = [[0.0] * len(row) for row in values]
    for equals in places.values():
        compared = normalised([values[number][at] for number, at in equals], scale)
        for (number, at), value in zip(equals, compared, strict=True):
            out[number][at] = value
    return [tuple(row) for row in out]


def normalised(values: Sequence[float], scale: Scale) -> list[float]:
    """Values less their mean, and over their standard deviation (of a sample) for ``std``; a single one is 0."""
    if len(values) < 2:
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    centred = [v - mean for v in values]
    if scale == "none":
        return centred
    std = math.sqrt(math.fsum(c * c for c in centred) / (len(values) - 1))
    return [c / (std + _EPSILON) for c in centred]


def turn_rewards(episode: Episode, weights: RewardWeights) -> tuple[float, ...]:
    """The training reward of each own turn; together they are the episode's.

    Costs of invalid actions and shaping terms count where they arose, the benchmark's reward in the last turn.
    """
    turns = _own(episode)
    if not turns:
        return ()
    told = episode.metadata.get("invalid_turns")
    invalid = {t.index for t in turns if invalid_turn(t)} if told is None else set(told)
    terms = weights.shaping.get(episode.env, {})
    out = [
        math.fsum(weight * step.shaping.get(term, 0.0) for step in turn.steps for term, weight in terms.items())
        - (weights.invalid_action if turn.index in invalid else 0.0)
        for turn in turns
    ]
    out[-1] += (episode.training_reward or 0.0) - math.fsum(out)
    return tuple(out)


def returns_to_go(rewards: Sequence[float], gamma: float) -> tuple[float, ...]:
    """``R_t = r_t + gamma * R_{t+1}``."""
    out: list[float] = []
    value = 0.0
    for reward in reversed(rewards):
        value = reward + gamma * value
        out.append(value)
    return tuple(reversed(out))


def anchor_states(episode: Episode) -> tuple[str, ...]:
    """The environment's state in which each own turn began.

    Episodes of a group share task, seed and options, and so the state that they begin in. A state is known by the
    environment's own hash; where an environment tells none (DB Bench), by the actions that led to it, since an
    environment is a function of these: fewer states are then known to be the same, and none is by mistake.
    """
    state, past, out = "start", hashlib.sha256(), []
    for turn in episode.turns:
        if not turn.given:
            out.append(state)
        for step in turn.steps:
            action = [step.action.name, dict(step.action.arguments)]
            past.update(json.dumps(action, sort_keys=True, default=str).encode())
            state = f"state:{step.state_hash}" if step.state_hash else f"actions:{past.hexdigest()}"
    return tuple(out)


def per_token(episode: Episode, values: Sequence[float], length: int) -> tuple[float, ...]:
    """A value for each own turn as one for each of the first ``length`` completion tokens; 0 for the environment's."""
    own = iter(values)
    out: list[float] = []
    for turn in episode.turns:
        value = 0.0 if turn.given else next(own)
        out += [value] * len(turn.completion_ids) + [0.0] * len(turn.environment_ids)
    return tuple(out[:length])


def _repeated(episode: Episode) -> set[int]:
    """The turns, by index, whose steps all showed what an earlier turn had shown."""
    seen: set[str] = set()
    found: set[int] = set()
    for turn in episode.turns:
        texts = {step.observation.text for step in turn.steps} - {""}
        if texts and texts <= seen:
            found.add(turn.index)
        seen |= texts
    return found


def _own(episode: Episode) -> list[Turn]:
    return [turn for turn in episode.turns if not turn.given]


def _times(weight: float, rows: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    return [tuple(weight * value for value in row) for row in rows]
