"""Fetching over real HTTP: a small server that knows ranges, breaks connections and changes its files when told to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from envs import cli
from envs.dbbench import fetch
from envs.dbbench.fetch import SPLIT_FILES, SplitFile, fetch_dbbench
from envs.dbbench.task_standard import STANDARD_TYPES
from envs.dbbench.tasks import default_data_dir, fetched_data_dir, find_task_files
from envs.errors import TaskDataError, TransportError


def row(kind: str, number: int) -> str:
    table = {"table_name": "t", "table_info": {"columns": [{"name": "a"}], "rows": [[str(number)]]}}
    gold = (
        {"label": ["UPDATE t SET a = 1"], "answer_md5": "0" * 32} if kind in ("INSERT", "UPDATE") else {"label": ["1"]}
    )
    return json.dumps({"description": "?", "type": [kind], "table": table} | gold) + "\n"


STANDARD = "".join(row(kind, i) for kind, count in STANDARD_TYPES.items() for i in range(count)).encode()
DEV = "".join(row("counting", i) for i in range(3)).encode()


class Server(ThreadingHTTPServer):
    """Files by name, and after how many bytes the next answers break off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"standard.jsonl": STANDARD, "dev.jsonl": DEV}
        self.break_after: list[int] = []
        self.requests: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path.lstrip("/"), wanted))
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        start = int(match[1]) if match and self.headers.get("If-Range", tag) == tag else 0
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


@pytest.fixture
def files(server: Server) -> list[SplitFile]:
    base = f"http://127.0.0.1:{server.server_address[1]}"
    return [
        SplitFile("standard.jsonl", f"{base}/standard.jsonl", standard=True),
        SplitFile("dev.jsonl", f"{base}/dev.jsonl", sha256=hashlib.sha256(DEV).hexdigest()),
    ]


def test_the_files_are_agentbenchs_at_pinned_commits(shared_dir):
    for file in SPLIT_FILES:
        pattern = rf"https://raw\.githubusercontent\.com/THUDM/AgentBench/[0-9a-f]{{40}}/data/dbbench/{file.name}"
        assert re.fullmatch(pattern, file.url)
    standard, dev = SPLIT_FILES
    assert (standard.name, standard.standard, standard.sha256) == ("standard.jsonl", True, None)
    theirs = (shared_dir / "data/agentbench/dbbench/dev.jsonl").read_bytes()
    assert dev.sha256 == hashlib.sha256(theirs).hexdigest()


def test_fetched_files_are_splits_and_their_hashes_are_checked_or_recorded(server, files, tmp_path):
    seen: list[tuple[str, int, int | None]] = []
    report = fetch_dbbench(tmp_path / "data", files=files, progress=lambda *now: seen.append(now))
    assert (report.data_dir, report.resumed_bytes) == (tmp_path / "data", 0)
    assert [(f.name, f.num_tasks, f.sha256_known) for f in report.files] == [
        ("standard.jsonl", 300, False),
        ("dev.jsonl", 3, True),
    ]
    assert report.files[0].sha256 == hashlib.sha256(STANDARD).hexdigest()
    assert ("standard.jsonl", len(STANDARD), len(STANDARD)) in seen
    assert {file.name: len(file.tasks) for file in find_task_files(report.data_dir)} == {"standard": 300, "dev": 3}
    manifest = json.loads(report.manifest.read_text())
    assert [item["sha256"] for item in manifest["files"]] == [file.sha256 for file in report.files]
    assert sorted(p.name for p in report.data_dir.iterdir()) == ["dev.jsonl", "envloop-manifest.json", "standard.jsonl"]


def test_what_is_there_is_not_fetched_again_unless_it_was_changed(server, files, tmp_path):
    fetch_dbbench(tmp_path, files=files)
    fetch_dbbench(tmp_path, files=files)
    assert len(server.requests) == 2
    (tmp_path / "dev.jsonl").write_bytes(DEV[:10])
    fetch_dbbench(tmp_path, files=files)
    assert [name for name, _ in server.requests] == ["standard.jsonl", "dev.jsonl", "dev.jsonl"]
    assert (tmp_path / "dev.jsonl").read_bytes() == DEV


