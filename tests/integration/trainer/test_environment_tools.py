"""Environments whose methods are tools, for TRL's own loop: played by hand, and by TRL for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envs.config import EnvServerSettings
from envs.errors import ConfigError, InfrastructureError, TransportError
from envs.server.app import create_app
from envs.sync_client import SyncEnvClient
from trainer.environment_tools import AlfworldTools, DbBenchTools
from trainer.splits import SplitGuard

ROW = {"split": "generated_easy", "sample_seed": 3}


@pytest.fixture(scope="module")
def client() -> Iterator[SyncEnvClient]:
    settings = EnvServerSettings(envs=("alfworld", "dbbench"), dbbench={"url": "sqlite:"})
    with SyncEnvClient.in_process(create_app(settings)) as client:
        yield client


def play(tools: Any, client: SyncEnvClient) -> str:
    """To the end, as the expert would; the last answer."""
    said = ""
    while not tools._view.status.over:
        action = client.expert_action(tools._view.id)
        assert action is not None
        said = getattr(tools, action.name)(**action.arguments)
    return said


def test_an_episode_of_alfworld(client: SyncEnvClient) -> None:
    tools = AlfworldTools(client)
    text = tools.reset(**ROW, prompt=[{"role": "user", "content": ""}])
    assert text.startswith("Here is your task. You are in the middle of a room.")
    assert "AVAILABLE ACTIONS:" in text
    said = play(tools, client)
    assert "AVAILABLE ACTIONS:" not in said
    assert tools.take_action("look") == "The episode is over."
    assert tools.get_reward() == 1.0
    assert tools.get_reward() is None


def test_an_episode_of_db_bench(client: SyncEnvClient) -> None:
    tools = DbBenchTools(client)
    assert "Question:" in tools.reset(task_id="generated_basic/1")
    assert "FROM" not in tools.execute_sql("SELECT 1")
    assert play(tools, client) == "Answer committed."
    assert tools.get_reward() == 1.0


def test_an_episode_that_did_nothing_scores_nothing_and_a_reset_ends_it(client: SyncEnvClient) -> None:
    tools = AlfworldTools(client)
    tools.reset(**ROW)
    first: Any = tools._view
    tools.reset(**ROW)
    assert client.read(first.id).status.over
    assert tools.get_reward() == 0.0


@pytest.mark.parametrize("row", [{}, {"split": "generated"}, {"sample_seed": 3}])
def test_a_row_without_a_task_is_refused(client: SyncEnvClient, row: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="names no task"):
        AlfworldTools(client).reset(**row)


def test_evaluation_splits_are_refused_unless_named(client: SyncEnvClient) -> None:
    for row in ({"split": "generated_eval", "sample_seed": 1}, {"task_id": "generated_eval/1"}):
        with pytest.raises(ConfigError, match="evaluation split"):
            DbBenchTools(client).reset(**row)
    allowed = SplitGuard(("dbbench/generated_eval",))
    assert "Question:" in DbBenchTools(client, guard=allowed).reset(task_id="generated_eval/1")


class Cut:
    """A client whose connection is gone after the reset."""

    def __init__(self, client: SyncEnvClient) -> None:
        self.create = client.create
        self.close_episode = self.step

    def step(self, *_: Any) -> Any:
        raise TransportError("the server cannot be reached")


def test_an_episode_that_the_machinery_lost_has_no_reward(client: SyncEnvClient) -> None:
    untyped: Any = Cut(client)
    tools = AlfworldTools(untyped)
    tools.reset(**ROW)
    for _ in range(2):  # TRL shows the model the error and goes on
        with pytest.raises(InfrastructureError):
            tools.take_action("look")
    assert tools.get_reward() is None


def test_trl_finds_the_tools_and_plays_them(client: SyncEnvClient, tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig
    from trl.chat_template_utils import qwen2_5_chat_template

    from trainer.trl_seams import OutsideEngineTrainer, experimental_silenced

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = qwen2_5_chat_template
    arguments = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=8,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    made: list[DbBenchTools] = []

    def factory() -> DbBenchTools:
        made.append(DbBenchTools(client))
        return made[-1]

    with experimental_silenced():
        trainer = OutsideEngineTrainer(
            model=AutoModelForCausalLM.from_pretrained(tiny_model),
            args=arguments,
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": ""}], "task_id": "generated_basic/1"}]
            ),
            processing_class=tokenizer,
            environment_factory=factory,
        )
        assert sorted(tool.__name__ for tool in trainer.tools) == ["commit_final_answer", "execute_sql"]
        trainer.train()
    assert len(made) == 2
    assert all(tools._view is None for tools in made)  # their rewards were asked for, and they are closed
    assert trainer.state.log_history[0]["rewards/DbBenchTools/mean"] == 0.0
