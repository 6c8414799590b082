"""Evaluation of a model behind chat completions: texts and tool calls, no token ids, nothing to train on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from chat_server import ChatServer
from typer.testing import CliRunner

from envs.errors import ConfigError, InvalidOption, TransportError
from rollout_server.engines.base import ChatContext, GenerationRequest
from rollout_server.engines.chat_completions import ChatCompletionsEngine, answer_text, chat_messages
from rollout_server.engines.factory import make_engine
from rollout_server.episode_store import EpisodeStore
from rollout_server.types import FinishReason, Message, PolicyVersion, Role, SamplingParams
from trainer.batch import episode_row
from trainer.config import parse_config
from trainer.eval_cli import eval_app
from trainer.grpo import train_grpo


@pytest.fixture
def served() -> Iterator[tuple[ChatServer, str]]:
    server = ChatServer()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        running = uvicorn.Server(uvicorn.Config(server.app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        yield server, f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join()


def test_a_split_is_played_by_text_alone_and_marked(
    served: tuple[ChatServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = served
    monkeypatch.setenv("OPENAI_API_KEY", server.key)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
    server.failures = [429, 503]
    server.texts = [
        {"content": "Let me see."},
        {"content": "x", "tool_calls": [_call("no json"), _call('{"a": "look"}')]},
    ]
    arguments = ["--env", "alfworld", "--split", "generated_easy_eval", "--engine", "chat", "--model", "some-model"]
    arguments += ["--limit", "3", "--no-plots", "--json", "--output", str(tmp_path), "--config", str(_short(tmp_path))]
    result = CliRunner().invoke(eval_app, arguments, catch_exceptions=False)
    report = json.loads(result.stdout)
    assert (report["engine"], report["model"], report["length_unit"]) == ("chat", "some-model", "bytes")
    assert report["overall"]["episodes"] == 3
    assert server.key not in result.output
    assert server.key not in (tmp_path / "eval-alfworld-generated_easy_eval.json").read_text()
    assert {r["model"] for r in server.requests} == {"some-model"}
    assert all(r["tools"][0]["function"]["name"] == "take_action" for r in server.requests)
    assert any(m["role"] == "tool" for r in server.requests for m in r["messages"])
    assert any("tool_calls" in m for r in server.requests for m in r["messages"])
    with EpisodeStore(f"sqlite:///{tmp_path / 'episodes.db'}") as store:
        episodes = list(store.iter_episodes())
    assert len(episodes) == 3
    assert all(e.text_only for e in episodes)
    texts = [t.text for e in episodes for t in e.turns]
    assert any(t.startswith('I think.\n<tool_call>\n{"name": "take_action", "arguments": {"action": ') for t in texts)
    assert any("Let me see." in t for t in texts)
    assert not episode_row(episodes[0], dummy_id=0, max_tokens=10**6).trained
    again = CliRunner().invoke(eval_app, [*arguments, "--resume"], catch_exceptions=False)
    assert json.loads(again.stdout)["resumed"] == 3


def _call(arguments: str) -> dict[str, object]:
    return {"id": "c", "type": "function", "function": {"name": "take_action", "arguments": arguments}}


def _short(folder: Path) -> Path:
    path = folder / "short.toml"
    path.write_text("[rollout]\nmax_turns = 4\nconcurrency = 2\n")
    return path


def test_wrong_keys_and_refusals_are_told(served: tuple[ChatServer, str]) -> None:
    import asyncio

    server, url = served
    chat = ChatContext((Message(Role.SYSTEM, "s"), Message(Role.USER, "AVAILABLE ACTIONS: look")), ())
    request = GenerationRequest((1,), SamplingParams(max_tokens=8), PolicyVersion(), chat=chat)

    async def ask(**options: object) -> object:
        engine = ChatCompletionsEngine(url, "m", **{"api_key": server.key, **options})  # type: ignore[arg-type]
        await engine.start()
        try:
            return await engine.generate(request)
        finally:
            await engine.close()

    with pytest.raises(ConfigError, match="refuses the API key"):
        asyncio.run(ask(api_key="tok-wrong"))
    with pytest.raises(InvalidOption, match="unknown fields"):
        asyncio.run(ask(body={"colour": 1}))
    server.failures = [500]
    with pytest.raises(TransportError, match="HTTP 500"):
        asyncio.run(ask(retries=0))
    server.failures = [404]
    with pytest.raises(ConfigError, match="no chat completions of 'm'"):
        asyncio.run(ask())
    server.texts = [{"content": "look aro", "finish_reason": "length"}, {"content": None}]
    cut = asyncio.run(ask())
    assert (cut.finish_reason, bytes(cut.token_ids)) == (FinishReason.LENGTH, b"look aro")  # type: ignore[attr-defined]
    empty = asyncio.run(ask())
    assert (empty.finish_reason, len(empty.token_ids)) == (FinishReason.STOP, 1)  # type: ignore[attr-defined]


def test_messages_are_what_a_strict_provider_takes() -> None:
    call = '<tool_call>\n{"name": "look", "arguments": {"at": "é"}}\n</tool_call>'
    said = [
        Message(Role.SYSTEM, "s"),
        Message(Role.USER, "u"),
        Message(Role.ASSISTANT, f"Two.\n{call}\n{call}"),
        Message(Role.TOOL, "only one"),
        Message(Role.ASSISTANT, "<tool_call>broken</tool_call>"),
        Message(Role.TOOL, "cannot be read"),
        Message(Role.ASSISTANT, call),
        Message(Role.USER, "no answer of a tool"),
    ]
    rows = chat_messages(said)
    assert [row["role"] for row in rows] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert rows[2]["content"] == "Two."
    assert [c["function"] for c in rows[2]["tool_calls"]] == [{"name": "look", "arguments": '{"at": "é"}'}]
    assert rows[3]["tool_call_id"] == rows[2]["tool_calls"][0]["id"]
    assert rows[4] == {"role": "assistant", "content": "<tool_call>broken</tool_call>"}
    assert rows[6] == {"role": "assistant", "content": call}
    assert answer_text({"content": "Two.", "tool_calls": rows[2]["tool_calls"]}) == f"Two.\n{call}"
    assert answer_text({"content": None}) == ""


def test_a_server_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    arguments = ["--env", "alfworld", "--split", "generated_easy_eval", "--engine", "chat", "--model", "m"]
    result = CliRunner().invoke(eval_app, [*arguments, "--output", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "--base-url" in str(result.exception)


def test_it_trains_nothing(tmp_path: Path) -> None:
    tree = {"rollout": {"engine": "chat"}, "run": {"output_dir": str(tmp_path / "run")}}
    with pytest.raises(ConfigError, match="the engine chat learns nothing"):
        train_grpo(parse_config(tree))
    with pytest.raises(ConfigError, match="base_url"):
        make_engine("chat", model="m")


@pytest.mark.slow
@pytest.mark.vllm
def test_a_real_vllm_server_by_ids_and_by_text(
    tmp_path: Path, smollm2_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(smollm2_dir),
             "--served-model-name", "small", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
             "--max-model-len", "4096", "--max-num-seqs", "8", "--enforce-eager",
             "--kv-cache-memory-bytes", str(1 << 29),
             "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"],
            env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            while True:  # bounded by the test's own time limit
                assert process.poll() is None, (tmp_path / "log.txt").read_text()[-2000:]
                try:
                    if httpx.get(f"{url}/health").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.5)
            monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
            said = {}
            for engine, options in (("openai", f'tokenizer_path = "{smollm2_dir}"'), ("chat", "")):
                recipe = tmp_path / f"{engine}.toml"
                recipe.write_text(
                    '[rollout]\nmax_turns = 2\nmax_tokens = 24\nprotocol = "agentbench_classic"\n'
                    f"[rollout.engine_options]\n{options}\n"
                    + ("[eval]\nmax_episode_tokens = 4096\n" if engine == "openai" else "")
                )
                arguments = [
                    "--env",
                    "alfworld",
                    "--split",
                    "generated_easy_eval",
                    "--engine",
                    engine,
                    "--model",
                    "small",
                ]
                arguments += ["--limit", "2", "--json", "--config", str(recipe), "--output", str(tmp_path / engine)]
                report = json.loads(CliRunner().invoke(eval_app, arguments, catch_exceptions=False).stdout)
                assert report["overall"]["episodes"] == 2
                with EpisodeStore(f"sqlite:///{tmp_path / engine / 'episodes.db'}") as store:
                    said[engine] = {e.task.id: e.turns[0].text for e in store.iter_episodes()}
                assert (tmp_path / engine / f"eval-{_slug(report)}" / "success.png").is_file()
            assert said["openai"] == said["chat"], "the same greedy model says the same first words, asked either way"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _slug(report: dict[str, object]) -> str:
    return f"{report['env']}-{report['split']}-{report['protocol']}-t0-n1-{report['policy']}-{report['key']}"
