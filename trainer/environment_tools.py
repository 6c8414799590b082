"""An environment whose methods are tools: for TRL's own ``environment_factory``, in small notebooks.

    client = SyncEnvClient("http://127.0.0.1:8470", token=...)
    trainer = GRPOTrainer(..., environment_factory=lambda: AlfworldTools(client),
                          train_dataset=Dataset.from_list([{"prompt": [...], "split": "generated", "sample_seed": 7}]))

A convenience, and slow: TRL resets and steps the episodes of a batch one after the other, so that each waits for every
other's round trips (``benchmarks/environment_factory.py``), and it reads a turn's text back from its tokens. The
recipes play through ``trainer.rollouts`` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from envs.errors import ConfigError, InfrastructureError, UnknownEpisode
from envs.sync_client import SyncEnvClient
from envs.types import Action
from envs.wire import EpisodeView
from rollout_server.protocols.alfworld_text import actions_text, intro_text, match_action, observation_text
from trainer.splits import SplitGuard

__all__ = ["AlfworldTools", "DbBenchTools"]

_OVER = "The episode is over."


class _EnvironmentTools:
    """One episode at a time, on an env server. Public methods of subclasses are the model's tools.

    ``guard`` refuses tasks of evaluation splits; None: one that knows both environments' splits. Nothing here is
    shared: the client may be, since ``SyncEnvClient`` is safe for many threads.
    """

    _env: ClassVar[str]

    def __init__(self, client: SyncEnvClient, *, guard: SplitGuard | None = None) -> None:
        self._client = client
        self._guard = guard or SplitGuard()
        self._view: EpisodeView | None = None
        self._failed = False

    def reset(
        self,
        task_id: str | None = None,
        split: str | None = None,
        sample_seed: int | None = None,
        seed: int = 0,
        **row: Any,
    ) -> str:
        """Begin the task that a row of the dataset names, by ``task_id`` or by ``split`` and ``sample_seed``.

        Returns its first observation, which TRL appends to the row's prompt. Other columns (``row``) are not read.
        Raises ConfigError for a row without a task and for a task of an evaluation split; InfrastructureError.
        """
        if task_id is None and (split is None or sample_seed is None):
            raise ConfigError("a row names no task", hint="give it task_id, or split and sample_seed")
        self._close()
        self._failed = False
        self._guard.check(self._env, str(split) if task_id is None else task_id.partition("/")[0])
        if task_id is not None:
            view = self._client.create(self._env, task_id=task_id, seed=seed)
        else:
            view = self._client.create(self._env, split=split, sample_seed=sample_seed, seed=seed)
        self._view = view
        self._guard.check_task(view.task)
        return self._opening(view)

    def get_reward(self) -> float | None:
        """The environment's own reward, once TRL has played the batch; the episode is closed.

        None where the machinery failed: TRL leaves such an episode out, and nobody loses by it.
        """
        view = self._view
        self._close()
        return None if view is None or self._failed else view.reward

    def _opening(self, view: EpisodeView) -> str:
        return view.observation.text

    def _step(self, action: Action) -> str:
        """Do it and say what the environment answers. Raises InfrastructureError, once and at every later call."""
        view = self._view
        if view is None or self._failed:
            raise InfrastructureError("the episode was lost", hint="its reward is None")
        if view.status.over:
            return _OVER
        try:
            self._view = self._client.step(view, action)
        except (InfrastructureError, UnknownEpisode):
            self._failed = True
            raise
        return self._view.observation.text

    def _close(self) -> None:
        """End the episode at the server. Where that cannot be reached it ends by itself, after its time to live."""
        view, self._view = self._view, None
        if view is not None:
            with suppress(InfrastructureError, UnknownEpisode):
                self._client.close_episode(view.id)


class AlfworldTools(_EnvironmentTools):
    """ALFWorld in the words of AgentBench's function-calling version; one tool."""

    _env = "alfworld"

    def take_action(self, action: str) -> str:
        """Take an action in the household.

        Args:
            action: One of the available actions.

        Returns:
            What happens, and the actions that are available then.
        """
        admissible: Sequence[str] = self._view.observation.admissible_actions if self._view is not None else ()
        text = self._step(Action("take_action", {"action": match_action(action, admissible)}))
        view = self._view
        listed = "" if view is None or view.status.over else actions_text(view.observation.admissible_actions)
        return observation_text(text) + listed

    def _opening(self, view: EpisodeView) -> str:
        observation = view.observation
        return f"Here is your task. {intro_text(observation.text)}{actions_text(observation.admissible_actions)}"


class DbBenchTools(_EnvironmentTools):
    """DB Bench in the words of AgentBench's function-calling version; two tools."""

    _env = "dbbench"

    def execute_sql(self, query: str) -> str:
        """Executes a given SQL statement on the database and returns the result.

        Args:
            query: The SQL statement to execute.

        Returns:
            The database's answer.
        """
        return self._step(Action("execute_sql", {"query": query})) or "No response from database."

    def commit_final_answer(self, answers: list[str]) -> str:
        """Commits the final answer after all operations are completed.

        Args:
            answers: The final answers.

        Returns:
            That the answer was committed.
        """
        return self._step(Action("commit_final_answer", {"answers": answers}))
