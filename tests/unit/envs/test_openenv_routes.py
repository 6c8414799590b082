"""OpenEnv's routes without OpenEnv: what its client never sends, and what a server without the extra says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from counting_env import counting_registry
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from envs.config import EnvServerSettings
from envs.errors import ConfigError
from envs.server.app import create_app

HERE = "/openenv/counting"
COUNT = {"tool_name": "count", "arguments": {"number": 1}}


def app_of(**settings: Any) -> Any:
    given = {"envs": ("counting", "blocking_counting"), "openenv": ("counting",), **settings}
    return create_app(EnvServerSettings(**given), counting_registry())


@pytest.fixture(params=["off", "sqlite"])
def http(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[TestClient]:
    """Without a journal and with one: a session's name is looked up in two ways."""
    url = "off" if request.param == "off" else f"sqlite:///{tmp_path}/journal.sqlite"
    app = app_of(journal_url=url, body_limit=4096)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        yield client


def connect(http: TestClient, path: str, base: str = HERE, **more: Any) -> WebSocketTestSession:
    return http.websocket_connect(f"ws://127.0.0.1{base}{path}", **more)


def ask(socket: WebSocketTestSession, kind: str, data: Any = None) -> dict[str, Any]:
    socket.send_text(json.dumps({"type": kind} if data is None else {"type": kind, "data": data}))
    return socket.receive_json()


def code(answer: dict[str, Any]) -> str:
    assert answer["type"] == "error", answer
    return str(answer["data"]["code"])


