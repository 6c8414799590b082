"""Every export is read again by what it is made for, and holds what was played."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import io
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from episode_samples import sample_episode
from pydantic import BaseModel

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.dbbench.tasks import find_task_files
from envs.errors import ConfigError, InvalidOption
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus, Task
from rollout_server.agent_loop import play_episode
from rollout_server.engines.scripted import ScriptedEngine
from rollout_server.export_agentbench import sample_index
from rollout_server.export_files import export_episodes, split_role
from rollout_server.export_messages import conversation, split_calls
from rollout_server.local import LocalRollouts
from rollout_server.protocols.hermes import render_tool_call
from rollout_server.replay_fork import ForkRequest, fork_episode
from rollout_server.serialize import episode_from_json
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import PolicyVersion, RolloutRequest, SamplingParams, TaskRef

WHOLE = 1_000_000
EVAL = ["dev"]


async def database_episodes(protocol: str, kinds: tuple[str, ...], tasks: int) -> list[Any]:
    app = create_app(EnvServerSettings(envs=("dbbench",), dbbench={"url": "sqlite:"}))
    async with EnvClient.in_process(app) as client:
        refs = tuple(TaskRef("dbbench", task_id=f"dev/{index}") for index in range(0, 60, 60 // tasks))
        request = RolloutRequest(
            refs, protocol=protocol, max_turns=4, max_episode_tokens=WHOLE, sampling=SamplingParams(max_tokens=4096)
        )
        groups = [await LocalRollouts(client, ScriptedEngine(kind)).rollouts(request) for kind in kinds]
    return [episode for played in groups for group in played for episode in group.episodes]


@pytest.fixture
async def household(houses, plan):
    random = await play_episode(houses, ScriptedEngine("random"), await plan(houses, max_turns=3))
    return [await play_episode(houses, ScriptedEngine("expert"), await plan(houses)), random]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def test_whole_episodes_come_back_equal(household, tmp_path):
    path = tmp_path / "episodes.jsonl"
    report = export_episodes(iter(household), "jsonl", path)
    assert [episode_from_json(document) for document in lines(path)] == household
    assert report.line() == "2 episodes of alfworld/generated (2)"
    stream = io.StringIO()
    export_episodes(household, "jsonl", stream)
    assert stream.getvalue() == path.read_text()


def rendered(tokenizer: Any, row: dict[str, Any]) -> str:
    template = (Path(__import__("trl").__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text()
    text = tokenizer.apply_chat_template(
        row["messages"], tools=row.get("tools"), chat_template=template, tokenize=False
    )
    assert isinstance(text, str)
    return text


async def test_trl_reads_the_chat_rows_and_renders_what_was_sampled(household, tmp_path, smollm2_dir):
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl.data_utils import is_conversational

    databases = await database_episodes("agentbench_fc", ("gold", "random"), 4)
    classic = await database_episodes("agentbench_classic", ("gold",), 2)
    played = [*household, *databases, *classic]
    path = tmp_path / "chat.jsonl"
    report = export_episodes(played, "chat", path, allow_eval_splits=EVAL)
    assert (report.written, dict(report.splits)) == (len(played), {"alfworld/generated": 2, "dbbench/dev": 10})
    rows = load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "cache"), split="train")
    tokenizer = AutoTokenizer.from_pretrained(smollm2_dir)
    bytes_ = ByteTokenizer()
    assert len(rows) == len(played)
    for read, episode in zip(rows, played, strict=True):
        assert is_conversational(read)
        assert (read["id"], read["reward"]) == (episode.id, episode.reward)
        row = {name: value for name, value in read.items() if value is not None}
        assert rendered(tokenizer, row) == bytes_.decode((*episode.prompt_ids, *episode.completion_ids)) + "\n"
        roles = [message["role"] for message in row["messages"]]
        assert roles.count("assistant") == len(episode.turns) + sum(m.role == "assistant" for m in episode.prompt)
        calls = [call["function"] for message in row["messages"] for call in message.get("tool_calls") or ()]
        expected = [{"name": s.action.name, "arguments": dict(s.action.arguments)} for s in episode.steps]
        assert calls == (expected if episode.protocol == "agentbench_fc" else [])


@pytest.mark.parametrize(
    "text",
    [
        "I look.",
        'I look. <tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call> and more',
        '<tool_call>{"name": "a", "arguments": {}}</tool_call>',
        '<tool_call>\n{"arguments": {}, "name": "a"}\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": "{}"}\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": {"x": "\\u00e9"}}\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": {}}',
        "<tool_call>\n{broken\n</tool_call>",
        '\n<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>',
        "\n\n".join(['<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>'] * 2),
    ],
)
def test_a_text_that_the_template_would_write_otherwise_stays_a_text(text):
    assert split_calls(text) == (text, [])


def test_calls_are_taken_out_where_the_template_puts_them_back():
    calls = [Action("execute_sql", {"query": 'SELECT "é"'}), Action("commit_final_answer", {"answers": ["1"]})]
    shown = "\n".join(map(render_tool_call, calls))
    expected = [{"name": call.name, "arguments": call.arguments} for call in calls]
    assert split_calls(f"I think.\n\n{shown}") == ("I think.\n", expected)
    assert split_calls(shown) == ("", expected)


def test_a_reply_that_the_protocol_does_not_explain_is_one_message():
    said = conversation(sample_episode())
    assert [(m.role.value, m.content) for m in said.messages[2:]] == [
        ("assistant", "I look. go to bed 1"),
        ("user", "On the bed 1, you see a book 1."),
        ("assistant", "take book 1 from bed 1"),
    ]
    assert (said.tools, said.prompt) == ((), 2)
    foreign = conversation(sample_episode(env="chess"))
    assert len(foreign.messages) == 5


async def test_what_is_no_example_is_left_out_and_counted(houses, household, tmp_path):
    won, lost = household
    failed = dataclasses.replace(won, id="f", status=EpisodeStatus.INFRASTRUCTURE_ERROR, reward=None)
    none = dataclasses.replace(lost, id="n", turns=())
    fork = await fork_episode(
        lost, ForkRequest(at=1), client=houses, engine=ScriptedEngine("expert"), policy=PolicyVersion()
    )
    path = tmp_path / "chat.jsonl"
    report = export_episodes([won, failed, none, fork], "chat", path)
    assert [row["id"] for row in lines(path)] == [won.id]
    assert dict(report.left_out) == {
        "no result (infrastructure_error)": 1,
        "no turn": 1,
        "begins with another policy's turns (parquet has their mask)": 1,
    }
    assert "; 1 left out: no turn" in report.line()


def test_evaluation_splits_are_not_exported_to_be_trained_on_unless_they_are_named(tmp_path):
    def on(split: str, env: str = "alfworld", task_id: str = "") -> Any:
        return sample_episode(env=env, task=Task(env, task_id or f"{split}/1", split, "t", "h"))

    for form in ("chat", "parquet"):
        path = tmp_path / f"rows.{form}"
        for episode in (
            on("valid_unseen"),
            on("dev", "dbbench"),
            on("generated_eval", "dbbench"),
            on("unheard of"),
            on("train", "chess"),
            on("generated", task_id="valid_seen/1"),
        ):
            with pytest.raises(ConfigError, match="an evaluation split") as refused:
                export_episodes([on("generated"), episode], form, path)
            assert "--allow-eval-split" in refused.value.hint
        assert list(tmp_path.iterdir()) == []
        export_episodes([on("dev", "dbbench")], form, path, allow_eval_splits=["dbbench/dev"])
        export_episodes([on("valid_unseen"), on("generated")], form, path, allow_eval_splits=["valid_unseen"])
        with pytest.raises(ConfigError):
            export_episodes([on("valid_unseen")], form, path, allow_eval_splits=["dbbench/valid_unseen"])
        path.unlink()
    for form in ("jsonl", "agentbench"):
        export_episodes([on("valid_unseen")], form, tmp_path / "records")


def test_the_roles_of_splits_are_those_that_the_trainer_holds():
    from trainer.splits import KNOWN_SPLITS

    assert {(env, split): split_role(env, split) for env, splits in KNOWN_SPLITS.items() for split in splits} == {
        (env, split): role for env, splits in KNOWN_SPLITS.items() for split, role in splits.items()
    }


async def test_datasets_opens_the_parquet_file_with_every_token(household, houses, tmp_path):
    from datasets import load_dataset

    fork = await fork_episode(
        household[1], ForkRequest(at=2), client=houses, engine=ScriptedEngine("expert"), policy=PolicyVersion()
    )
    mixed = dataclasses.replace(
        household[0],
        id="mixed",
        seed=2**70,
        turns=tuple(
            dataclasses.replace(t, policy=f"step-{i}", logprobs=(-0.125,) * len(t.logprobs), text=t.text + "\ud800")
            for i, t in enumerate(household[0].turns)
        ),
    )
    failed = sample_episode(id="f", status=EpisodeStatus.INFRASTRUCTURE_ERROR, reward=None, turns=(), prompt_ids=())
    played = [household[0], household[1], fork, mixed, failed]
    many = [dataclasses.replace(household[1], id=f"copy{i}") for i in range(70)]  # more than one row group
    path = tmp_path / "episodes.parquet"
    assert export_episodes(iter([*played, *many]), "parquet", path).written == 75
    rows = load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"), split="train")
    assert len(rows) == 75
    for row, episode in zip(rows, played, strict=False):
        assert (row["id"], row["seed"], row["status"]) == (episode.id, str(episode.seed), episode.status.value)
        for name in ("prompt_ids", "completion_ids", "mask", "logprobs", "policy_versions"):
            assert row[name] == list(getattr(episode, name))
        assert (row["reward"], row["training_reward"], row["success"]) == (
            episode.reward,
            episode.training_reward,
            episode.success,
        )
        assert [t["given"] for t in row["turns"]] == [t.given for t in episode.turns]
        assert [t["text"].rstrip("?") for t in row["turns"]] == [t.text.rstrip("\ud800") for t in episode.turns]
        steps = [step for turn in row["turns"] for step in turn["steps"]]
        assert [json.loads(step["arguments"]) for step in steps] == [dict(s.action.arguments) for s in episode.steps]
        assert [step["state_hash"] for step in steps] == [s.state_hash for s in episode.steps]
        assert json.loads(row["metadata"]) == dict(episode.metadata)
    types = {name: str(feature) for name, feature in rows.features.items()}
    assert "int64" in types["completion_ids"]
    assert "int8" in types["mask"]
    assert "float64" in types["logprobs"]
    assert "string" in types["policy_versions"]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="needs the package pyarrow") as refused:
        export_episodes([sample_episode()], "parquet", tmp_path / "x.parquet")
    assert "envloop[train]" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


# AgentBench's reader: the models of v0.2's src/typings, and the scoring of its two tasks, told anew.


class SampleStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    AGENT_CONTEXT_LIMIT = "agent context limit"
    AGENT_VALIDATION_FAILED = "agent validation failed"
    AGENT_INVALID_ACTION = "agent invalid action"
    TASK_LIMIT_REACHED = "task limit reached"
    UNKNOWN = "unknown"
    TASK_ERROR = "task error"


class ChatHistoryItem(BaseModel):
    role: Literal["user", "agent"]
    content: str


class TaskOutput(BaseModel):
    index: int | str | None = None
    status: SampleStatus = SampleStatus.RUNNING
    result: Any = None
    history: list[ChatHistoryItem] | None = None


class TaskClientOutput(BaseModel):
    error: str | None = None
    info: str | None = None
    output: TaskOutput | None = None


def read_as_agentbench(path: Path) -> dict[Any, TaskOutput]:
    found: dict[Any, TaskOutput] = {}
    for run in lines(path):
        assert set(run.pop("time")) == {"timestamp", "str"}
        index = run.pop("index")
        assert index is not None
        output = TaskClientOutput.model_validate(run, extra="forbid").output
        assert output is not None
        found[index] = output.model_copy(update={"index": index})
    return found


def scored_as_agentbench(result: dict[str, Any], gold: Any) -> bool:
    answer = result["answer"]
    if result["type"] in ("INSERT", "DELETE", "UPDATE"):
        return answer == gold
    try:
        answers = list(ast.literal_eval(answer.strip()))
    except (ValueError, SyntaxError, TypeError):
        answers = [answer]
    if len(answers) == 1 and len(gold) == 1:
        try:
            return float(answers[0]) == float(gold[0])
        except (ValueError, TypeError):
            return bool(answers[0] == gold[0])
    return set(answers) == set(gold)


async def test_agentbench_reads_and_scores_the_databases_as_they_were_played(tmp_path):
    played = await database_episodes("agentbench_classic", ("gold",), 12)
    wrong = await database_episodes("agentbench_classic", ("random",), 12)
    tasks = find_task_files(None)[0].tasks
    for episodes in (played, wrong):
        path = tmp_path / "runs.jsonl"
        export_episodes(episodes, "agentbench", path)
        outputs = read_as_agentbench(path)
        assert len(outputs) == 12
        for episode in episodes:
            index = int(episode.task.id.removeprefix("dev/"))
            task = tasks[index]
            gold: Any = f"[('{task.gold_hash}',)]" if task.mutates else list(task.gold_answers)
            output = outputs[index]
            assert scored_as_agentbench(output.result, gold) == bool(episode.reward), task
            assert output.result["is_correct"] == bool(episode.reward)
            history = output.history or []
            assert [item.role for item in history].count("agent") == len(episode.turns) + 1
            assert history[-1].content == episode.turns[-1].text
    assert all(episode.reward == 1.0 for episode in played)
    assert any(episode.reward == 0.0 for episode in wrong)


async def test_agentbench_reads_the_households(household, tmp_path):
    won, lost = household
    cut = dataclasses.replace(lost, id="c", status=EpisodeStatus.TRUNCATED_TOKENS)
    bad = dataclasses.replace(lost, id="b", status=EpisodeStatus.INVALID_ACTION)
    failed = dataclasses.replace(lost, id="f", status=EpisodeStatus.CANCELLED, reward=None)
    path = tmp_path / "runs.jsonl"
    report = export_episodes([won, failed], "agentbench", path)
    assert dict(report.left_out) == {"no result (cancelled)": 1}
    (output,) = read_as_agentbench(path).values()
    assert (output.status, output.result["result"], len(output.result["log"])) == ("completed", 1, len(won.steps))
    assert output.result["log"][-1]["done"] is True
    assert output.result["log"][1]["admissible_commands"] == list(won.steps[0].observation.admissible_actions)
    for episode, status in ((lost, "task limit reached"), (cut, "agent context limit"), (bad, "agent invalid action")):
        export_episodes([episode], "agentbench", path)
        (output,) = read_as_agentbench(path).values()
        assert (output.status, output.result["result"]) == (status, 0)


def test_the_index_is_the_place_in_agentbenchs_own_list():
    from envs.alfworld.lists import AGENTBENCH_LISTS

    games = AGENTBENCH_LISTS["agentbench_dev"].games()
    assert [sample_index("alfworld", f"agentbench_dev/{game.name}") for game in games] == [
        [other.name for other in games].index(game.name) for game in games
    ]
    assert sample_index("dbbench", "dev/12") == 12
    assert sample_index("dbbench", "generated/12") == "generated/12"
    assert sample_index("alfworld", "generated/heat/3") == "generated/heat/3"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("what was there\n")

    def breaks() -> Any:
        yield sample_episode()
        raise RuntimeError("the store broke")

    for form in ("jsonl", "parquet"):
        with pytest.raises(RuntimeError, match="the store broke"):
            export_episodes(breaks(), form, path)
    assert path.read_text() == "what was there\n"
    assert os.listdir(tmp_path) == ["rows.jsonl"]
    export_episodes([sample_episode()], "jsonl", path)
    assert len(lines(path)) == 1
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(ConfigError, match="cannot be written"):
        export_episodes([], "jsonl", tmp_path / "nowhere" / "rows.jsonl")
    with pytest.raises(InvalidOption, match="no format 'xml'"):
        export_episodes([], "xml", path)
    with pytest.raises(InvalidOption, match="needs a file"):
        export_episodes([], "parquet", io.StringIO())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
