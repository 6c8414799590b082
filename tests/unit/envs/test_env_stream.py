"""The stream: frames as they are documented, faults on the way, and a client that uses it like any other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from counting_env import counting_registry
from live_server import live, wire
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from envs.client import EnvClient
from envs.config import EnvServerSettings
from envs.errors import (
    Conflict,
    EpisodeOver,
    Forbidden,
    InvalidAction,
    TransportError,
    Unauthorized,
    UnknownEpisode,
)
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus

BOTH = ("counting", "blocking_counting")
TOKEN = "token-of-the-stream"


def app(**settings: Any) -> Any:
    return create_app(EnvServerSettings(envs=BOTH, **settings), counting_registry())


def count(number: int) -> Action:
    return Action("count", {"number": number})


def socket_url(url: str) -> str:
    return url.replace("http", "ws") + "/v1/stream"


async def ask(socket: ClientConnection, *requests: Any) -> dict[Any, dict[str, Any]]:
    """Send one frame, and collect as many answers by their ids, from however many frames."""
    await socket.send(json.dumps(list(requests)))
    found: dict[Any, dict[str, Any]] = {}
    while len(found) < len(requests):
        found |= {answer["id"]: answer for answer in json.loads(await socket.recv())}
    return found


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with live(app()) as found:
        yield found


async def test_a_frame_of_many_requests(url: str) -> None:
    async with connect(socket_url(url)) as socket:
        made = await ask(
            socket,
            {"id": 1, "op": "create", "env": "counting", "task_id": "train/2"},
            {"id": "two", "op": "create", "env": "blocking_counting", "task_id": "train/2", "seed": 4},
            {"id": 3, "op": "create", "env": "nowhere", "task_id": "train/2"},
        )
        assert [made[k]["status"] for k in (1, "two", 3)] == [201, 201, 404]
        ids = [made[k]["episode"]["id"] for k in (1, "two")]
        action = {"name": "count", "arguments": {"number": 1}}
        done = await ask(
            socket,
            {"id": 4, "op": "step", "episode_id": ids[0], "step": 0, "action": action},
            {"id": 5, "op": "step", "episode_id": ids[1], "step": 0, "action": action},
            {"id": 6, "op": "step", "episode_id": ids[0], "step": 7, "action": action},
            {"id": 7, "op": "step", "episode_id": ids[0], "action": {"name": "count", "arguments": {}}},
            {"id": 8, "op": "step", "episode_id": "ep_none", "action": action},
        )
        assert [done[k]["status"] for k in (4, 5, 6, 7, 8)] == [200, 200, 409, 422, 404]
        assert [done[k]["episode"]["steps"] for k in (4, 5)] == [1, 1]
        more = await ask(
            socket,
            {"id": 9, "op": "expert", "episode_id": ids[0]},
            {"id": 10, "op": "fork", "episode_id": ids[0], "count": 2},
            {"id": 11, "op": "read", "episode_id": ids[1]},
        )
        assert (more[9]["action"]["arguments"], len(more[10]["episodes"])) == ({"number": 2}, 2)
        assert more[11]["episode"] == done[5]["episode"]
        closed = await ask(socket, {"id": 12, "op": "close", "episode_id": ids[0]})
        assert closed[12]["episode"]["status"] == "cancelled"


@pytest.mark.parametrize(
    "frame",
    ["", "no JSON", "{}", "[NaN]", "[" * 5000, '"text"', "null", json.dumps([{"id": 1, "op": "read"}] * 2000)],
    ids=["empty", "text", "object", "nan", "deep", "string", "null", "many"],
)
async def test_a_frame_that_cannot_be_read_is_refused_and_nothing_else(url: str, frame: str) -> None:
    async with connect(socket_url(url)) as socket:
        await socket.send(frame)
        (answer,) = json.loads(await socket.recv())
        assert (answer["id"], answer["status"] in (400, 422), answer["error"]["hint"] != "") == (None, True, True)
        made = await ask(socket, {"id": 1, "op": "create", "env": "counting", "task_id": "train/0"})
        assert made[1]["status"] == 201


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "read", "episode_id": "ep_1"},
        {"id": None, "op": "read", "episode_id": "ep_1"},
        {"id": [1], "op": "read", "episode_id": "ep_1"},
        {"id": 1, "op": "reset", "episode_id": "ep_1"},
        {"id": 1, "op": "read", "episode_id": 7},
        {"id": 1, "op": "create", "env": "counting", "task_id": "train/0", "more": 1},
        {"id": 1, "op": "step", "episode_id": "ep_1"},
        7,
    ],
    ids=["no-id", "null-id", "list-id", "op", "episode", "field", "no-action", "number"],
)
async def test_a_bad_request_fails_alone(url: str, request_: Any) -> None:
    async with connect(socket_url(url)) as socket:
        good = {"id": "good", "op": "create", "env": "counting", "task_id": "train/0"}
        await socket.send(json.dumps([request_, good]))
        found: list[dict[str, Any]] = []
        while len(found) < 2:
            found += json.loads(await socket.recv())
        statuses = {answer["id"]: answer["status"] for answer in found}
        assert statuses.pop("good") == 201
        assert set(statuses.values()) <= {400, 422}


async def test_a_slow_step_holds_up_nobody() -> None:
    served = app()
    async with live(served) as url, connect(socket_url(url)) as socket:
        made = await ask(
            socket,
            {"id": 1, "op": "create", "env": "counting", "task_id": "train/2"},
            {"id": 2, "op": "create", "env": "blocking_counting", "task_id": "train/2"},
        )
        family = await served.state.families.get("blocking_counting")
        family.release.clear()
        action = {"name": "count", "arguments": {"number": 1}}
        steps = [{"id": k + 2, "op": "step", "episode_id": made[k]["episode"]["id"], "action": action} for k in (2, 1)]
        await socket.send(json.dumps(steps))
        (first,) = json.loads(await socket.recv())
        assert (first["id"], first["status"]) == (3, 200)
        family.release.set()
        (second,) = json.loads(await socket.recv())
        assert (second["id"], second["status"]) == (4, 200)


async def test_more_than_can_be_answered_waits_for_its_turn() -> None:
    async with live(app(max_batch=4)) as url, connect(socket_url(url)) as socket:
        for number in range(50):
            request = {"id": number, "op": "create", "env": "blocking_counting", "task_id": "train/0"}
            await socket.send(json.dumps([request] * 1))
        found: list[int] = []
        while len(found) < 50:
            found += [answer["status"] for answer in json.loads(await socket.recv())]
        assert set(found) == {201}


async def test_a_frame_above_the_limit_ends_the_stream(url: str) -> None:
    del url
    async with live(app(), ws_max_size=2048) as small, connect(socket_url(small)) as socket:
        await socket.send("x" * 5000)
        with pytest.raises(ConnectionClosed, match="1009"):
            await socket.recv()


async def test_who_may_open_it() -> None:
    tokens = f"read:{TOKEN}-read play:{TOKEN}-play"
    async with live(app(tokens=tokens)) as url:
        statuses = {}
        for token in ("none", f"{TOKEN}-read", f"{TOKEN}-play"):
            try:
                async with connect(socket_url(url), additional_headers={"Authorization": f"Bearer {token}"}) as socket:
                    made = await ask(socket, {"id": 1, "op": "create", "env": "counting", "task_id": "train/0"})
                    expert = {"id": 2, "op": "expert", "episode_id": made[1]["episode"]["id"]}
                    statuses[token] = (await ask(socket, expert))[2]["status"]
            except InvalidStatus as error:
                body = json.loads(error.response.body)
                statuses[token] = (error.response.status_code, body["error"]["code"])
        assert list(statuses.values()) == [(401, "unauthorized"), (403, "forbidden"), 403]


@pytest.mark.parametrize(("origin", "opens"), [("http://evil.example", False), (None, True), ("same", True)])
async def test_a_page_of_another_site_opens_none(url: str, origin: str | None, opens: bool) -> None:
    given = url if origin == "same" else origin
    with contextlib.nullcontext() if opens else pytest.raises(InvalidStatus, match="403"):
        async with connect(socket_url(url), origin=given):
            pass


async def test_the_client_plays_over_it(url: str) -> None:
    async with EnvClient(url, streams=3) as client:
        for env in BOTH:
            views = await asyncio.gather(*(client.create(env, task_id="train/3", seed=n) for n in range(40)))
            assert len({view.id for view in views}) == 40

            async def play(view: Any) -> Any:
                while not view.status.over:
                    action = await client.expert_action(view.id)
                    assert action is not None
                    view = await client.step(view, action)
                return view

            ended = await asyncio.gather(*map(play, views))
            assert {(view.status, view.reward) for view in ended} == {(EpisodeStatus.COMPLETED, 1.0)}
        view = await client.create("counting", task_id="train/3")
        (fork,) = await client.fork(view)
        assert await client.read(fork.id) == fork
        assert (await client.close_episode(fork.id)).status is EpisodeStatus.CANCELLED
        with pytest.raises(InvalidAction):
            await client.step(view, Action("count", {}))
        with pytest.raises(EpisodeOver):
            await client.step(ended[0].id, count(1))
        with pytest.raises(Conflict):
            await client.step(view, count(1), step=5)
        with pytest.raises(UnknownEpisode):
            await client.read("ep_none")


async def test_errors_at_its_opening_are_those_of_requests() -> None:
    async with live(app(tokens=f"read:{TOKEN}-read")) as url:
        for token, error in ((None, Unauthorized), (f"{TOKEN}-read", Forbidden)):
            async with EnvClient(url, token=token, streams=2) as client:
                with pytest.raises(error):
                    await client.create("counting", task_id="train/0")


async def test_no_token_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with live(app(token=TOKEN)) as url, EnvClient(url, token=TOKEN, streams=1) as client:
        assert (await client.create("counting", task_id="train/0")).steps == 0
    assert TOKEN not in caplog.text


async def test_a_cut_wire_costs_no_step_and_doubles_none() -> None:
    served = app()
    async with live(served) as url, wire(url) as cable, EnvClient(cable.url, streams=2) as client:
        views = await asyncio.gather(*(client.create("blocking_counting", task_id="train/5") for _ in range(20)))
        family = await served.state.families.get("blocking_counting")
        for number in range(1, 6):
            family.release.clear()
            steps = [asyncio.create_task(client.step(view, count(number))) for view in views]
            for _ in views:  # every step is in, and none has been answered
                await asyncio.to_thread(family.entered.acquire)
            cable.cut()
            await asyncio.sleep(0.02)
            family.release.set()
            views = await asyncio.gather(*steps)
            assert {view.steps for view in views} == {number}
        assert family.applied == 100
        assert cable.connections >= 2 * 5


async def test_a_step_without_a_number_is_not_sent_twice() -> None:
    served = app()
    async with live(served) as url, wire(url) as cable, EnvClient(cable.url, streams=1) as client:
        view = await client.create("blocking_counting", task_id="train/5")
        family = await served.state.families.get("blocking_counting")
        family.release.clear()
        stepping = asyncio.create_task(client.step(view.id, count(1)))
        await asyncio.to_thread(family.entered.acquire)
        cable.cut()
        with pytest.raises(TransportError, match="broke off"):
            await stepping
        family.release.set()
        assert (await client.read(view.id)).steps == 1


async def test_where_no_socket_gets_through_requests_go_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Such as a tunnel that knows no WebSockets: here a server without them."""
    async with live(app(), ws="none") as url, EnvClient(url, streams=4) as client:
        views = await asyncio.gather(*(client.create("counting", task_id="train/0") for _ in range(10)))
        assert {(await client.step(view, count(1))).reward for view in views} == {1.0}
    assert sum("each request goes alone now" in record.message for record in caplog.records) == 1


