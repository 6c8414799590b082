"""Fetching over real HTTP: a small server that knows ranges, breaks connections and changes its files when told to."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from envs.alfworld.family import AlfworldFamily
from envs.alfworld.fetch import ARCHIVES, Archive, FetchProgress, fetch_alfworld
from envs.alfworld.generator import generate
from envs.alfworld.index import GameIndex
from envs.errors import TaskDataError, TransportError
from envs.registry import ALFWORLD

TRIAL = "json_2.1.1/valid_seen/pick_and_place_simple-Mug-None-Desk-301/trial_{}/"


class Server(ThreadingHTTPServer):
    """Files by name, and what to do wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []  # bytes after which the next answers break off
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        start = int(match[1]) if match and self.server.ranges and self.headers.get("If-Range", tag) == tag else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        body = content[start:]
        if self.server.break_after:
            body = body[: self.server.break_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def archives(server: Server) -> list[Archive]:
    """Two games, told by two archives like the official ones."""
    games = [generate(seed, difficulty="easy", type="pick_and_place_simple") for seed in range(2)]
    server.files = {
        "trajectories.zip": make_zip(
            {TRIAL.format(n) + "traj_data.json": json.dumps(game.traj).encode() for n, game in enumerate(games)}
        ),
        "games.zip": make_zip({TRIAL.format(n) + "game.tw-pddl": game.to_bytes() for n, game in enumerate(games)}),
    }
    return [Archive(name, server.url(name)) for name in server.files]


def test_the_official_archives_are_those_of_alfworld() -> None:
    assert [archive.name for archive in ARCHIVES] == ["json_2.1.1_json.zip", "json_2.1.2_tw-pddl.zip"]
    for archive in ARCHIVES:
        assert archive.url.startswith("https://github.com/alfworld/alfworld/releases/download/")
        assert archive.url.endswith(f"/{archive.name}")


def test_fetched_games_can_be_played(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    seen: list[FetchProgress] = []
    report = fetch_alfworld(tmp_path / "data", archives=archives, progress=seen.append)
    assert report.data_dir == tmp_path / "data"
    assert report.num_games == {"valid_seen": 2}
    assert report.resumed_bytes == 0
    for archive, fetched in zip(archives, report.archives, strict=True):
        content = server.files[archive.name]
        assert (fetched.size_bytes, fetched.num_files) == (len(content), 2)
        assert fetched.sha256 == hashlib.sha256(content).hexdigest()
        assert not fetched.sha256_known
        ends = [at for at in seen if at.archive == archive.name and at.done == at.total]
        assert [at.phase for at in ends] == ["download", "extract"]
    assert seen[-1] == FetchProgress("valid_seen", "index", 2, 2)
    assert report.index is not None
    assert report.index.is_file()
    manifest = json.loads(report.manifest.read_text())
    assert [row["sha256"] for row in manifest["archives"]] == [fetched.sha256 for fetched in report.archives]
    assert sorted(path.name for path in report.data_dir.iterdir()) == ["envloop-manifest.json", "json_2.1.1"]
    family = AlfworldFamily(ALFWORLD, data_dir=report.data_dir)
    env = family.make()
    env.reset(family.tasks("valid_seen").tasks[0])
    reward = 0.0
    while (action := env.expert_action()) is not None:
        reward = env.step(action).reward
    assert reward == 1.0
    family.close()


def test_fetched_games_are_indexed(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    """Also over an index of before, when only the trajectories were there."""
    fetch = {"dest": tmp_path / "data", "index_dir": tmp_path / "index"}
    with pytest.raises(TaskDataError, match="no game that can be played"):
        fetch_alfworld(**fetch, archives=archives[:1])
    report = fetch_alfworld(**fetch, archives=archives)
    assert report.index == next((tmp_path / "index").glob("*.sqlite3"))
    index = GameIndex(report.data_dir / "json_2.1.1", index_dir=tmp_path / "index")
    _, rows = index.load("valid_seen")
    assert len(rows) == 2
    assert all(index.packed(row.content_hash) for row in rows.values())
    index.close()


def test_what_is_there_is_not_fetched_again(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    first = fetch_alfworld(tmp_path, archives=archives)
    asked = len(server.requests)
    second = fetch_alfworld(tmp_path, archives=archives)
    assert len(server.requests) == asked
    assert second == first


def test_a_broken_connection_is_resumed_at_once(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    server.break_after = [200, 300]
    report = fetch_alfworld(tmp_path, archives=archives, pause_s=0)
    assert report.num_games == {"valid_seen": 2}
    assert [wanted for _, wanted in server.requests] == [None, "bytes=200-", "bytes=500-", None]


def test_a_broken_download_is_resumed_by_the_next_call(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    server.break_after = [200]
    with pytest.raises(TransportError) as caught:
        fetch_alfworld(tmp_path, archives=archives, attempts=1)
    assert "200 bytes" in caught.value.hint
    report = fetch_alfworld(tmp_path, archives=archives, attempts=1)
    assert report.resumed_bytes == 200
    assert server.requests[1] == ("/trajectories.zip", "bytes=200-")
    assert report.archives[0].sha256 == hashlib.sha256(server.files["trajectories.zip"]).hexdigest()


def test_an_archive_that_changed_meanwhile_begins_anew(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    server.break_after = [200]
    with pytest.raises(TransportError):
        fetch_alfworld(tmp_path, archives=archives, attempts=1)
    server.files["trajectories.zip"] = make_zip(
        {TRIAL.format(n) + "traj_data.json": json.dumps({"other": "x" * 500}).encode() for n in range(2)}
    )
    report = fetch_alfworld(tmp_path, archives=archives, attempts=1)
    assert report.archives[0].sha256 == hashlib.sha256(server.files["trajectories.zip"]).hexdigest()


def test_a_server_without_ranges_is_read_from_the_start(
    server: Server, archives: list[Archive], tmp_path: Path
) -> None:
    server.ranges = False
    server.break_after = [200]
    report = fetch_alfworld(tmp_path, archives=archives, pause_s=0)
    assert report.archives[0].size_bytes == len(server.files["trajectories.zip"])


def test_a_finished_part_needs_no_more_bytes(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    part = tmp_path / ".downloads" / "trajectories.zip.part"
    part.parent.mkdir()
    part.write_bytes(server.files["trajectories.zip"])
    report = fetch_alfworld(tmp_path, archives=archives)
    assert report.num_games == {"valid_seen": 2}


def test_a_part_that_is_too_long_is_thrown_away(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    part = tmp_path / ".downloads" / "trajectories.zip.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 100_000)
    report = fetch_alfworld(tmp_path, archives=archives, pause_s=0)
    assert report.archives[0].size_bytes == len(server.files["trajectories.zip"])


def test_a_missing_archive_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="404"):
        fetch_alfworld(tmp_path, archives=[Archive("absent.zip", server.url("absent.zip"))], pause_s=0)
    assert len(server.requests) == 1


def test_a_known_hash_is_checked(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    right = hashlib.sha256(server.files["games.zip"]).hexdigest()
    good = [archives[0], Archive("games.zip", archives[1].url, sha256=right)]
    assert fetch_alfworld(tmp_path / "good", archives=good).archives[1].sha256_known
    bad = [archives[0], Archive("games.zip", archives[1].url, sha256="0" * 64)]
    with pytest.raises(TaskDataError, match=right):
        fetch_alfworld(tmp_path / "bad", archives=bad)
    assert not (tmp_path / "bad" / ".downloads" / "games.zip.part").exists()


def test_a_damaged_archive_is_refused(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    content = bytearray(server.files["games.zip"])
    content[len(content) // 3] ^= 0xFF  # inside the first file's data: its CRC no longer fits
    server.files["games.zip"] = bytes(content)
    with pytest.raises(TaskDataError, match="not a sound zip"):
        fetch_alfworld(tmp_path, archives=archives)
    server.files["games.zip"] = b"<html>no zip at all</html>"
    with pytest.raises(TaskDataError, match="not a sound zip"):
        fetch_alfworld(tmp_path, archives=archives)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside.txt", "a/../../outside.txt", "a\\..\\outside.txt"])
def test_an_archive_cannot_write_outside_its_folder(server: Server, tmp_path: Path, name: str) -> None:
    server.files["evil.zip"] = make_zip({"fine.txt": b"1", name: b"2"})
    with pytest.raises(TaskDataError, match="outside its folder"):
        fetch_alfworld(tmp_path / "data", archives=[Archive("evil.zip", server.url("evil.zip"))])
    assert [path.name for path in tmp_path.rglob("*.txt")] == []


def test_archives_without_games_are_an_error(server: Server, archives: list[Archive], tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match="no game that can be played"):
        fetch_alfworld(tmp_path, archives=archives[:1])


def test_a_foreign_manifest_is_named(tmp_path: Path, archives: list[Archive]) -> None:
    (tmp_path / "envloop-manifest.json").write_text("[]")
    with pytest.raises(TaskDataError, match=r"envloop-manifest\.json"):
        fetch_alfworld(tmp_path, archives=archives)
