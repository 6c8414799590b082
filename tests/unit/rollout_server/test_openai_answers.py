"""What the HTTP engine sends, what it refuses, and what it makes of a server's failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from adapter_folders import write_adapter

from envs.errors import BackendUnavailable, ConfigError, InvalidOption, TransportError, UnknownPolicy
from rollout_server.constraints import choice_constraint
from rollout_server.engines import openai
from rollout_server.engines.base import Engine, GenerationRequest
from rollout_server.engines.openai import OpenAIEngine
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import FinishReason, PolicyVersion, SamplingParams

END = ByteTokenizer.end_of_turn_id


class Server:
    """Answers as vLLM does; a test changes one thing."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.choice: dict[str, Any] = {"token_ids": [65], "logprobs": {"token_logprobs": [0.0]}}
        self.override: Callable[[httpx.Request], httpx.Response | None] = lambda _: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((request.url.path, json.loads(request.content or b"{}")))
        changed = self.override(request)
        if changed is not None:
            return changed
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "small", "max_model_len": 64}]})
        if request.url.path == "/v1/completions":
            return httpx.Response(200, json={"choices": [self.choice]})
        return httpx.Response(200, text="Success")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(openai, "_BACKOFF_S", 0.0)
    return Server()


def engine_on(server: Server, **options: Any) -> OpenAIEngine:
    transport = httpx.MockTransport(server)
    return OpenAIEngine("http://host:8000/v1/", "small", tokenizer=ByteTokenizer(), transport=transport, **options)


async def started(server: Server, **options: Any) -> OpenAIEngine:
    engine = engine_on(server, **options)
    await engine.start()
    server.requests.clear()
    return engine


def request(policy: PolicyVersion | None = None, **sampling: Any) -> GenerationRequest:
    return GenerationRequest((1, 2, 3), SamplingParams(**sampling), policy or PolicyVersion())


async def test_a_constraint_is_sent_as_its_grammar(server: Server) -> None:
    engine = await started(server)
    constraint = choice_constraint(["go", "look"])
    await engine.generate(replace(request(), constraint=constraint))
    await engine.generate(request())
    (_, held), (_, free) = server.requests
    assert held["structured_outputs"] == {"grammar": constraint.grammar}
    assert "structured_outputs" not in free
    await engine.close()


async def test_ids_go_in_and_come_out(server: Server) -> None:
    engine = await started(server)
    assert isinstance(engine, Engine)
    server.choice = {"token_ids": [65, END], "logprobs": {"token_logprobs": [-0.5, -0.25]}, "text": "not looked at"}
    done = await engine.generate(request(temperature=0.7, seed=5, max_tokens=9))
    assert (done.token_ids, done.logprobs, done.finish_reason) == ((65, END), (-0.5, -0.25), FinishReason.STOP)
    ((path, body),) = server.requests
    assert path == "/v1/completions"
    expected = {
        "model": "small", "prompt": [1, 2, 3], "max_tokens": 9, "temperature": 0.7, "top_p": 1.0, "top_k": 0,
        "min_p": 0.0, "repetition_penalty": 1.0, "seed": 5, "stop_token_ids": [END], "ignore_eos": True,
        "return_token_ids": True, "logprobs": 0,
    }  # fmt: skip
    assert {k: body[k] for k in expected} == expected
    await engine.close()
    await engine.close()


async def test_a_cut_turn_and_a_full_context(server: Server) -> None:
    engine = await started(server)
    assert (await engine.generate(request())).finish_reason is FinishReason.LENGTH
    assert server.requests[-1][1]["max_tokens"] == 61
    with pytest.raises(InvalidOption, match="context of 64"):
        await engine.generate(GenerationRequest((1,) * 64, SamplingParams(), PolicyVersion()))
    await engine.close()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"text": "A", "logprobs": {"token_logprobs": [0.0]}}, "no token ids"),
        ({"token_ids": [65]}, "no logprob"),
        ({"token_ids": [65], "logprobs": {"token_logprobs": [0.0, 0.0]}}, "no logprob"),
        ({"token_ids": [65], "logprobs": {"token_logprobs": [None]}}, "no logprob"),
        ({"token_ids": [65], "logprobs": {"token_logprobs": [-1.5]}}, "the model's own logprobs"),
    ],
)
async def test_a_server_that_cannot_be_exact_is_refused(server: Server, choice: dict[str, Any], message: str) -> None:
    server.choice = choice
    engine = engine_on(server)
    with pytest.raises(ConfigError, match=message):
        await engine.start()
    with pytest.raises(BackendUnavailable):
        await engine.generate(request())


async def test_a_server_without_the_model_is_refused(server: Server) -> None:
    server.override = lambda r: httpx.Response(200, json={"data": [{"id": "big"}]}) if "models" in r.url.path else None
    with pytest.raises(ConfigError, match="it serves big"):
        await engine_on(server).start()


async def test_the_key_is_sent_and_not_shown(server: Server) -> None:
    seen = []

    def refuse(sent: httpx.Request) -> httpx.Response:
        seen.append(sent.headers["authorization"])
        return httpx.Response(401, json={"error": "Unauthorized"})

    server.override = refuse
    with pytest.raises(ConfigError, match="API key") as raised:
        await engine_on(server, api_key="s3cret").start()
    assert seen == ["Bearer s3cret"]
    assert "s3cret" not in str(raised.value)


