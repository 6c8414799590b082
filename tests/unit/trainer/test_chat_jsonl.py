"""Chat files as training rows: what is learnt, what comes back from our own export, what is refused by its line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trainer_doubles import make_episode

from envs.errors import ConfigError
from envs.types import Task
from rollout_server.chat import ChatFormat
from rollout_server.export_messages import chat_row
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import FinishReason, Role, RolloutRequest
from trainer.chat_jsonl import IGNORED, check_rendering, encode_example, read_chat_jsonl
from trainer.datasets import chat_rows, sft_rows
from trainer.settings import SftSettings
from trainer.splits import SplitGuard

SYSTEM = {"role": "system", "content": "You play."}
TOOL = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "chat.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def said(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [SYSTEM, *({"role": role, "content": text} for role, text in turns)], **more}


def test_only_the_assistants_tokens_are_learnt(tmp_path: Path, chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    row = said(("user", "Go."), ("assistant", "I go."), ("user", "You went."), ("assistant", "Done."), ("user", "Bye."))
    (example,) = read_chat_jsonl(written(tmp_path, row))
    ids, labels = encode_example(example, chat)
    assert example.dropped == 1
    assert tokenizer.decode([i for i in labels if i != IGNORED]) == "I go.<|im_end|>Done.<|im_end|>"
    assert all(label in (IGNORED, i) for i, label in zip(ids, labels, strict=True))
    theirs = tokenizer.hf.apply_chat_template(row["messages"][:-1], tokenize=False).removesuffix("\n")
    assert tokenizer.decode(ids) == theirs
    assert ids == tokenizer.encode(theirs, markup=True)


def test_tool_calls_are_written_as_the_template_does(tmp_path: Path, chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "é"}'}}
    plain = {"type": "function", "function": {"name": "look", "arguments": {"at": "é"}}}
    messages = [
        SYSTEM,
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": "I look.", "tool_calls": [call, plain]},
        {"role": "tool", "tool_call_id": "c1", "content": "A room."},
        {"role": "assistant", "content": None, "tool_calls": [plain]},
    ]
    (example,) = read_chat_jsonl(written(tmp_path, {"messages": messages, "tools": [TOOL]}))
    _, labels = encode_example(example, chat)
    one = '<tool_call>\n{"name": "look", "arguments": {"at": "é"}}\n</tool_call>'
    learnt = tokenizer.decode([i for i in labels if i != IGNORED])
    assert learnt == f"I look.\n{one}\n{one}<|im_end|>{one}<|im_end|>"
    assert '"name": "look"' in tokenizer.decode(encode_example(example, chat)[0]).split("<|im_end|>")[0]


def test_weights_and_foreign_names(tmp_path: Path, chat: ChatFormat, tokenizer: HFTokenizer) -> None:
    openai = said(("user", "Like this."), ("assistant", "OK."), ("user", "Go."), ("assistant", "I go."))
    openai["messages"][2]["weight"] = 0
    sharegpt = {
        "conversations": [
            {"from": "system", "value": "You play."},
            {"from": "human", "loss": None, "value": "Like this."},
            {"from": "gpt", "loss": False, "value": "OK."},
            {"from": "human", "loss": None, "value": "Go."},
            {"from": "gpt", "loss": True, "value": "I go."},
        ]
    }
    agentbench = said(("user", "Like this."), ("agent", "OK."), ("user", "Go."), ("agent", "I go."))
    agentbench["messages"][2]["weight"] = 0
    encoded = [encode_example(e, chat) for e in read_chat_jsonl(written(tmp_path, openai, sharegpt, agentbench))]
    assert encoded[0] == encoded[1] == encoded[2]
    assert tokenizer.decode([i for i in encoded[0][1] if i != IGNORED]) == "I go.<|im_end|>"


@pytest.mark.parametrize("worked_example", [False, True])
def test_an_exported_episode_comes_back_with_its_ids_and_labels(
    tmp_path: Path, chat: ChatFormat, tokenizer: HFTokenizer, worked_example: bool
) -> None:
    task = Task("alfworld", "generated/3", "generated", "pick", "abc")
    made = make_episode(chat, task=task, seed=1, request=RolloutRequest(tasks=()), policy="base", index=0, turns=3)
    played = replace(made, reward=1.0)
    if worked_example:
        from rollout_server.types import Message

        prompt = (played.prompt[0], Message(Role.USER, "So."), Message(Role.ASSISTANT, "OK."), played.prompt[1])
        played = replace(played, prompt=prompt, prompt_ids=tuple(chat.prompt(prompt)))
        cut = played.turns[1]  # and a turn that was cut: its end is the environment's
        cut = replace(
            cut,
            completion_ids=cut.completion_ids[:-1],
            logprobs=cut.logprobs[:-1],
            finish_reason=FinishReason.LENGTH,
            environment_ids=(tokenizer.end_of_turn_id, *cut.environment_ids),
        )
        last = played.turns[2]
        last = replace(
            last,
            completion_ids=last.completion_ids[:-1],
            logprobs=last.logprobs[:-1],
            finish_reason=FinishReason.LENGTH,
        )
        played = replace(played, turns=(played.turns[0], cut, last))
    examples = read_chat_jsonl(written(tmp_path, chat_row(played)))
    back = chat_rows(examples, tokenizer, settings=SftSettings(), guard=SplitGuard())
    stored = sft_rows([played], tokenizer, max_length=4096, guard=SplitGuard())
    assert (back.input_ids, back.labels) == (stored.input_ids, stored.labels)
    assert back.tasks == [task]
    assert back.origins[0].near == stored.origins[0].near
    assert back.origins[0].roles == stored.origins[0].roles


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{nothing", "line 2: no JSON"),
        ("[1]", "no JSON object"),
        ({"messages": []}, "no list of messages"),
        (
            {"messages": [{"role": "user", "content": "Go."}, {"role": "assistant", "content": "I go."}]},
            "not with system",
        ),
        (said(("user", "Go.")), "no message of the assistant to learn from"),
        (said(("assistant", "I go.")), "before any user"),
        (said(("user", "Go."), ("assistant", "a"), ("assistant", "b")), "two messages of the assistant"),
        (said(("user", "Go."), ("tool", "a"), ("assistant", "b")), "answers no assistant"),
        (said(("user", "Go."), ("system", "a"), ("assistant", "b")), "not the first"),
        (said(("user", "Go."), ("critic", "a")), "role 'critic'"),
        ({"messages": [SYSTEM, {"role": "user", "content": [{"type": "text"}]}]}, "content that is no text"),
        ({"messages": [SYSTEM, {"role": "user", "content": "a", "audio": "b"}]}, "audio"),
        ({"messages": [SYSTEM, {"role": "assistant", "content": "a", "weight": 0.5}]}, "weight 0.5"),
        (
            {
                "messages": [
                    SYSTEM,
                    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
                ]
            },
            "arguments that are no JSON",
        ),
        (said(("user", "Go."), ("assistant", "a"), tools=[{"type": "function", "function": {"name": "f"}}]), "fields"),
        (said(("user", "Go."), ("assistant", "a"), metadata={"env": "alfworld"}), "names env, and not split"),
        (said(("user", "Go."), ("assistant", "a"), reward="high"), "no number"),
    ],
)
def test_a_broken_line_is_named_with_its_number(tmp_path: Path, row: Any, message: str) -> None:
    good = said(("user", "Go."), ("assistant", "I go."))
    with pytest.raises(ConfigError, match="1 broken lines: line 2: ") as raised:
        read_chat_jsonl(written(tmp_path, good, row, good))
    assert message in str(raised.value)


def test_every_broken_line_is_told_up_to_ten(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 12 broken lines: line 1: .*; line 10: .*; and 2 more") as raised:
        read_chat_jsonl(written(tmp_path, *["nothing"] * 12))
    assert "line 11" not in str(raised.value)
    with pytest.raises(ConfigError, match="cannot read"):
        read_chat_jsonl(tmp_path / "missing.jsonl")


def test_a_template_that_changes_a_conversation_is_refused(tmp_path: Path, tokenizer: HFTokenizer) -> None:
    import copy

    (example,) = read_chat_jsonl(
        written(tmp_path, said(("user", "a"), ("assistant", "<think>x</think>b"), ("user", "c"), ("assistant", "d")))
    )
    check_rendering(example, tokenizer)
    cutting = copy.copy(tokenizer)
    cutting.hf = copy.deepcopy(tokenizer.hf)
    cutting.hf.chat_template = tokenizer.hf.chat_template.replace("m.content", "m.content.split('</think>')[-1]")
    with pytest.raises(ConfigError, match=r"chat.jsonl:1: .* otherwise at character"):
        check_rendering(example, cutting)


def test_filters_and_the_guard_hold_for_files_too(tmp_path: Path, tokenizer: HFTokenizer) -> None:
    def row(split: str, reward: float | None = None, env: str = "alfworld") -> dict[str, Any]:
        facts = {"env": env, "split": split, "task_id": f"{split}/1", "type": "pick", "reward": reward}
        return said(("user", "Go."), ("assistant", "I go."), metadata=facts)

    def rows(settings: SftSettings, *lines: dict[str, Any]) -> Any:
        examples = read_chat_jsonl(written(tmp_path, *lines))
        return chat_rows(examples, tokenizer, settings=settings, guard=SplitGuard())

    lines = [row("generated", 1.0), row("generated", 0.0), row("generated"), row("generated", 1.0, "dbbench")]
    assert dict(rows(SftSettings(), *lines).left_out) == {"not solved": 1}
    assert len(rows(SftSettings(success_only=False), *lines)) == 4
    assert dict(rows(SftSettings(envs=("alfworld",)), *lines).left_out) == {
        "not solved": 1,
        "of another environment": 1,
    }
    assert dict(rows(SftSettings(max_length=64, limit=1), row("generated"), *lines).left_out) == {}
    with pytest.raises(ConfigError, match="evaluation split"):
        rows(SftSettings(), row("valid_unseen", 1.0))
