"""An uploaded adapter is two files in a folder of its own, whatever the archive says."""

from __future__ import annotations

import io
import tarfile

import pytest

from envs.errors import ConfigError, InvalidOption, PayloadTooLarge
from rollout_server.server.adapters import ADAPTER_FILES, AdapterFolder, Kept, _unpack, pack_adapter
from rollout_server.types import PolicyVersion

CONFIG, WEIGHTS = ADAPTER_FILES


@pytest.fixture
def folder():
    opened = AdapterFolder(limit=100_000)
    yield opened
    opened.close()


def member(name, content=b"x", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive(*members, mode="w:"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


async def chunks(data, size=700):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_what_was_packed_is_unpacked(folder, tmp_path):
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / WEIGHTS).write_bytes(b"weights" * 1000)
    (tmp_path / "notes.txt").write_text("not sent")
    out = io.BytesIO()
    pack_adapter(tmp_path, out)
    received = await folder.receive(chunks(out.getvalue()))
    assert {p.name: p.read_bytes() for p in received.iterdir()} == {CONFIG: b"{}", WEIGHTS: b"weights" * 1000}


async def test_names_with_a_leading_dot_and_the_folder_itself_are_read(folder):
    data = archive(member("./", b"", type=tarfile.DIRTYPE), member(f"./{CONFIG}"), member(f"./{WEIGHTS}"))
    assert len(list((await folder.receive(chunks(data))).iterdir())) == 2


@pytest.mark.parametrize(
    "bad",
    [
        member("../adapter_config.json"),
        member("/tmp/adapter_config.json"),
        member("sub/adapter_config.json"),
        member("pickle.bin"),
        member(CONFIG, b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member(CONFIG, b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        member(CONFIG, b"", type=tarfile.FIFOTYPE),
        member("sub", b"", type=tarfile.DIRTYPE),
        member(WEIGHTS),
    ],
    ids=lambda m: f"{m[0].name}-{m[0].type!r}" if isinstance(m, tuple) else None,
)
async def test_anything_else_in_the_archive_is_refused_and_leaves_nothing(folder, bad):
    with pytest.raises(InvalidOption, match="the archive holds"):
        await folder.receive(chunks(archive(member(WEIGHTS), bad)))
    assert list(folder._root.iterdir()) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.size": "100000000", "GNU.sparse.map": "0,0"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100000000"},
    ],
    ids=["0.1", "1.0"],
)
async def test_a_sparse_file_is_refused_before_its_holes_are_written(folder, monkeypatch, headers):
    written = []
    monkeypatch.setattr("rollout_server.server.adapters.shutil.copyfileobj", lambda *args: written.append(args))
    data = archive(member(WEIGHTS, b"0\n".ljust(512, b"\0"), pax_headers=headers), member(CONFIG))
    with pytest.raises(InvalidOption, match="the archive holds"):
        await folder.receive(chunks(data))
    assert written == []
    assert list(folder._root.iterdir()) == []


def test_what_is_unpacked_is_bounded_too(tmp_path):
    data = archive(member(CONFIG, b"x" * 600), member(WEIGHTS, b"x" * 600))
    with pytest.raises(PayloadTooLarge):
        _unpack(io.BytesIO(data), tmp_path, 1199)
    (tmp_path / CONFIG).unlink()
    _unpack(io.BytesIO(data), tmp_path, 1200)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (archive(member(CONFIG)), f"no {WEIGHTS}"),
        (archive(), f"no {CONFIG} and no {WEIGHTS}"),
        (b"", "no plain tar"),
        (b"nonsense" * 200, "no plain tar"),
        (archive(member(CONFIG), member(WEIGHTS), mode="w:gz"), "no plain tar"),
        (archive(member(CONFIG), member(WEIGHTS, b"x" * 5000))[:2500], "no plain tar"),
    ],
)
async def test_an_incomplete_or_foreign_body_is_refused(folder, data, said):
    with pytest.raises(InvalidOption, match=said):
        await folder.receive(chunks(data))
    assert list(folder._root.iterdir()) == []


async def test_the_limit_ends_an_upload_in_its_course(folder):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1000
            yield b"x" * 1000

    with pytest.raises(PayloadTooLarge):
        await folder.receive(endless())
    assert sent == 101_000
    assert list(folder._root.iterdir()) == []


async def test_folders_of_forgotten_versions_go_and_close_removes_all(folder):
    both = archive(member(CONFIG), member(WEIGHTS))
    first, second = [await folder.receive(chunks(both)) for _ in range(2)]
    await folder.keep(PolicyVersion("step-1", 1, str(first)), first, ["base", "step-1"])
    await folder.keep(PolicyVersion("step-2", 2, str(second)), second, ["base", "step-2"])
    assert not first.exists()
    assert second.exists()
    folder.close()
    assert not folder._root.exists()


def test_packing_needs_both_files(tmp_path):
    with pytest.raises(InvalidOption, match=f"no {CONFIG}"):
        pack_adapter(tmp_path, io.BytesIO())


async def test_a_lasting_folder_knows_its_versions_again_and_forgets_half_an_upload(tmp_path):
    root = tmp_path / "adapters"
    both = archive(member(CONFIG), member(WEIGHTS))
    opened = AdapterFolder(limit=100_000, root=root)
    assert opened.kept == ()
    for number in (9, 10, 11):
        received = await opened.receive(chunks(both))
        version = PolicyVersion(f"step-{number}", number, str(received))
        await opened.keep(version, received, ["base", "step-10", f"step-{number}"])
    await opened.receive(chunks(both))  # never published: the server was killed before
    with pytest.raises(ConfigError, match="another server"):
        AdapterFolder(limit=100_000, root=root)
    opened.close()
    again = AdapterFolder(limit=100_000, root=root)
    assert [(kept.name, kept.number) for kept in again.kept] == [("step-10", 10), ("step-11", 11)]
    assert all({p.name for p in kept.folder.iterdir()} == {CONFIG, WEIGHTS} for kept in again.kept)
    assert {p for p in root.iterdir() if p.is_dir()} == {kept.folder for kept in again.kept}
    assert isinstance(again.kept[0], Kept)
    # Killed while it publishes them again: none is lost.
    await again.keep(PolicyVersion("step-10", 10), again.kept[0].folder, ["base", "step-10", "step-11"])
    again.close()
    third = AdapterFolder(limit=100_000, root=root)
    assert third.kept == again.kept
    third.close()
    (root / "policies.json").write_text('{"versions": [{"name": "x"}]}')
    with pytest.raises(ConfigError, match=r"policies\.json"):
        AdapterFolder(limit=100_000, root=root)
    with pytest.raises(ConfigError, match="cannot be used"):
        AdapterFolder(limit=1, root=root / "policies.json")
