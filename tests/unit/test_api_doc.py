"""docs/api.md names every route that the two servers have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from envs.config import EnvServerSettings
from envs.server.app import create_app as env_app
from rollout_server.config import RolloutServerSettings
from rollout_server.server.app import create_app as rollout_app

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "app",
    [env_app(EnvServerSettings()), rollout_app(RolloutServerSettings())],
    ids=["env", "rollout"],
)
def test_every_route_is_documented(app: FastAPI) -> None:
    paths = {re.sub(r"\{(task|episode)_id\}", "{id}", path) for path in app.openapi()["paths"]}
    assert len(paths) >= 8
    missing = [path for path in paths if not re.search(rf"{re.escape(path)}(?![\w/{{])", DOCUMENT)]
    assert missing == []