async def test_a_caller_that_gives_up_leaves_the_others_alone() -> None:
    served = app()
    async with live(served) as url, EnvClient(url, streams=1) as client:
        views = [await client.create("blocking_counting", task_id="train/5") for _ in range(2)]
        family = await served.state.families.get("blocking_counting")
        family.release.clear()
        first, second = (asyncio.create_task(client.step(view, count(1))) for view in views)
        for _ in views:
            await asyncio.to_thread(family.entered.acquire)
        first.cancel()
        await asyncio.wait([first])
        family.release.set()
        assert (await second).steps == 1
        assert (await client.step(views[0], count(1))).steps == 1  # it was taken, and is answered again
        assert family.applied == 2


async def test_closing_ends_what_waits(url: str) -> None:
    client = EnvClient(url, streams=2, retries=0, patience_s=0)
    view = await client.create("blocking_counting", task_id="train/5", options={"slow_s": 0})
    slow = asyncio.create_task(client.create("blocking_counting", task_id="train/5", options={"slow_s": 0.3}))
    await asyncio.sleep(0.05)
    await client.aclose()
    with pytest.raises(TransportError):
        await slow
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        assert (await http.get(f"/v1/episodes/{view.id}")).status_code == 200


async def test_where_there_is_no_room_a_request_is_told_when_to_come_again() -> None:
    create = {"op": "create", "env": "counting", "task_id": "train/5"}
    async with live(app(max_episodes=1)) as url, connect(socket_url(url)) as socket:
        answers = await ask(socket, {"id": 1, **create}, {"id": 2, **create})
        first, second = sorted(answers.values(), key=lambda answer: answer["status"])
        assert (first["status"], second["status"]) == (201, 429)
        assert (second["error"]["code"], second["retry_after_s"]) == ("capacity_exceeded", 1.0)
        assert "retry_after_s" not in first
