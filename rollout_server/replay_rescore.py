"""What a stored episode's reward is under the other rules of its benchmark. The episode itself is never changed.

DB Bench has two (``envs.dbbench.scoring``): ``fc`` compares normalised values with a tolerance and judges nothing that
was not committed; ``classic`` compares exactly and judges a change to the table even without an answer. ALFWorld's
reward is that the task was done, under both.
"""

from __future__ import annotations

from dataclasses import dataclass

from envs.client import EnvClient, EpisodeView
from envs.dbbench.scoring import MUTATION_TYPES, rules_names
from envs.errors import Conflict, InfrastructureError, InvalidAction, InvalidOption, UnknownEpisode
from envs.types import Action
from rollout_server.replay import first_difference, step_difference
from rollout_server.types import Episode, EpisodeStatus, StepRecord

__all__ = ["Rescore", "rescore"]

_COMMIT = "commit_final_answer"


@dataclass(frozen=True, slots=True)
class Rescore:
    """``reward`` as played, ``rescored`` under ``rules``; both None where there was no result. ``how`` in words."""

    episode_id: str
    rules: str
    reward: float | None
    rescored: float | None
    how: str

    @property
    def changed(self) -> bool:
        """Whether the rules differ on this episode."""
        return self.rescored != self.reward


async def rescore(episode: Episode, rules: str, client: EnvClient) -> Rescore:
    """The reward of an episode under ``rules`` (``fc`` or ``classic``), judged by the environment.

    A question needs its committed answer alone; a change to a table is made again by the recorded statements, each of
    which must do what it did. Raises: InvalidOption for other rules or another environment; Conflict where the task or
    a statement no longer does what it did; UnknownTask; InfrastructureError.
    """
    if rules not in rules_names():
        raise InvalidOption(f"there are no rules {rules!r}", hint=f"one of {', '.join(rules_names())}")
    if not episode.status.scored:
        return Rescore(episode.id, rules, None, None, f"no result ({episode.status.value})")
    if episode.env == "alfworld":
        return Rescore(
            episode.id, rules, episode.reward, episode.reward, "the rules are the same: the task was done or not"
        )
    if episode.env != "dbbench":
        raise InvalidOption(f"{episode.env} has no other rules", hint="dbbench has fc and classic")
    steps = list(episode.steps)
    committed = bool(steps) and steps[-1].action.name == _COMMIT
    # What a policy commits completes the episode; after any other end it was the classic protocol that asked to judge.
    by_policy = committed and episode.status is EpisodeStatus.COMPLETED
    changes = episode.task.type in MUTATION_TYPES
    if not by_policy and not (changes and rules == "classic"):
        return Rescore(episode.id, rules, episode.reward, 0.0, "nothing was committed")
    statements = steps[:-1] if committed else steps
    final = steps[-1].action if committed else Action(_COMMIT, {"answers": []})
    view = await _judge(episode, rules, statements if changes else [], final, client)
    how = f"{len(statements)} statements made again, then the table judged" if changes else "the answer judged"
    return Rescore(episode.id, rules, episode.reward, float(view.reward or 0.0), how)


async def _judge(
    episode: Episode, rules: str, statements: list[StepRecord], final: Action, client: EnvClient
) -> EpisodeView:
    # One step more than was played: the limit was the protocol's, and the judging comes after it.
    options = {name: value for name, value in episode.options.items() if name == "max_steps"}
    if "max_steps" in options:
        options["max_steps"] = max(options["max_steps"], len(statements) + 1)
    view = await client.create(
        episode.env, task_id=episode.task.id, seed=episode.seed, options={**options, "rules": rules}
    )
    try:
        if view.task.content_hash != episode.task.content_hash:
            raise Conflict(f"task {episode.task.id} is no longer what episode {episode.id} was played on")
        if difference := first_difference(episode, view.observation):
            raise Conflict(f"episode {episode.id} cannot be judged again: {difference}")
        for number, record in enumerate(statements):
            view = await client.step(view, record.action)
            if difference := step_difference(0, number, record, view):
                raise Conflict(f"episode {episode.id} cannot be judged again: {difference}", hint="see replay verify")
        return await client.step(view, final)
    except InvalidAction as error:
        raise Conflict(f"episode {episode.id} cannot be judged again: {error}") from error
    except UnknownEpisode as error:
        raise InfrastructureError(f"the env server lost the episode: {error.message}") from error
    finally:
        await client.close_episode(view.id)
