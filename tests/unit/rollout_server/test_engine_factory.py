"""Engines by name, and clear words for what is wrong with a request for one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from envs.errors import ConfigError
from rollout_server.engines.base import Engine
from rollout_server.engines.factory import make_engine
from rollout_server.engines.pool import EnginePool


@pytest.mark.parametrize("kind", ["expert", "gold", "explorer", "repair", "near_miss", "random", "noop"])
def test_scripted_kinds(kind: str) -> None:
    engine = make_engine(kind)
    assert isinstance(engine, Engine)
    assert engine.model == f"scripted-{kind}"


@pytest.mark.parametrize(("kind", "name"), [("vllm", "vllm"), ("transformers", "transformers"), ("openai", "openai")])
def test_model_kinds_load_nothing_yet(kind: str, name: str) -> None:
    options = {"base_url": "http://localhost:1"} if kind == "openai" else {}
    engine = make_engine(kind, model="some/model", **options)
    assert (engine.name, engine.model) == (name, "some/model")


def test_a_list_of_addresses_is_a_pool() -> None:
    urls = ["http://user:secret@a:1/v1", "http://b:2"]
    pool = make_engine("openai", model="small", base_url=urls, capacity=8, request_timeout_s=5.0)
    assert isinstance(pool, EnginePool)
    assert [entry["engine"] for entry in pool.status()] == ["http://a:1/v1", "http://b:2"]
    assert [entry["capacity"] for entry in pool.status()] == [8, 8]
    with pytest.raises(ConfigError, match="no option colour"):
        make_engine("openai", model="small", base_url=urls, colour=1)
    with pytest.raises(ConfigError, match="no address"):
        make_engine("openai", model="small", base_url=["http://a:port", "http://b"])


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no engine is called 'vlm'.*vllm"):
        make_engine("vlm", model="m")
    with pytest.raises(ConfigError, match="needs a model"):
        make_engine("vllm")
    with pytest.raises(ConfigError, match=r"no option max_len.*max_model_len"):
        make_engine("vllm", model="m", max_len=3)
    with pytest.raises(ConfigError, match="base_url"):
        make_engine("openai", model="m")


def test_a_scripted_engine_loads_no_model_library() -> None:
    code = (
        "import sys; from rollout_server.engines.factory import make_engine; make_engine('expert'); "
        "print([m for m in ('torch', 'vllm', 'transformers', 'tokenizers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
