"""The folder store: written once, whole or not at all, and never a wrong byte given out."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common import errors
from services.common.store import folder as folder_module
from services.common.store.folder import INCOMING, FolderStore
from services.common.store.objects import checked_key, keyed_digest


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def incoming(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "objects" / INCOMING).glob("*"))


def stored_file(tmp_path: Path, key: str) -> Path:
    (file,) = (tmp_path / "objects" / key).glob("sha256-*")
    return file


async def test_what_is_put_is_got(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"frames")
    info = await store.put_file("t/jobs/job_1/render/000001-ab", tmp_path / "a.bin")
    assert (info.digest, info.bytes) == (sha(b"frames"), 6)
    assert await store.stat(info.key) == info
    assert await store.get_bytes(info.key) == b"frames"
    async with store.local_path(info.key) as path:
        assert path.read_bytes() == b"frames"
    assert (tmp_path / "a.bin").exists()
    assert incoming(tmp_path) == []


async def test_the_first_writer_of_a_key_wins(store: FolderStore) -> None:
    first = await store.put_bytes("t/a", b"one")
    assert await store.put_bytes("t/a", b"another") == first
    assert await store.get_bytes("t/a") == b"one"


async def test_of_many_writers_at_once_one_wins_and_all_are_told_the_same(store: FolderStore) -> None:
    told = await asyncio.gather(*(store.put_bytes("t/a", bytes([n]) * 1000) for n in range(12)))
    assert len({info.digest for info in told}) == 1
    assert sha(await store.get_bytes("t/a")) == told[0].digest


async def test_a_missing_object_is_a_typed_error(store: FolderStore) -> None:
    assert await store.stat("t/none") is None
    with pytest.raises(errors.ObjectMissing):
        await store.get_bytes("t/none")
    with pytest.raises(errors.ObjectMissing):
        async with store.local_path("t/none"):
            pass
    await store.delete("t/none")
    assert await store.delete_prefix("t") == 0


@pytest.mark.parametrize("damage", [b"onE", b"on", b"one more", b""])
async def test_a_damaged_object_is_found_and_mended_by_the_next_writer(
    store: FolderStore, tmp_path: Path, damage: bytes
) -> None:
    await store.put_bytes("t/a", b"one")
    stored_file(tmp_path, "t/a").write_bytes(damage)
    with pytest.raises(errors.ObjectCorrupt):
        await store.get_bytes("t/a")
    with pytest.raises(errors.ObjectCorrupt):
        async with store.local_path("t/a"):
            pass
    await store.put_bytes("t/a", b"one")
    assert await store.get_bytes("t/a") == b"one"


async def test_a_list_names_what_is_below_and_deleting_a_prefix_deletes_just_that(store: FolderStore) -> None:
    for key in ("t/jobs/job_1/b", "t/jobs/job_1/a", "t/jobs/job_10/c", "t/assets/x"):
        await store.put_bytes(key, key.encode())
    assert [info.key for info in await store.list("t/jobs/job_1")] == ["t/jobs/job_1/a", "t/jobs/job_1/b"]
    assert await store.delete_prefix("t/jobs/job_1/") == 2
    assert [info.key for info in await store.list("t")] == ["t/assets/x", "t/jobs/job_10/c"]


async def test_deleting_an_object_leaves_those_below_it(store: FolderStore) -> None:
    await store.put_bytes("t/a", b"1")
    await store.put_bytes("t/a/b", b"2")
    await store.delete("t/a")
    assert await store.stat("t/a") is None
    assert await store.get_bytes("t/a/b") == b"2"
    with pytest.raises(errors.InvalidSpec):
        await store.put_bytes("t/a", b"3")
    await store.delete("t/a/b")
    assert await store.list("t") == []


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", ".incoming/x", "a/.b", "a\0b", "ä", "a b", "x" * 900, "a\n"],
)
def test_a_key_that_could_lead_elsewhere_is_refused(key: str) -> None:
    with pytest.raises(errors.InvalidSpec):
        checked_key(key)


@pytest.mark.parametrize("gone", ["the object", "its folder"])
async def test_an_object_that_is_deleted_the_moment_it_is_there_was_written_all_the_same(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    rename = os.rename

    def renamed_and_deleted(source: Path, target: Path) -> None:
        rename(source, target)
        if INCOMING in Path(target).parts:
            return
        shutil.rmtree(target if gone == "the object" else target.parent)

    monkeypatch.setattr(os, "rename", renamed_and_deleted)
    info = await store.put_bytes("t/jobs/job_1/render/000001-ab", b"frames")
    monkeypatch.undo()
    assert (info.digest, info.bytes) == (sha(b"frames"), 6)
    assert await store.stat(info.key) is None
    assert await store.put_bytes(info.key, b"frames") == info
    assert await store.get_bytes(info.key) == b"frames"
    assert incoming(tmp_path) == []


async def test_every_method_checks_its_key(store: FolderStore, tmp_path: Path) -> None:
    for refused in (
        store.put_bytes("../a", b""),
        store.put_file("../a", tmp_path),
        store.get_bytes("../a"),
        store.stat("../a"),
        store.list("../a"),
        store.delete("../a"),
        store.delete_prefix(""),
    ):
        with pytest.raises(errors.InvalidSpec):
            await refused


async def test_a_full_disk_is_a_typed_error_and_leaves_nothing(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> tuple[str, int]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder_module, "copy_and_digest", full)
    with pytest.raises(errors.NoSpace) as raised:
        await store.put_bytes("t/a", b"one")
    assert int(raised.value.fields["free_bytes"]) > 0
    assert incoming(tmp_path) == []
    assert await store.stat("t/a") is None


WRITER = """
import asyncio, os, sys
from pathlib import Path
from services.common.store import folder

