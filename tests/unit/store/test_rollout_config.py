"""Settings come from the file, the environment and arguments, the last wins; secrets are not shown."""

from __future__ import annotations

import os

import pytest

from envs.errors import ConfigError
from rollout_server.config import RolloutServerSettings, default_store_url

load = RolloutServerSettings.load


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in [n for n in os.environ if n.startswith("ENVLOOP_")]:
        monkeypatch.delenv(name)


def test_the_last_source_wins(tmp_path, monkeypatch):
    path = tmp_path / "rollout.toml"
    path.write_text('port = 1000\nengine = "vllm"\nmodel = "a"\n[engine_options]\nmax_lora_rank = 64\n')
    monkeypatch.setenv("ENVLOOP_ROLLOUT_MODEL", "b")
    settings = load(path, port=3000, host=None)
    assert (settings.port, settings.engine, settings.model, settings.host) == (3000, "vllm", "b", "127.0.0.1")
    assert settings.engine_options == {"max_lora_rank": 64}


def test_plain_names_are_read_and_ours_win(monkeypatch):
    monkeypatch.setenv("ENVLOOP_TOKEN", "shared token")
    monkeypatch.setenv("ENVLOOP_STORE_URL", "sqlite:///here.db")
    assert load().token.get_secret_value() == "shared token"
    assert default_store_url() == "sqlite:///here.db"
    monkeypatch.setenv("ENVLOOP_ROLLOUT_TOKEN", "own token")
    assert load().token.get_secret_value() == "own token"


def test_the_env_servers_token_is_ours_unless_named():
    assert load(token="shared token").open_env_token() == "shared token"
    assert load(token="shared token", env_token="expert token").open_env_token() == "expert token"
    assert load().open_env_token() is None


def test_the_default_store_is_a_file_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert load().open_store_url() == f"sqlite:///{tmp_path / 'envloop' / 'episodes.db'}"


def test_secrets_are_not_shown(monkeypatch):
    settings = load(token="hunter22", store_url="mysql://u:hunter22@h/d", env_token="hunter22")
    assert "hunter22" not in repr(settings)
    with pytest.raises(ConfigError) as caught:
        load(token="short")
    assert "token" in str(caught.value)
    assert "short" not in str(caught.value).replace("should", "")


@pytest.mark.parametrize(
    ("content", "said"), [("port = ", "not TOML"), ("colour = 1", "colour"), ("port = 70000", "port"), (None, "read")]
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path, content, said):
    path = tmp_path / "rollout.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"rollout\.toml.*{said}"):
        load(path)


def test_an_open_door_is_refused():
    with pytest.raises(ConfigError, match="without a token"):
        load(host="::").refuse_open_door()
    load(host="::", token="long enough").refuse_open_door()
    load(host="127.0.0.1").refuse_open_door()


def test_servers_are_named_by_a_list_and_only_for_the_engine_that_has_them(monkeypatch):
    assert load(engine_options={"dtype": "auto"}).all_engine_options() == {"dtype": "auto"}
    one = load(engine="openai", base_urls=("http://a",), engine_options={"retries": 1})
    assert one.all_engine_options() == {"base_url": "http://a", "retries": 1}
    monkeypatch.setenv("ENVLOOP_ROLLOUT_BASE_URLS", '["http://a", "http://b"]')
    many = load(engine="openai", engine_capacity=8)
    assert many.all_engine_options() == {"base_url": ("http://a", "http://b"), "capacity": 8}
    with pytest.raises(ConfigError, match="the engine is vllm"):
        load(engine="vllm").all_engine_options()