async def test_a_password_in_the_address_is_not_shown(server: Server) -> None:
    def fail(sent: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("broken", request=sent)

    server.override = fail
    transport = httpx.MockTransport(server)
    engine = OpenAIEngine("http://me:s3cret@host:8000", "small", tokenizer=ByteTokenizer(), transport=transport)
    with pytest.raises(TransportError, match="http://host:8000") as raised:
        await engine.start()
    assert "s3cret" not in str(raised.value)


async def test_an_adapter_in_use_is_unloaded_after_its_last_request(server: Server, tmp_path: Path) -> None:
    engine = await started(server)
    policy = PolicyVersion("v1", 1, str(write_adapter(tmp_path / "a")))
    await engine.load_policy(policy)

    class Unloading(httpx.AsyncBaseTransport):
        """The policy is unloaded while its request is under way."""

        async def handle_async_request(self, sent: httpx.Request) -> httpx.Response:
            if sent.url.path == "/v1/completions":
                await engine.unload_policy("v1")
            return await httpx.MockTransport(server).handle_async_request(sent)

    assert engine._client is not None
    engine._client._transport = Unloading()
    assert (await engine.generate(request(policy))).policy == "v1"
    assert [path for path, _ in server.requests[1:]] == ["/v1/completions", "/v1/unload_lora_adapter"]
    with pytest.raises(UnknownPolicy):
        await engine.generate(request(policy))
    await engine.close()


async def test_a_server_that_was_started_again_is_known_to_have_forgotten(server: Server, tmp_path: Path) -> None:
    engine = await started(server)
    for name in ("v1", "v2"):
        await engine.load_policy(PolicyVersion(name, 1, str(write_adapter(tmp_path / "a"))))
    names = ["small", server.requests[-1][1]["lora_name"]]  # v2's alone
    models = httpx.Response(200, json={"data": [{"id": name, "root": "/models/Small"} for name in names]})
    server.override = lambda r: models if r.url.path == "/v1/models" else None
    assert await engine.check() == {"v2"}
    assert engine.base_models == ("small", "/models/Small")
    await engine.load_policy(PolicyVersion("v1", 1, str(tmp_path / "a")))
    assert server.requests[-1][0] == "/v1/load_lora_adapter"
    await engine.close()


async def test_a_busy_server_is_asked_again_and_a_failing_one_is_not(server: Server) -> None:
    engine = await started(server, retries=2)
    answers = [httpx.Response(503), httpx.Response(429)]
    server.override = lambda _: answers.pop(0) if answers else None
    assert (await engine.generate(request())).token_ids == (65,)
    assert len(server.requests) == 3
    server.requests.clear()
    server.override = lambda _: httpx.Response(500, json={"error": {"message": "engine died"}})
    with pytest.raises(TransportError, match="engine died"):
        await engine.generate(request())
    assert len(server.requests) == 1
    server.override = lambda _: httpx.Response(503)
    with pytest.raises(TransportError, match="503"):
        await engine.generate(request())
    server.override = lambda _: httpx.Response(400, json={"error": {"message": "bad temperature"}})
    with pytest.raises(InvalidOption, match="bad temperature"):
        await engine.generate(request())
    server.override = lambda _: httpx.Response(200, text="<html>")
    with pytest.raises(TransportError, match="no JSON"):
        await engine.generate(request())
    await engine.close()


async def test_only_what_was_never_sent_is_sent_again(server: Server) -> None:
    engine = await started(server, retries=2)
    for error, tries in ((httpx.ConnectError, 3), (httpx.ReadError, 1), (httpx.ReadTimeout, 1)):
        server.requests.clear()

        def fail(sent: httpx.Request, error: type[httpx.TransportError] = error) -> httpx.Response:
            raise error("broken", request=sent)

        server.override = fail
        with pytest.raises(TransportError, match="host:8000"):
            await engine.generate(request())
        assert len(server.requests) == tries
    server.override = lambda _: None
    await engine.close()


async def test_adapters_have_names_of_their_own_on_the_server(server: Server, tmp_path: Path) -> None:
    engine = await started(server)
    policy = PolicyVersion("v1", 1, str(write_adapter(tmp_path / "a")))
    with pytest.raises(UnknownPolicy):
        await engine.generate(request(policy))
    await engine.load_policy(policy)
    path, body = server.requests[-1]
    assert (path, body["lora_path"]) == ("/v1/load_lora_adapter", str(tmp_path / "a"))
    assert body["lora_name"].endswith("-v1")
    assert body["lora_name"] != "v1", "an adapter of an earlier run could be met"
    done = await engine.generate(request(policy))
    assert server.requests[-1][1]["model"] == body["lora_name"]
    assert done.policy == "v1"
    server.override = lambda _: httpx.Response(404, json={"error": {"message": "The model does not exist"}})
    with pytest.raises(UnknownPolicy, match="forgot"):
        await engine.generate(request(policy))
    server.override = lambda _: None
    await engine.close()
    assert server.requests[-1] == ("/v1/unload_lora_adapter", {"lora_name": body["lora_name"]})


async def test_what_keeps_an_adapter_out(server: Server, tmp_path: Path) -> None:
    engine = await started(server)
    good = PolicyVersion("v1", 1, str(write_adapter(tmp_path / "a")))
    for response, kind in (
        (httpx.Response(404, json={"detail": "Not Found"}), BackendUnavailable),
        (httpx.Response(404, json={"error": {"message": "Not Found"}}), BackendUnavailable),
        (httpx.Response(400, json={"error": {"message": "rank 128 is above 16"}}), ConfigError),
    ):
        server.override = lambda _, response=response: response
        with pytest.raises(kind):
            await engine.load_policy(good)
    server.override = lambda _: None
    with pytest.raises(ConfigError, match="IA3"):
        await engine.load_policy(PolicyVersion("v2", 2, str(write_adapter(tmp_path / "b", peft_type="IA3"))))
    # A folder that only the server can see is the server's to judge.
    await engine.load_policy(PolicyVersion("v3", 3, "/on/the/server"))
    assert server.requests[-1][1]["lora_path"] == "/on/the/server"
    await engine.close()