def stop(*_):
    print("ready", flush=True)
    import time; time.sleep(60)

setattr(folder.os if sys.argv[2] in ("fsync", "rename") else folder, sys.argv[2], stop)
asyncio.run(folder.FolderStore(Path(sys.argv[1])).put_bytes("t/a", b"one"))
"""


@pytest.mark.parametrize("moment", ["copy_and_digest", "fsync", "rename", "sync_folder"])
async def test_a_writer_that_is_killed_leaves_no_object_that_is_half(
    store: FolderStore, tmp_path: Path, moment: str
) -> None:
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path / "objects"), moment, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert await writer.stdout.readline() == b"ready\n"
    writer.send_signal(signal.SIGKILL)
    await writer.communicate()
    assert await store.stat("t/a") in (None, await store.put_bytes("t/a", b"one"))
    assert await store.get_bytes("t/a") == b"one"
    assert await store.sweep(older_than_s=3600) == 0
    assert await store.sweep(older_than_s=0) == 1
    assert incoming(tmp_path) == []


async def test_a_verified_file_is_not_read_again_until_it_changes(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    honest = folder_module.digest_of_file
    monkeypatch.setattr(folder_module, "digest_of_file", lambda path: (read.append(path), honest(path))[1])
    await store.put_bytes("t/a", b"one")
    for _ in range(3):
        await store.get_bytes("t/a")
    assert read == []
    os.utime(stored_file(tmp_path, "t/a"), (time.time() + 5, time.time() + 5))
    await store.get_bytes("t/a")
    assert len(read) == 1


KEYS = st.sampled_from(["t/a", "t/b", "t/c/d", "t/c/e"])


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "delete", "delete_prefix", "damage"]), KEYS, st.binary(max_size=8)),
        max_size=12,
    )
)
def test_any_sequence_of_writes_agrees_with_a_dictionary_that_keeps_the_first(
    steps: list[tuple[str, str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("store")

    async def check() -> None:
        store = FolderStore(root / "objects")
        model: dict[str, bytes] = {}
        damaged: set[str] = set()
        for what, key, content in steps:
            if what == "put":
                if key in damaged:
                    del model[key]
                    damaged.discard(key)
                model.setdefault(key, content)
                assert (await store.put_bytes(key, content)).digest == sha(model[key])
            elif what == "delete":
                await store.delete(key)
                model.pop(key, None)
                damaged.discard(key)
            elif what == "delete_prefix":
                prefix = key.rpartition("/")[0]
                below = {name for name in model if name.startswith(prefix + "/")}
                assert await store.delete_prefix(prefix) == len(below)
                model = {name: value for name, value in model.items() if name not in below}
                damaged -= below
            elif key in model:
                stored_file(root, key).write_bytes(model[key] + b"!")
                damaged.add(key)
        assert [info.key for info in await store.list("t")] == sorted(model)
        for key, value in model.items():
            if key in damaged:
                with pytest.raises(errors.ObjectCorrupt):
                    await store.get_bytes(key)
            else:
                assert await store.get_bytes(key) == value

    asyncio.run(check())


def test_the_name_of_an_asset_depends_on_tenant_digest_and_secret() -> None:
    names = {
        keyed_digest(tenant, digest, secret)
        for tenant in ("a", "b")
        for digest in (sha(b"1"), sha(b"2"))
        for secret in (b"x", b"y")
    }
    assert len(names) == 8
    assert all(len(name) == 26 and checked_key(name) for name in names)
