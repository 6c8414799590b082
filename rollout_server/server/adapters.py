"""Adapters that come by upload: a plain tar with PEFT's two files, unpacked where nothing else can be written."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from envs.errors import ConfigError, InvalidOption, PayloadTooLarge
from rollout_server.types import PolicyVersion

__all__ = ["ADAPTER_FILES", "AdapterFolder", "Kept", "pack_adapter"]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_LIST = "policies.json"
_CHUNK = 1 << 20


def pack_adapter(folder: Path, target: IO[bytes]) -> None:
    """Write the folder's two files as the tar that an upload takes. Raises InvalidOption where one is missing."""
    with tarfile.open(fileobj=target, mode="w:") as archive:
        for name in ADAPTER_FILES:
            if not (folder / name).is_file():
                raise InvalidOption(f"{folder} has no {name}", hint="save the adapter with PEFT's save_pretrained")
            archive.add(folder / name, arcname=name, recursive=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """An uploaded adapter of before a restart, and the version that it was."""

    name: str
    number: int
    folder: Path


class AdapterFolder:
    """Uploaded adapters, one sub-folder each.

    With ``root`` they outlive the server: ``kept`` has those of the last one, oldest first, and what was never
    published is removed. Without, the folder is a temporary one that is gone when it is closed. Raises ConfigError
    where another server uses ``root``, or its list cannot be read.
    """

    def __init__(self, *, limit: int, root: Path | None = None) -> None:
        self._limit = limit
        self._versions: dict[str, Kept] = {}
        self._lasting = root is not None
        self._root = Path(tempfile.mkdtemp(prefix="envloop-adapters-")) if root is None else root.absolute()
        self._lock: IO[bytes] | None = None
        self.kept: tuple[Kept, ...] = ()
        if self._lasting:
            self._lock = _locked(self._root)
            try:
                self.kept = self._read()
                self._versions = {kept.name: kept for kept in self.kept}
            except BaseException:
                self._lock.close()
                raise
            for entry in self._root.iterdir():
                if entry.is_dir() and entry not in {kept.folder for kept in self.kept}:
                    shutil.rmtree(entry)

    async def receive(self, chunks: AsyncIterator[bytes]) -> Path:
        """Unpack an upload into a new folder. Raises: PayloadTooLarge; InvalidOption for a bad archive."""
        folder = Path(tempfile.mkdtemp(dir=self._root))
        try:
            with tempfile.TemporaryFile(dir=self._root) as archive:
                size = 0
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self._limit:
                        raise PayloadTooLarge(
                            f"the adapter is larger than {self._limit} bytes", hint="raise the server's adapter_limit"
                        )
                    await asyncio.to_thread(archive.write, chunk)
                archive.seek(0)
                await asyncio.to_thread(_unpack, archive, folder, self._limit)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder)
            raise
        return folder

    async def keep(self, version: PolicyVersion, folder: Path, known: Collection[str]) -> None:
        """Note which version a folder belongs to, and remove the folders of versions that are not known any more."""
        self._versions[version.name] = Kept(version.name, version.number, folder)
        await self.forget(known)

    async def forget(self, known: Collection[str]) -> None:
        """Remove the folders of versions that are not ``known``; the list of the others is written first."""
        old = [self._versions.pop(name) for name in self._versions.keys() - set(known)]
        if self._lasting:
            await asyncio.to_thread(self._write)
        for version in old:
            await asyncio.to_thread(shutil.rmtree, version.folder)

    async def drop(self, folder: Path) -> None:
        """Remove an upload that did not become a version."""
        await asyncio.to_thread(shutil.rmtree, folder)

    def close(self) -> None:
        """Remove everything that is not to last."""
        if self._lock is not None:
            self._lock.close()
        if not self._lasting:
            shutil.rmtree(self._root, ignore_errors=True)

    def _write(self) -> None:
        """The list appears whole or not at all."""
        rows = [
            {"name": v.name, "number": v.number, "folder": v.folder.name}
            for v in sorted(self._versions.values(), key=lambda version: version.number)
        ]
        part = self._root / f"{_LIST}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump({"versions": rows}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._root / _LIST)

    def _read(self) -> tuple[Kept, ...]:
        path = self._root / _LIST
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["versions"]
            return tuple(Kept(row["name"], int(row["number"]), self._root / Path(row["folder"]).name) for row in rows)
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no list of adapters: {error}", hint="move the folder away") from error


def _locked(root: Path) -> IO[bytes]:
    """Hold the folder; the kernel frees it with the process."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = (root / ".lock").open("wb")
    except OSError as error:
        raise ConfigError(f"the adapter folder {root} cannot be used: {error}", hint="set adapter_dir") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise ConfigError(
            f"another server keeps its adapters in {root}", hint="give each server its own adapter_dir"
        ) from error
    return handle


def _unpack(archive: IO[bytes], folder: Path, limit: int) -> None:
    """Write the two named files and nothing else; the archive's own paths, links and modes are never followed.

    A sparse file, which may be far larger than the archive, is refused; ``limit`` bounds the two together all the same.
    """
    found: set[str] = set()
    left = limit
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isdir() and name in ("", "."):
                    continue
                if name not in ADAPTER_FILES or not member.isreg() or member.issparse() or name in found:
                    raise InvalidOption(
                        f"the archive holds {member.name[:100]!r}",
                        hint=f"only {' and '.join(ADAPTER_FILES)}, once each, not sparse",
                    )
                left -= member.size
                if left < 0:
                    raise PayloadTooLarge(
                        f"the adapter's files are larger than {limit} bytes", hint="raise the server's adapter_limit"
                    )
                source = tar.extractfile(member)
                assert source is not None, "a regular file has content"
                with (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
                found.add(name)
    except tarfile.TarError as error:
        raise InvalidOption(f"the body is no plain tar archive: {error}", hint="not compressed: tar -cf") from error
    missing = [name for name in ADAPTER_FILES if name not in found]
    if missing:
        raise InvalidOption(f"the archive has no {' and no '.join(missing)}", hint="send both files")
