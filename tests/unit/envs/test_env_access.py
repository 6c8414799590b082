"""Who may call: tokens, the expert's token, and a server without any."""

from __future__ import annotations

import logging
from typing import Any

import pytest

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


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])  # noqa: S104 - refused
def test_serve_refuses_an_open_door(host: str) -> None:
    with pytest.raises(ConfigError, match="ENVLOOP_TOKEN"):
        serve(EnvServerSettings(host=host))