def test_a_broken_download_resumes(server, files, tmp_path):
    server.break_after = [1000, 5000]
    report = fetch_dbbench(tmp_path, files=files, pause_s=0)
    assert (tmp_path / "standard.jsonl").read_bytes() == STANDARD
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-", "bytes=6000-", None]
    assert report.resumed_bytes == 0


def test_a_later_call_resumes_too(server, files, tmp_path):
    server.break_after = [1000]
    with pytest.raises(TransportError, match="resumes after 1000 bytes"):
        fetch_dbbench(tmp_path, files=files, attempts=1)
    report = fetch_dbbench(tmp_path, files=files)
    assert report.resumed_bytes == 1000
    assert server.requests[1] == ("standard.jsonl", "bytes=1000-")
    assert (tmp_path / "standard.jsonl").read_bytes() == STANDARD


def test_a_file_that_changes_in_between_begins_anew(server, files, tmp_path):
    server.break_after = [1000]
    with pytest.raises(TransportError):
        fetch_dbbench(tmp_path, files=files, attempts=1)
    lines = STANDARD.splitlines(keepends=True)
    server.files["standard.jsonl"] = b"".join(reversed(lines))
    fetch_dbbench(tmp_path, files=files)
    assert (tmp_path / "standard.jsonl").read_bytes() == b"".join(reversed(lines))


def test_a_missing_file_is_not_asked_for_again_and_again(server, files, tmp_path):
    server.files.clear()
    with pytest.raises(TransportError, match="404"):
        fetch_dbbench(tmp_path, files=files)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (STANDARD.splitlines(keepends=True)[0], "not AgentBench's standard ones"),
        (STANDARD + b"{}\n", ":301: "),
        (b"<html>", "not JSON"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_not_the_standard_split_is_refused_and_deleted(server, files, tmp_path, content, reason):
    server.files["standard.jsonl"] = content
    with pytest.raises(TaskDataError, match=reason):
        fetch_dbbench(tmp_path, files=files)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_hash_is_refused_and_so_is_another_than_the_recorded(server, files, tmp_path):
    fetch_dbbench(tmp_path, files=files)
    lines = STANDARD.splitlines(keepends=True)
    server.files["standard.jsonl"] = b"".join(reversed(lines))  # of the right make-up, but not what it was
    (tmp_path / "standard.jsonl").unlink()
    with pytest.raises(TaskDataError, match=hashlib.sha256(STANDARD).hexdigest()):
        fetch_dbbench(tmp_path, files=files)
    server.files["dev.jsonl"] = DEV + b"\n"
    with pytest.raises(TaskDataError, match="SHA-256"):
        fetch_dbbench(tmp_path / "other", files=files[1:])
    assert not (tmp_path / "other" / "dev.jsonl").exists()


def test_more_than_the_files_can_be_is_not_taken(server, files, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_MAX_BYTES", 1000)
    with pytest.raises(TaskDataError, match="more than 1000 bytes"):
        fetch_dbbench(tmp_path, files=files)


def test_a_broken_manifest_is_told(files, tmp_path):
    (tmp_path / "envloop-manifest.json").write_text("{}")
    with pytest.raises(TaskDataError, match="not a manifest"):
        fetch_dbbench(tmp_path, files=files)


def test_what_was_fetched_is_found_without_a_setting(server, files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == Path(tmp_path / "envloop" / "dbbench")
    assert fetched_data_dir() is None
    monkeypatch.setattr(fetch_dbbench, "__kwdefaults__", fetch_dbbench.__kwdefaults__ | {"files": tuple(files)})
    assert cli.main(["env", "fetch", "dbbench"]) == 0
    said = capsys.readouterr().out
    assert "standard.jsonl: 300 tasks" in said
    assert "(recorded)" in said
    assert "(checked)" in said
    assert fetched_data_dir() == default_data_dir()
    assert cli.main(["env", "fetch", "dbbench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_tasks"] == {"standard.jsonl": 300, "dev.jsonl": 3}
