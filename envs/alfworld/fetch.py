"""Downloading ALFWorld's official games: the archives that alfworld's own ``alfworld-download`` names.

A broken download resumes where it stopped. Sizes are checked against the server's, every file in an archive against its
CRC, and an archive against its SHA-256 where that is known; where it is not, the manifest records what was found.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import httpx

from envs.alfworld.lists import OFFICIAL_SPLITS
from envs.alfworld.tasks import Tasks, default_data_dir
from envs.errors import TaskDataError, TransportError
from envs.registry import ALFWORLD

__all__ = [
    "ARCHIVES",
    "Archive",
    "FetchProgress",
    "FetchReport",
    "FetchedArchive",
    "fetch_alfworld",
]

_RELEASES = "https://github.com/alfworld/alfworld/releases/download"
_MANIFEST = "envloop-manifest.json"
_DOWNLOADS = ".downloads"


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip to fetch. ``sha256`` (hex) is None where its publisher names none."""

    name: str
    url: str
    sha256: str | None = None


# traj_data.json of every trial, and the game files. alfworld publishes no hashes for them.
ARCHIVES = (
    Archive("json_2.1.1_json.zip", f"{_RELEASES}/0.2.2/json_2.1.1_json.zip"),
    Archive("json_2.1.2_tw-pddl.zip", f"{_RELEASES}/0.4.0/json_2.1.2_tw-pddl.zip"),
)


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far an archive is: bytes while downloading, files while extracting; ``total`` is None where unknown. Then how
    far the index is: games of the split that ``archive`` names.
    """

    archive: str
    phase: Literal["download", "extract", "index"]
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class FetchedArchive:
    """What was fetched. ``sha256_known``: whether the hash was checked against a published one, or only recorded."""

    name: str
    url: str
    size_bytes: int
    sha256: str
    sha256_known: bool
    num_files: int


@dataclass(frozen=True, slots=True)
class FetchReport:
    """Where the games are (give it as ``ALFWORLD_DATA``), what was fetched, how many games of each split can be played.

    ``index`` is the file that lists them, None where it could not be written. ``resumed_bytes`` were there already from
    an earlier, broken download.
    """

    data_dir: Path
    manifest: Path
    archives: tuple[FetchedArchive, ...]
    num_games: dict[str, int]
    index: Path | None
    resumed_bytes: int


def fetch_alfworld(
    dest: str | Path | None = None,
    *,
    archives: Sequence[Archive] = ARCHIVES,
    progress: Callable[[FetchProgress], None] | None = None,
    client: httpx.Client | None = None,
    attempts: int = 5,
    pause_s: float = 2.0,
    index_dir: str | Path | None = None,
) -> FetchReport:
    """Download and unpack the official games into ``dest`` (default: ``default_data_dir()``), and index them.

    What an earlier call has finished is not fetched again. ``attempts`` tries for each archive, ``pause_s`` apart, each
    resuming the last. Raises TransportError (run it again to resume) and TaskDataError (an archive is broken or holds
    no games).
    """
    root = Path(dest).expanduser() if dest is not None else default_data_dir()
    downloads = root / _DOWNLOADS
    downloads.mkdir(parents=True, exist_ok=True)
    manifest = root / _MANIFEST
    done = _read_manifest(manifest)
    report = progress or (lambda _: None)
    resumed = 0
    own = client is None
    client = client or httpx.Client(follow_redirects=True, timeout=httpx.Timeout(60.0))
    try:
        for archive in archives:
            if archive.name in done and done[archive.name].url == archive.url:
                continue
            part = downloads / f"{archive.name}.part"
            resumed += part.stat().st_size if part.exists() else 0
            _download(client, archive, part, report, attempts=attempts, pause_s=pause_s)
            digest = _check_hash(archive, part)
            num_files = _extract(archive, part, root, report)
            done[archive.name] = FetchedArchive(
                archive.name, archive.url, part.stat().st_size, digest, archive.sha256 is not None, num_files
            )
            _write_manifest(manifest, done)
            _forget(part)
    finally:
        if own:
            client.close()
    shutil.rmtree(downloads)
    tasks = Tasks(ALFWORLD.name, ALFWORLD.task_types, root, index_dir=index_dir)
    try:
        files = tasks.build_index(lambda split, read, total: report(FetchProgress(split, "index", read, total)))
        index = tasks.index_path
    finally:
        tasks.close()
    num_games = {found.split: found.num_games for found in files if found.split in OFFICIAL_SPLITS and found.num_games}
    if not num_games:
        msg = f"{root}: the archives were unpacked, but hold no game that can be played"
        raise TaskDataError(msg, hint=f"delete {manifest} and fetch again, or report this with the manifest")
    return FetchReport(root, manifest, tuple(done[archive.name] for archive in archives), num_games, index, resumed)


def _download(
    client: httpx.Client,
    archive: Archive,
    part: Path,
    report: Callable[[FetchProgress], None],
    *,
    attempts: int,
    pause_s: float,
) -> None:
    """The archive's bytes in ``part``, as many as the server says there are. Raises TransportError."""
    problem = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause_s)
        try:
            if _download_once(client, archive, part, report):
                return
            problem = "the connection ended early"
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            problem = str(error) or type(error).__name__
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403, 404, 410):
                break
    size = part.stat().st_size if part.exists() else 0
    msg = f"{archive.url}: {problem}"
    raise TransportError(msg, hint=f"run it again: it resumes after {size} bytes in {part}")


