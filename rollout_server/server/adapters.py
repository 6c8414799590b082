"""Adapters that come by upload: a plain tar with PEFT's two files, unpacked where nothing else can be written."""

from __future__ import annotations

import asyncio
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import IO

from envs.errors import InvalidOption, PayloadTooLarge

__all__ = ["ADAPTER_FILES", "AdapterFolder", "pack_adapter"]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_CHUNK = 1 << 20


def pack_adapter(folder: Path, target: IO[bytes]) -> None:
    """Write the folder's two files as the tar that an upload takes. Raises InvalidOption where one is missing."""
    with tarfile.open(fileobj=target, mode="w:") as archive:
        for name in ADAPTER_FILES:
            if not (folder / name).is_file():
                raise InvalidOption(f"{folder} has no {name}", hint="save the adapter with PEFT's save_pretrained")
            archive.add(folder / name, arcname=name, recursive=False)


class AdapterFolder:
    """A temporary folder of uploaded adapters, one sub-folder each, gone when it is closed."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._root = Path(tempfile.mkdtemp(prefix="envloop-adapters-"))
        self._folders: dict[str, Path] = {}

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

    async def keep(self, name: str, folder: Path, known: Collection[str]) -> None:
        """Note which version a folder belongs to, and remove the folders of versions that are not known any more."""
        self._folders[name] = folder
        for old in self._folders.keys() - set(known):
            await asyncio.to_thread(shutil.rmtree, self._folders.pop(old))

    async def drop(self, folder: Path) -> None:
        """Remove an upload that did not become a version."""
        await asyncio.to_thread(shutil.rmtree, folder)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._root, ignore_errors=True)


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
