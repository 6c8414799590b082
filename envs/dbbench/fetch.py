"""Downloading AgentBench's DB Bench files from its repository, at commits that are pinned here.

A broken download resumes where it stopped. The files are small; what cannot be checked against a known SHA-256 is
checked by what it holds, its SHA-256 is recorded, and a later download must have the same.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from envs.dbbench.task_standard import is_standard
from envs.dbbench.tasks import FETCH_MANIFEST, TaskFile, default_data_dir
from envs.errors import TaskDataError, TransportError
from envs.types import SplitRole

__all__ = [
    "SPLIT_FILES",
    "FetchReport",
    "FetchedSplit",
    "SplitFile",
    "fetch_dbbench",
]

_RAW = "https://raw.githubusercontent.com/THUDM/AgentBench"
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class SplitFile:
    """A file to fetch. ``sha256`` (hex) is None where it is not known. ``standard``: it must hold that split."""

    name: str
    url: str
    sha256: str | None = None
    standard: bool = False


SPLIT_FILES = (
    SplitFile(
        "standard.jsonl",
        f"{_RAW}/c2bd5f7b604ec725aca25412f31d005dc42281dd/data/dbbench/standard.jsonl",
        standard=True,
    ),
    SplitFile(
        "dev.jsonl",
        f"{_RAW}/f36853f68ace51dd3168478f975ec09be22d96e3/data/dbbench/dev.jsonl",
        sha256="eb941c58a7a5651357b19e46aa05070f6cd5a7d83ce70cefd24aa3581e1e1130",
    ),
)


@dataclass(frozen=True, slots=True)
class FetchedSplit:
    """What was fetched. ``sha256_known``: whether the hash was checked against a known one, or only recorded."""

    name: str
    url: str
    size_bytes: int
    sha256: str
    sha256_known: bool
    num_tasks: int


@dataclass(frozen=True, slots=True)
class FetchReport:
    """Where the files are (found there by default, or give it as ``DBBENCH_DATA``), and what was fetched.

    ``resumed_bytes`` were there already from an earlier, broken download.
    """

    data_dir: Path
    manifest: Path
    files: tuple[FetchedSplit, ...]
    resumed_bytes: int


def fetch_dbbench(
    dest: str | Path | None = None,
    *,
    files: Sequence[SplitFile] = SPLIT_FILES,
    progress: Callable[[str, int, int | None], None] | None = None,
    client: httpx.Client | None = None,
    attempts: int = 5,
    pause_s: float = 2.0,
) -> FetchReport:
    """Download the files into ``dest`` (default: ``default_data_dir()``).

    What is there already and has its recorded hash is not fetched again. ``progress`` is told a file's name, its bytes
    so far and in all (None where unknown). ``attempts`` tries for each file, ``pause_s`` apart, each resuming the last.
    Raises TransportError (run it again to resume) and TaskDataError (a file is not what it should be; it is deleted).
    """
    root = Path(dest).expanduser() if dest is not None else default_data_dir()
    root.mkdir(parents=True, exist_ok=True)
    manifest = root / FETCH_MANIFEST
    done = _read_manifest(manifest)
    report = progress or (lambda *_: None)
    resumed = 0
    own = client is None
    client = client or httpx.Client(follow_redirects=True, timeout=httpx.Timeout(60.0))
    try:
        for file in files:
            before = done.get(file.name)
            if before is not None and before.url == file.url and _intact(root / file.name, before):
                continue
            part = root / f"{file.name}.part"
            resumed += part.stat().st_size if part.exists() else 0
            _download(client, file, part, report, attempts=attempts, pause_s=pause_s)
            recorded = before.sha256 if before is not None and before.url == file.url else None
            done[file.name] = _checked(file, part, recorded)
            part.replace(root / file.name)
            _forget(part)
            _write_manifest(manifest, done)
    finally:
        if own:
            client.close()
    return FetchReport(root, manifest, tuple(done[file.name] for file in files), resumed)


def _intact(path: Path, fetched: FetchedSplit) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == fetched.sha256


def _download(
    client: httpx.Client,
    file: SplitFile,
    part: Path,
    report: Callable[[str, int, int | None], None],
    *,
    attempts: int,
    pause_s: float,
) -> None:
    """The file's bytes in ``part``, as many as the server says there are. Raises TransportError."""
    problem = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause_s)
        try:
            if _download_once(client, file, part, report):
                return
            problem = "the connection ended early"
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            problem = str(error) or type(error).__name__
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403, 404, 410):
                break
    size = part.stat().st_size if part.exists() else 0
    raise TransportError(f"{file.url}: {problem}", hint=f"run it again: it resumes after {size} bytes in {part}")