def test_plain_http_names_the_episode(http: TestClient) -> None:
    begun = http.post(HERE + "/reset", json={"task_id": "train/1"}).json()
    episode = begun["metadata"]["episode_id"]
    stepped = http.post(HERE + "/step", json={"action": COUNT, "episode_id": episode}).json()
    assert stepped["observation"]["text"] == "You are at 1."
    state = http.get(HERE + "/state", params={"episode_id": episode}).json()
    assert (state["step_count"], state["last"]) == (1, stepped)
    for answer in (http.post(HERE + "/step", json={"action": COUNT}), http.get(HERE + "/state")):
        assert (answer.status_code, "episode_id" in answer.json()["error"]["message"]) == (422, True)
    unknown = http.post(HERE + "/step", json={"action": COUNT, "episode_id": "ep_none"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_episode")
    elsewhere = http.post("/v1/episodes", json={"env": "blocking_counting", "task_id": "train/1"}).json()["id"]
    refused = http.get(HERE + "/state", params={"episode_id": elsewhere})
    assert (refused.status_code, "/openenv/blocking_counting" in refused.json()["error"]["hint"]) == (422, True)


def test_a_named_session_is_found_again(http: TestClient) -> None:
    with connect(http, "/sessions/mine/ws") as first:
        ask(first, "reset", {"task_id": "train/0"})
        second = ask(first, "reset", {"task_id": "train/3"})["data"]["metadata"]["episode_id"]
    with connect(http, "/sessions/mine/ws") as again:
        assert ask(again, "state")["data"]["episode_id"] == second
        assert ask(again, "step", COUNT)["data"]["metadata"]["episode_id"] == second
    for other in ("/sessions/Mine/ws", "/sessions/min/ws", "/sessions/mine2/ws", "/ws"):
        with connect(http, other) as stranger:
            assert ask(stranger, "state")["data"]["episode_id"] is None
            assert code(ask(stranger, "step", COUNT)) == "SESSION_ERROR"


def test_an_episode_s_own_name_is_kept_for_what_was_asked(http: TestClient) -> None:
    with connect(http, "/ws") as socket:
        mine = ask(socket, "reset", {"task_id": "train/0", "episode_id": "a"})["data"]["metadata"]["episode_id"]
        assert ask(socket, "reset", {"task_id": "train/0", "episode_id": "a"})["data"]["metadata"]["episode_id"] == mine
        assert "used for another" in ask(socket, "reset", {"task_id": "train/2", "episode_id": "a"})["data"]["message"]
        assert ask(socket, "state")["data"]["episode_id"] == mine


BAD_MESSAGES = [
    ("no json", "INVALID_JSON"),
    ("[1]", "INVALID_JSON"),
    ('{"type": "step", "data": {"tool_name": "count", "arguments": {"number": NaN}}}', "INVALID_JSON"),
    ("[" * 3000, "INVALID_JSON"),
    ('{"type": "reset", "data": {"seed": ' + "9" * 3900 + "}}", "VALIDATION_ERROR"),
    ('{"type": "reset", "data": []}', "INVALID_JSON"),
    ('{"type": "reset", "data": {"split": "train", "task_id": "train/0"}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"seed": -1}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"nonsense": 1}}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"tool_name": "\\ud800", "metadata": {"step": "x"}}}', "VALIDATION_ERROR"),
    ('{"type": "step"}', "VALIDATION_ERROR"),
    ('{"type": "dance"}', "UNKNOWN_TYPE"),
    ('{"type": ["reset"]}', "UNKNOWN_TYPE"),
    (json.dumps({"type": "state", "data": {"x": "y" * 5000}}), "INVALID_JSON"),
]


def test_a_bad_message_is_answered_and_the_connection_goes_on(http: TestClient) -> None:
    with connect(http, "/ws") as socket:
        ask(socket, "reset", {"task_id": "train/0"})
        for text, expected in BAD_MESSAGES:
            socket.send_text(text)
            assert (text, code(socket.receive_json())) == (text, expected)
        assert ask(socket, "step", COUNT)["data"]["reward"] == 1.0


def test_a_failure_of_the_environment_has_no_reward(http: TestClient) -> None:
    with connect(http, "/ws") as socket:
        ask(socket, "reset", {"task_id": "train/2"})
        family = http.portal.call(http.app.state.families.get, "counting")  # type: ignore[union-attr]
        family.fail_with = RuntimeError("a secret of the machinery")
        answer = ask(socket, "step", COUNT)
        assert (code(answer), "secret" in json.dumps(answer)) == ("EXECUTION_ERROR", False)
        state = ask(socket, "state")["data"]
        assert (state["status"], state["last"]["reward"], state["last"]["done"]) == ("infrastructure_error", None, True)


def test_json_rpc(http: TestClient) -> None:
    def call(method: str, **params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        found = http.post(HERE + "/mcp", json=body).json()
        assert (found["jsonrpc"], found["id"]) == ("2.0", 7)
        return found

    session = call("openenv/session/create")["result"]["session_id"]
    assert call("tools/list")["result"]["tools"][0]["name"] == "count"
    assert call("tools/call", name="count", session_id=session)["error"]["code"] == -32602  # not reset yet
    with connect(http, f"/ws?session_id={session}") as socket:
        ask(socket, "reset", {"task_id": "train/1"})
        found = call("tools/call", name="count", arguments={"number": 1}, session_id=session)["result"]
        assert (found["content"][0]["text"], found["data"]["done"]) == ("You are at 1.", False)
        rpc = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "count", "arguments": 3}}
        assert ask(socket, "mcp", rpc)["data"]["error"]["code"] == -32602
    assert call("openenv/session/close", session_id=session)["result"]["closed"] is True
    assert call("tools/call", name="count", arguments={"number": 2}, session_id=session)["error"]["code"] == -32000
    assert call("dance")["error"]["code"] == -32601
    assert call("tools/call", name="count")["error"]["code"] == -32602
    for body in (b"", b"[]", b"{}", b'{"jsonrpc": "2.0", "method": 1}', b"\xff"):
        assert http.post(HERE + "/mcp", content=body).json()["error"]["code"] == -32600


def test_who_may_connect() -> None:
    app = app_of(token="tok-routes-play", tokens=("read:tok-routes-read",))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as http:
        for headers, status in (({}, 401), ({"authorization": "Bearer tok-routes-read"}, 403)):
            with (
                pytest.raises(WebSocketDenialResponse) as refused,
                connect(http, "/ws", headers=headers),
            ):
                pass
            assert refused.value.status_code == status
            assert http.post(HERE + "/reset", headers=headers).status_code == status
            rpc = {"jsonrpc": "2.0", "method": "tools/call"}
            assert http.post(HERE + "/mcp", headers=headers, json=rpc).status_code == status
            for path in ("/health", "/metadata", "/schema", "/openapi.json"):
                assert http.get(HERE + path, headers=headers).status_code == 200
        play = {"authorization": "Bearer tok-routes-play"}
        with connect(http, "/ws", headers=play) as socket:
            assert ask(socket, "reset")["type"] == "observation"
        with pytest.raises(WebSocketDisconnect), connect(http, "/sessions/a b/ws", headers=play):
            pass


def test_a_page_of_another_site_is_refused() -> None:
    with TestClient(app_of(), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as http:
        elsewhere = {"origin": "https://example.org"}
        with pytest.raises(WebSocketDenialResponse), connect(http, "/ws", headers=elsewhere):
            pass
        with connect(http, "/ws", headers={"origin": "http://127.0.0.1"}) as socket:
            assert ask(socket, "state")["type"] == "state"


def test_too_fast() -> None:
    http = TestClient(app_of(max_requests_per_s=1), client=("127.0.0.1", 1))
    with http, connect(http, "/ws") as socket:
        assert [ask(socket, "state")["type"] for _ in range(4)][-2:] == ["error", "error"]


def test_health_tells_whether_episodes_can_be_started() -> None:
    app = app_of(envs=("absent",), openenv=("absent",))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as http:
        answer = http.get("/openenv/absent/health")
        assert (answer.status_code, answer.json()) == (503, {"status": "unhealthy"})
        with connect(http, "/openenv/absent/ws", "") as socket:
            assert "no database answers" in ask(socket, "reset")["data"]["message"]


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match=r"openenv: no environment is called 'nothing'.*counting"):
        app_of(openenv=("nothing",))


def test_it_is_not_there_unless_asked_for() -> None:
    with TestClient(app_of(openenv=()), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as http:
        assert http.get(HERE + "/health").status_code == 404
        assert not [path for path in http.get("/openapi.json").json()["paths"] if "openenv" in path]
