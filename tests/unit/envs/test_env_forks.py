"""Forks: new episodes from any step of a running or ended one, copied or played again, all or none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from envs.server import history, schemas

WAYS = pytest.mark.parametrize(
    ("env", "copies"),
    [("counting", True), ("counting", False), ("blocking_counting", True), ("blocking_counting", False)],
)


async def fork(server: Any, episode: str, **body: Any) -> httpx.Response:
    return await server.http.post(f"/v1/episodes/{episode}/fork", json=body)


async def read(server: Any, episode: str) -> dict[str, Any]:
    return (await server.http.get(f"/v1/episodes/{episode}")).json()


async def counted(server: Any, env: str, numbers: tuple[int, ...], copies: bool = False, n: int = 4) -> str:
    """An episode of the task to count to n + 1 that has done these steps."""
    (await server.family(env)).copies = copies
    episode = await server.create(env, n)
    for number in numbers:
        assert (await server.count(episode, number)).status_code == 200
    return episode


@WAYS
async def test_forks_go_on_from_now_each_in_its_own_way(server: Any, env: str, copies: bool) -> None:
    episode = await counted(server, env, (1, 9, 2), copies)
    family = await server.family(env)
    before, applied = await read(server, episode), family.applied
    answer = await fork(server, episode, count=3)
    assert answer.status_code == 201
    schemas.ForksAnswer.model_validate(answer.json(), extra="forbid")
    forks = answer.json()["episodes"]
    assert family.applied - applied == (0 if copies else 9)
    assert len({view["id"] for view in forks} | {episode}) == 4
    for view in forks:
        own = {"id": view["id"], "forked_from": {"episode": episode, "at_step": 3}}
        assert view == before | own
    assert before["forked_from"] is None
    first, second, third = (view["id"] for view in forks)
    for number in (3, 4, 5):
        last = (await server.count(first, number)).json()
    assert (last["status"], last["reward"], last["steps"]) == ("completed", 1.0, 6)
    assert (await server.count(second, 7)).json()["valid"] is False
    assert (await server.http.delete(f"/v1/episodes/{third}")).json()["status"] == "cancelled"
    assert await read(server, episode) == before
    assert (await server.count(episode, 3)).json()["steps"] == 4
    assert len(family.live) == 2


@WAYS
async def test_forks_of_an_earlier_step(server: Any, env: str, copies: bool) -> None:
    episode = await counted(server, env, (1, 2, 3), copies)
    begun = {"text": "Count to 5.", "admissible_actions": ["1"]}
    at_start, later = [(await fork(server, episode, at_step=k, count=2)).json()["episodes"] for k in (0, 2)]
    assert [(view["steps"], view["observation"]) for view in at_start] == [(0, begun)] * 2
    assert [(view["steps"], view["observation"]["text"]) for view in later] == [(2, "You are at 2.")] * 2
    assert (await server.count(later[0]["id"], 3)).json()["observation"]["text"] == "You are at 3."
    assert (await server.count(at_start[0]["id"], 3)).json()["valid"] is False
    assert (await read(server, episode))["steps"] == 3
    assert (await server.count(later[1]["id"], 9)).json()["valid"] is False
    for view, valid in zip(later, (True, False), strict=True):  # each has a history of its own
        grown = (await fork(server, view["id"], at_step=2)).json()["episodes"][0]["id"]
        await server.count(grown, 3)
        (once_more,) = (await fork(server, view["id"])).json()["episodes"]
        assert (once_more["steps"], once_more["valid"]) == (3, valid)
    again = (await fork(server, later[0]["id"], at_step=1)).json()["episodes"][0]  # a fork of a fork
    assert (again["steps"], again["observation"]["text"]) == (1, "You are at 1.")
    assert again["forked_from"] == {"episode": later[0]["id"], "at_step": 1}


@pytest.mark.parametrize("env", ["counting", "blocking_counting"])
async def test_an_ended_episode_is_forked_as_long_as_it_is_remembered(start: Any, env: str) -> None:
    server = await start(remember_ended=1)
    won = await counted(server, env, (1, 2), n=1)
    assert (await read(server, won))["reward"] == 1.0
    (view,) = (await fork(server, won, at_step=1)).json()["episodes"]
    assert (view["status"], view["steps"], view["reward"]) == ("running", 1, 0.0)
    closed = await counted(server, env, (1,))
    await server.http.delete(f"/v1/episodes/{closed}")
    (view,) = (await fork(server, closed)).json()["episodes"]  # was not at its own end
    assert (view["status"], view["steps"], view["info"]) == ("running", 1, {})
    answer = await fork(server, won, at_step=1)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_episode")


async def test_a_fork_takes_up_what_the_machinery_dropped(server: Any) -> None:
    episode = await counted(server, "blocking_counting", (1, 2))
    family = await server.family("blocking_counting")
    family.fail_with = RuntimeError("broken")
    assert (await server.count(episode, 3)).status_code == 500
    family.fail_with = None
    (view,) = (await fork(server, episode)).json()["episodes"]
    assert (await server.count(view["id"], 3)).json()["observation"]["text"] == "You are at 3."


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"at_step": 3}, 409, "conflict"),
        ({"at_step": -1}, 422, "invalid_option"),
        ({"count": 0}, 422, "invalid_option"),
        ({"count": 5}, 422, "invalid_option"),
        ({"steps": 1}, 422, "invalid_option"),
    ],
)
async def test_a_fork_that_makes_no_sense(start: Any, body: dict[str, Any], status: int, code: str) -> None:
    server = await start(max_batch=4)
    episode = await counted(server, "counting", (1, 2))
    answer = await fork(server, episode, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert len((await server.family()).live) == 1


@WAYS
async def test_nothing_goes_on_from_the_end(server: Any, env: str, copies: bool) -> None:
    episode = await counted(server, env, (1, 2), copies, n=1)
    for body in ({}, {"at_step": 2}):
        answer = await fork(server, episode, **body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "episode_over")
        assert "0 to 1" in answer.json()["error"]["hint"]


@WAYS
async def test_forks_take_places_all_or_none(start: Any, env: str, copies: bool) -> None:
    server = await start(max_episodes=4, envs=(env,))
    episode = await counted(server, env, (1,), copies)
    family = await server.family(env)
    answer = await fork(server, episode, count=4)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "capacity_exceeded")
    assert len(family.live) == 1
    assert len((await fork(server, episode, count=3)).json()["episodes"]) == 3
    assert len(family.live) == 4


@WAYS
async def test_one_that_cannot_be_made_takes_the_others_with_it(start: Any, env: str, copies: bool) -> None:
    server = await start(max_episodes=4, envs=(env,))
    episode = await counted(server, env, (1,), copies)
    family = await server.family(env)
    family.max_made = family.made + 2
    answer = await fork(server, episode, at_step=0, count=3)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "backend_unavailable")
    assert len(family.live) == 1
    family.max_made = 1_000_000
    assert len((await fork(server, episode, count=3)).json()["episodes"]) == 3  # the places are free again


async def test_an_environment_that_answers_otherwise_is_not_forked(server: Any) -> None:
    episode = await counted(server, "counting", (1, 2, 3))
    before = await read(server, episode)
    family = await server.family()
    family.drift = " Or so."
    answer = await fork(server, episode, count=2)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "infrastructure_error")
    assert f"episode {episode} cannot be forked: played again, step 1 gives another result" in answer.text
    assert len(family.live) == 1
    assert await read(server, episode) == before
    assert len((await fork(server, episode, at_step=0)).json()["episodes"]) == 1


async def test_the_step_that_differs_is_named(server: Any) -> None:
    episode = await counted(server, "counting", (1, 2))
    family = await server.family()
    family.drift = "!"
    assert (await server.count(episode, 3)).status_code == 200
    family.drift = ""
    assert "step 3 gives another result" in (await fork(server, episode)).text
    assert (await fork(server, episode, at_step=2)).status_code == 201


async def test_a_fork_counts_its_steps_on(server: Any) -> None:
    episode = await counted(server, "counting", (1, 2))
    (view,) = (await fork(server, episode)).json()["episodes"]
    assert (await server.count(view["id"], 3, step=1)).json()["error"]["code"] == "conflict"
    assert (await server.count(view["id"], 3, step=3)).json()["error"]["code"] == "conflict"
    taken = await server.count(view["id"], 3, step=2)
    assert (taken.status_code, taken.json()["steps"]) == (200, 3)
    assert (await server.count(view["id"], 3, step=2)).json() == taken.json()


async def test_a_fork_waits_for_the_step_that_runs(server: Any) -> None:
    episode = await counted(server, "blocking_counting", (1,), copies=True)
    family = await server.family("blocking_counting")
    while family.entered.acquire(blocking=False):
        pass
    family.release.clear()
    step = asyncio.create_task(server.count(episode, 2))
    await asyncio.to_thread(family.entered.acquire)
    forking = asyncio.create_task(fork(server, episode))
    await asyncio.sleep(0.01)
    assert not forking.done()
    family.release.set()
    await step
    assert (await forking).json()["episodes"][0]["steps"] == 2


async def test_text_of_a_model_is_played_again_as_it_was(server: Any) -> None:
    text = 'ünï "quoted" \ud800 \x00 \u2028'
    episode = await server.create(n=4)
    action = {"name": "count", "arguments": {"number": 1, "say": text}}
    path = f"/v1/episodes/{episode}/step"
    content = json.dumps({"action": action})
    await server.http.post(path, content=content, headers={"content-type": "application/json"})
    (view,) = (await fork(server, episode)).json()["episodes"]
    assert view["observation"]["text"] == text


@pytest.mark.parametrize("copies", [True, False])
async def test_an_episode_that_said_too_much_is_forked_as_it_stands_or_not_at_all(
    server: Any, copies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "HISTORY_LIMIT", 60)
    episode = await counted(server, "counting", (1, 9, 2), copies)
    refused = [await fork(server, episode, at_step=2)]
    now = await fork(server, episode)
    if copies:
        (view,) = now.json()["episodes"]
        assert (await server.count(view["id"], 2, step=2)).json()["steps"] == 3
        assert (await server.count(view["id"], 3, step=3)).json()["steps"] == 4
        refused.append(await fork(server, view["id"], at_step=3))
    else:
        refused.append(now)
    await server.http.delete(f"/v1/episodes/{episode}")
    refused.append(await fork(server, episode))
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in refused} == {(409, "conflict")}
    assert len((await server.family("counting")).live) == copies


@pytest.mark.parametrize("env", ["counting", "blocking_counting"])
async def test_an_expert_by_name(server: Any, env: str) -> None:
    async def ask(episode: str, **body: Any) -> httpx.Response:
        return await server.http.post(f"/v1/episodes/{episode}/expert", json=body)

    plain = await counted(server, env, ())
    assert (await ask(plain)).json()["action"]["arguments"] == {"number": 1}
    refused = await ask(plain, expert="right")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_option")
    several = await counted(server, env, (), copies=True)
    assert [(await ask(several, **body)).json()["action"]["arguments"]["number"] for body in EXPERTS] == [1, 1, -1]
    refused = await ask(several, expert="lucky")
    assert (refused.status_code, refused.json()["error"]["hint"]) == (422, "known: right, wrong")
    assert (await ask(several, experts="right")).status_code == 422


EXPERTS: tuple[dict[str, str], ...] = ({}, {"expert": "right"}, {"expert": "wrong"})
