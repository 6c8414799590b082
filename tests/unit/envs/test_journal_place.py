"""Where the journal lies when nobody says."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from envs.config import EnvServerSettings
from envs.server.journal_place import _locked, kept_journal


def path_of(settings: EnvServerSettings) -> Path:
    assert settings.journal_url is not None
    return Path(settings.journal_url.get_secret_value().removeprefix("sqlite:///"))


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ENVLOOP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def test_a_port_has_a_file_of_its_own_that_others_cannot_read(folders: Path) -> None:
    with kept_journal(EnvServerSettings(port=8470)) as settings:
        path = path_of(settings)
    assert path == folders / "cache" / "journal" / "8470.sqlite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_named_one_is_left_alone(folders: Path) -> None:
    with kept_journal(EnvServerSettings(journal_url="sqlite:///elsewhere")) as settings:
        assert path_of(settings) == Path("elsewhere")
    assert list(folders.iterdir()) == []


def test_any_port_has_a_passing_one_and_what_killed_servers_left_is_removed(folders: Path) -> None:
    left, used, young = (folders / f"envloop-journal-{name}" for name in ("left", "used", "young"))
    for folder in (left, used, young):
        folder.mkdir()
        (folder / "journal.sqlite").touch()
        if folder is not young:
            os.utime(folder, (0, time.time() - 3600))
    with _locked(used, wait=False), kept_journal(EnvServerSettings(port=0)) as settings:
        path = path_of(settings)
        assert path.parent.parent == folders
        assert (left.exists(), used.exists(), young.exists()) == (False, True, True)
        with pytest.raises(OSError, match="unavailable"), _locked(path.parent, wait=False):
            pass
    assert not path.parent.exists()


def test_where_none_can_be_kept_it_says_so(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folders / "cache").write_text("in the way")
    with kept_journal(EnvServerSettings(port=8470)) as settings:
        assert path_of(settings).parent.parent == folders
    assert "episodes will not outlive this server" in caplog.text
