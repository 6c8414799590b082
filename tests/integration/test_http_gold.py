"""Over HTTP: the expert wins official games, every gold answer scores 1, doing nothing scores 0, no gold leaks."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from envs.client import EnvClient, EpisodeView, NewEpisode
from envs.config import EnvServerSettings
from envs.server.app import create_app
from envs.types import Action, EpisodeStatus

IDLE = {
    "alfworld": Action("take_action", {"action": "look"}),
    "dbbench": Action("commit_final_answer", {"answers": []}),
}


class Recording(httpx.ASGITransport):
    """Keeps every answer's text but those of the expert's route, which is privileged."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.texts: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if not request.url.path.endswith("/expert"):
            self.texts.append((await answer.aread()).decode())
        return answer


@pytest.fixture(scope="module")
def settings(shared_dir: Path) -> EnvServerSettings:
    games, questions = shared_dir / "data/alfworld/json_2.1.1", shared_dir / "data/agentbench/dbbench"
    return EnvServerSettings(alfworld={"data_dir": games}, dbbench={"data_dir": questions})


@pytest.fixture
async def transport(settings: EnvServerSettings) -> AsyncIterator[Recording]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield Recording(app)


@pytest.fixture
async def client(transport: Recording) -> AsyncIterator[EnvClient]:
    async with EnvClient("http://127.0.0.1", transport=transport) as made:
        yield made


async def played(client: EnvClient, env: str, split: str, *, idle: bool = False) -> list[EpisodeView]:
    """Every task of the split to its end (at most 60 steps), by the expert or by doing nothing."""
    ids = [task.id async for task in client.iter_tasks(env, split=split)]
    live = list(await client.create_many(NewEpisode(env=env, task_id=task_id) for task_id in ids))
    done: list[EpisodeView] = []
    while live:
        expert = [IDLE[env]] * len(live) if idle else await asyncio.gather(*(client.expert_action(v.id) for v in live))
        stuck = [v for v, action in zip(live, expert, strict=True) if action is None]
        done.extend(stuck)
        moves = [(v, action) for v, action in zip(live, expert, strict=True) if action is not None]
        views = await client.step_many(moves)
        done.extend(v for v in views if v.status.over)
        live = [v for v in views if not v.status.over]
    assert len(done) == len(ids)
    return done


async def test_the_expert_wins_the_official_games(client: EnvClient) -> None:
    episodes = await played(client, "alfworld", "valid_unseen")
    assert len(episodes) == 39
    won = [e for e in episodes if e.reward == 1.0 and e.status is EpisodeStatus.COMPLETED and e.steps <= 50]
    assert len(won) >= 0.95 * 39


async def test_doing_nothing_wins_no_game(client: EnvClient) -> None:
    episodes = await played(client, "alfworld", "valid_unseen", idle=True)
    assert {(e.status, e.reward) for e in episodes} == {(EpisodeStatus.TRUNCATED_TURNS, 0.0)}


async def test_every_gold_answer_scores_and_none_is_shown(
    client: EnvClient, transport: Recording, shared_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    episodes = await played(client, "dbbench", "dev")
    assert len(episodes) == 60
    assert sum(e.reward == 1.0 for e in episodes) == 60
    mutations = [e for e in episodes if e.task.type in ("INSERT", "UPDATE")]
    assert (len(mutations), sum(e.reward for e in mutations)) == (40, 40.0)
    hidden = list(gold(shared_dir / "data/agentbench/dbbench/dev.jsonl"))
    assert len(hidden) >= 80
    shown = "\n".join([*transport.texts, caplog.text])
    assert [secret for secret in hidden if secret in shown] == []


def gold(file: Path) -> list[str]:
    """What must not be seen: gold statements and table hashes. (A looked-up value is in a query's own result.)"""
    secrets = []
    for line in file.read_text().splitlines():
        row = json.loads(line)
        if row["type"][0] in ("INSERT", "UPDATE"):
            secrets.append(json.dumps(row["label"][0] if isinstance(row["label"], list) else row["label"])[1:-1])
            secrets.append(row["answer_md5"].strip("[](),'"))
    return secrets


def answers(file: Path) -> list[str]:
    """The answers of questions that are long enough not to occur by chance and are not in the question itself."""
    found = []
    for line in file.read_text().splitlines():
        row = json.loads(line)
        if row["type"][0] not in ("INSERT", "UPDATE"):
            asked = " ".join(str(row.get(key)) for key in ("description", "add_description", "evidence"))
            texts = [str(item) for item in row["label"]]
            found += [text for text in texts if len(text) >= 5 and text not in asked]
    return found


async def test_no_answer_is_in_a_task_or_in_what_an_idle_policy_sees(
    client: EnvClient, transport: Recording, shared_dir: Path
) -> None:
    episodes = await played(client, "dbbench", "dev", idle=True)
    assert len(episodes) == 60
    assert {e.reward for e in episodes} == {0.0}
    names = ("label", "gold", "answer_md5", "solution")
    shown = "\n".join(transport.texts)
    assert [name for name in names if f'"{name}"' in shown] == []
    file = shared_dir / "data/agentbench/dbbench/dev.jsonl"
    assert [s for s in gold(file) if s in shown] == []
    assert len(answers(file)) >= 15
    plain = json.dumps([json.loads(text) for text in transport.texts], ensure_ascii=False)
    assert [s for s in answers(file) if json.dumps(s, ensure_ascii=False)[1:-1] in plain] == []


async def test_doing_nothing_on_generated_tasks(client: EnvClient) -> None:
    for env, idle in IDLE.items():
        views = await client.create_many(NewEpisode(env=env, split="generated", sample_seed=k) for k in range(8))
        while views:
            views = await client.step_many((view, idle) for view in views)
            assert {view.reward for view in views} == {0.0}
            views = [view for view in views if not view.status.over]