def _download_once(client: httpx.Client, archive: Archive, part: Path, report: Callable[[FetchProgress], None]) -> bool:
    """One request from where ``part`` ends; whether the archive is complete now."""
    have = part.stat().st_size if part.exists() else 0
    tag_file = part.with_suffix(".etag")
    headers = {"Accept-Encoding": "identity"}
    if have:
        # The second header is what Azure, behind GitHub's releases, wants to see for a Range.
        headers |= {"Range": f"bytes={have}-", "x-ms-version": "2020-04-08"}
        if tag_file.exists():
            headers["If-Range"] = tag_file.read_text(encoding="utf-8")  # a changed archive begins anew
    with client.stream("GET", archive.url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            if _content_range_total(response) == have:
                return True
            _forget(part)  # longer than the archive: not a part of it
            return False
        response.raise_for_status()
        resumes = response.status_code == httpx.codes.PARTIAL_CONTENT
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            _forget(part)
            return False
        if not resumes:
            have = 0
        length = response.headers.get("Content-Length")
        total = _content_range_total(response) if resumes else int(length) if length else None
        tag = response.headers.get("ETag", "")
        if tag and not tag.startswith("W/"):  # a weak one must not be used for If-Range
            tag_file.write_text(tag, encoding="utf-8")
        with part.open("ab" if resumes else "wb") as file:
            report(FetchProgress(archive.name, "download", have, total))
            for chunk in response.iter_raw():  # as they come: gathered into larger ones, the last would be lost
                file.write(chunk)
                have += len(chunk)
                report(FetchProgress(archive.name, "download", have, total))
    return total is None or have == total


def _content_range_total(response: httpx.Response) -> int | None:
    """The N of ``Content-Range: bytes a-b/N``."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _check_hash(archive: Archive, part: Path) -> str:
    """The archive's SHA-256 (hex). Raises TaskDataError where it is not the published one."""
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if archive.sha256 is not None and digest != archive.sha256:
        _forget(part)
        msg = f"{archive.url}: its SHA-256 is {digest}, but {archive.sha256} was expected; the download was deleted"
        raise TaskDataError(msg, hint="fetch it again; if it stays so, the archive has been changed")
    return digest


def _extract(archive: Archive, part: Path, root: Path, report: Callable[[FetchProgress], None]) -> int:
    """Unpack, each file's CRC checked by reading it; the number of files. Raises TaskDataError."""
    try:
        with zipfile.ZipFile(part) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            for member in members:
                path = PurePosixPath(member.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                    msg = f"{archive.name}: it holds a file that would land outside its folder: {member.filename!r}"
                    raise TaskDataError(msg)
            for index, member in enumerate(members):
                target = root / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f"{target.name}.part")
                with opened.open(member) as source, temporary.open("wb") as file:
                    shutil.copyfileobj(source, file)
                temporary.replace(target)
                report(FetchProgress(archive.name, "extract", index + 1, len(members)))
    except (zipfile.BadZipFile, EOFError) as error:
        _forget(part)
        msg = f"{archive.name}: not a sound zip ({error}); the download was deleted"
        raise TaskDataError(msg, hint="fetch it again") from error
    return len(members)


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)


def _read_manifest(path: Path) -> dict[str, FetchedArchive]:
    if not path.exists():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["archives"]
        return {row["name"]: FetchedArchive(**row) for row in rows}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        msg = f"{path}: not a manifest of envloop ({error})"
        raise TaskDataError(msg, hint="delete it and fetch again") from error


def _write_manifest(path: Path, done: dict[str, FetchedArchive]) -> None:
    note = "sha256_known false: the publisher names no hash, so the one found here is recorded"
    text = json.dumps({"note": note, "archives": [asdict(item) for item in done.values()]}, indent=2)
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
