"""Settings: where they come from, in which order, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.config import EnvServerSettings
from envs.errors import ConfigError
from envs.server_settings import is_loopback

NAMES = (
    "ENVLOOP_TOKEN",
    "ENVLOOP_EXPERT_TOKEN",
    "ALFWORLD_DATA",
    "DBBENCH_DATA",
    "DBBENCH_URL",
    "DBBENCH_SERVER_BINARY",
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_safe() -> None:
    settings = EnvServerSettings.load()
    assert is_loopback(settings.host)
    assert settings.token is None
    assert settings.envs == ("alfworld", "dbbench")
    assert settings.family_settings("alfworld") == {"engine": "native"}
    assert settings.family_settings("dbbench") == settings.family_settings("another") == {}


def test_order_of_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 1\nhost = "localhost"\nmax_episodes = 5\n[dbbench]\nurl = "mysql://f:f@file/"\n')
    monkeypatch.setenv("ENVLOOP_ENV_PORT", "2")
    monkeypatch.setenv("ENVLOOP_ENV_MAX_EPISODES", "6")
    monkeypatch.setenv("DBBENCH_URL", "mysql://v:v@variable/")
    monkeypatch.setenv("ENVLOOP_ENV_ENVS", "dbbench, alfworld")
    settings = EnvServerSettings.load(file, port=3, host=None)
    assert (settings.port, settings.max_episodes, settings.host) == (3, 6, "localhost")
    assert settings.family_settings("dbbench") == {"url": "mysql://v:v@variable/"}
    assert settings.envs == ("dbbench", "alfworld")


def test_plain_names_and_prefixed_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENVLOOP_TOKEN", "a-secret-token")
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    monkeypatch.setenv("DBBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("DBBENCH_URL", "")
    monkeypatch.setenv("ENVLOOP_ENV_DBBENCH__STATEMENT_TIMEOUT_S", "5")
    settings = EnvServerSettings.load()
    assert settings.token is not None
    assert settings.token.get_secret_value() == "a-secret-token"
    assert settings.family_settings("alfworld")["data_dir"] == tmp_path
    assert settings.family_settings("dbbench") == {"data_dir": tmp_path, "statement_timeout_s": 5.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 70000", "port: "),
        ("prot = 1", "prot: "),
        ("[dbbench]\ntimeout = 1", "dbbench.timeout: "),
        ('token = "short"', "token: "),
        ("port = ", "not TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        EnvServerSettings.load(file)
    assert str(file) in str(caught.value)
    assert said in str(caught.value)
    assert "short" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        EnvServerSettings.load(tmp_path / "none.toml")


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVLOOP_TOKEN", "a-secret-token")
    monkeypatch.setenv("DBBENCH_URL", "mysql://root:hidden@host/")
    settings = EnvServerSettings.load()
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "a-secret-token" not in text
        assert "hidden" not in text


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
