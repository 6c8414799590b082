"""Who may call: tokens, the expert's token, and a server without any."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import ConfigError
from envs.server.app import serve

TOKEN, EXPERT = "token-of-the-server", "token-of-the-expert"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(""), {"Authorization": f"Basic {TOKEN}"}])
async def test_401_without_the_token(start: Any, headers: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = await start(token=TOKEN, expert_token=EXPERT)
    answer = await server.http.get("/v1/envs", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (await server.http.get("/v1/no/such/route", headers=headers)).status_code == 401
    for path in ("/healthz", "/readyz", "/version"):
        assert (await server.http.get(path)).status_code == 200
    assert TOKEN not in answer.text + caplog.text


async def test_the_expert_needs_its_own_token(start: Any) -> None:
    server = await start(token=TOKEN, expert_token=EXPERT)
    server.http.headers.update(bearer(TOKEN))
    path = f"/v1/episodes/{await server.create()}/expert"
    answer = await server.http.post(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert (await server.http.post(path, headers=bearer(EXPERT))).status_code == 200
    assert (await server.http.get("/v1/envs", headers=bearer(EXPERT))).status_code == 200


async def test_no_expert_where_only_a_token_is_set(start: Any) -> None:
    server = await start(token=TOKEN)
    server.http.headers.update(bearer(TOKEN))
    answer = await server.http.post(f"/v1/episodes/{await server.create()}/expert")
    assert (answer.status_code, "ENVLOOP_EXPERT_TOKEN" in answer.json()["error"]["hint"]) == (403, True)


async def test_expert_token_alone_guards_the_expert(start: Any) -> None:
    server = await start(expert_token=EXPERT)
    path = f"/v1/episodes/{await server.create()}/expert"
    assert (await server.http.post(path)).status_code == 403
    assert (await server.http.post(path, headers=bearer(EXPERT))).status_code == 200


@pytest.mark.parametrize(
    ("client", "host"),
    [(("192.0.2.7", 5), "127.0.0.1"), (("127.0.0.1", 5), "evil.example"), (("::ffff:192.0.2.7", 5), "localhost")],
)
async def test_without_a_token_only_this_machine_is_served(start: Any, client: tuple[str, int], host: str) -> None:
    server = await start(client=client, host=host)
    assert (await server.http.get("/v1/envs")).status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1:8470", "localhost:8470", "[::1]:8470", "localhost"])
async def test_loopback_by_any_of_its_names(start: Any, host: str) -> None:
    server = await start(host=host)
    assert (await server.http.get("/v1/envs")).status_code == 200


async def test_a_token_may_what_its_role_says(start: Any) -> None:
    roles = {"read": "reads-only-1", "play": "plays-2-also", "admin": "may-do-everything"}
    server = await start(tokens=" ".join(f"{role}:{secret}" for role, secret in roles.items()))
    episode = server.http.headers.update(bearer(roles["play"])) or await server.create()
    step = {"action": {"name": "count", "arguments": {"number": 1}}}
    calls = [("GET", "", None), ("POST", "/step", step), ("POST", "/expert", None)]
    allowed = {"read": [200, 403, 403], "play": [200, 200, 403], "admin": [200, 200, 200]}
    for role, secret in roles.items():
        for (method, path, body), status in zip(calls, allowed[role], strict=True):
            answer = await server.http.request(
                method, f"/v1/episodes/{episode}{path}", json=body, headers=bearer(secret)
            )
            assert answer.status_code == status, (role, path, answer.text)
    assert (await server.http.get("/v1/envs", headers=bearer("reads-only-2"))).status_code == 401


async def test_a_caller_that_is_too_fast_is_told_when_to_come_again(start: Any) -> None:
    server = await start(token=TOKEN, tokens=("play:another-caller",), max_requests_per_s=0.5)
    server.http.headers.update(bearer(TOKEN))
    answers = [await server.http.get("/v1/envs") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert answers[1].json()["error"]["code"] == "too_many_requests"
    assert answers[1].headers["retry-after"] == "2"
    assert (await server.http.get("/v1/envs", headers=bearer("another-caller"))).status_code == 200
    assert (await server.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("given", ["mine-1", "a b", "x" * 65, ""])
async def test_every_answer_has_a_request_id(start: Any, given: str) -> None:
    server = await start(token=TOKEN)
    for path, headers in (("/v1/envs", bearer(TOKEN)), ("/v1/envs", {}), ("/nowhere", {}), ("/healthz", {})):
        answer = await server.http.get(path, headers={**headers, "X-Request-Id": given})
        found = answer.headers["x-request-id"]
        assert (found == given) == (given == "mine-1")
        assert found


async def test_our_client_goes_as_fast_as_it_may(start: Any) -> None:
    server = await start(max_requests_per_s=20)
    async with EnvClient("http://127.0.0.1", transport=server.http._transport) as client:
        views = await asyncio.gather(*(client.create("counting", task_id="train/5") for _ in range(50)))
        assert len({view.id for view in views}) == 50


async def test_tokens_of_a_kind_serve_together(start: Any) -> None:
    server = await start(token=TOKEN, tokens=("play:the-next-token",))
    for token in (TOKEN, "the-next-token"):
        assert (await server.http.get("/v1/envs", headers=bearer(token))).status_code == 200


@pytest.mark.parametrize("wrong", ["play:short", "owner:long-enough-1", "no-role-at-all"])
def test_a_token_of_no_role_is_refused_without_being_shown(wrong: str) -> None:
    with pytest.raises(ConfigError, match="ROLE:SECRET") as caught:
        EnvServerSettings.load(tokens=wrong)
    assert wrong not in str(caught.value)


def test_a_token_with_a_role_closes_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVLOOP_TOKENS", "play:long-enough-1 admin:long-enough-2")
    settings = EnvServerSettings.load(host="192.0.2.1")
    settings.refuse_open_door()
    assert len(settings.tokens) == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])  # noqa: S104 - refused
def test_serve_refuses_an_open_door(host: str) -> None:
    with pytest.raises(ConfigError, match="ENVLOOP_TOKEN"):
        serve(EnvServerSettings(host=host))