def _download_once(
    client: httpx.Client, file: SplitFile, part: Path, report: Callable[[str, int, int | None], None]
) -> bool:
    """One request from where ``part`` ends; whether the file is complete now."""
    have = part.stat().st_size if part.exists() else 0
    tag_file = part.with_suffix(".etag")
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag_file.exists():
            headers["If-Range"] = tag_file.read_text(encoding="utf-8")  # a changed file begins anew
    with client.stream("GET", file.url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            if _total(response) == have:
                return True
            _forget(part)  # longer than the file: not a part of it
            return False
        response.raise_for_status()
        resumes = response.status_code == httpx.codes.PARTIAL_CONTENT
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            _forget(part)
            return False
        have = have if resumes else 0
        length = response.headers.get("Content-Length")
        total = _total(response) if resumes else int(length) if length else None
        tag = response.headers.get("ETag", "")
        if tag and not tag.startswith("W/"):  # a weak one must not be used for If-Range
            tag_file.write_text(tag, encoding="utf-8")
        with part.open("ab" if resumes else "wb") as out:
            report(file.name, have, total)
            for chunk in response.iter_raw():
                out.write(chunk)
                have += len(chunk)
                if have > _MAX_BYTES:
                    raise TaskDataError(
                        f"{file.url}: more than {_MAX_BYTES} bytes", hint="this is not AgentBench's file"
                    )
                report(file.name, have, total)
    return total is None or have == total


def _total(response: httpx.Response) -> int | None:
    """The N of ``Content-Range: bytes a-b/N``."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _checked(file: SplitFile, part: Path, recorded: str | None) -> FetchedSplit:
    """What has come, once it is known to be the file; otherwise it is deleted. Raises TaskDataError."""
    content = part.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    try:
        wanted = file.sha256 or recorded
        if wanted is not None and digest != wanted:
            raise TaskDataError(
                f"{file.url}: its SHA-256 is {digest}, but {wanted} was expected; the download was deleted",
                hint="fetch it again; if it stays so, the file has been changed",
            )
        tasks = TaskFile(file.name, part, SplitRole.EVALUATION).tasks
        if file.standard and not is_standard(tasks):
            raise TaskDataError(
                f"{file.url}: {len(tasks)} tasks that are not AgentBench's standard ones; the download was deleted",
                hint="fetch it again; if it stays so, the file has been changed",
            )
    except TaskDataError:
        _forget(part)
        raise
    return FetchedSplit(file.name, file.url, len(content), digest, file.sha256 is not None, len(tasks))


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)


def _read_manifest(path: Path) -> dict[str, FetchedSplit]:
    if not path.exists():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {row["name"]: FetchedSplit(**row) for row in rows}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        msg = f"{path}: not a manifest of envloop ({error})"
        raise TaskDataError(msg, hint="delete it and fetch again") from error


def _write_manifest(path: Path, done: dict[str, FetchedSplit]) -> None:
    note = "sha256_known false: no hash is known beforehand, so the one found here is recorded and must stay"
    text = json.dumps({"note": note, "files": [asdict(item) for item in done.values()]}, indent=2)
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
