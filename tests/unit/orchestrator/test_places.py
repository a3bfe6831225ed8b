"""Second places: whole or not at all, never over something else, and nobody learns where they are."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import InvalidSetting, ObjectMissing, PublishFailed
from services.common.store.folder import FolderStore
from services.orchestrator import places
from services.orchestrator.settings import OrchestratorSettings

KEY = "anna/jobs/job_a/finalise/000000-0.mp4"
RESULT = bytes(range(256)) * 9000


@pytest.fixture
async def store(tmp_path: Path) -> FolderStore:
    """With a result in it."""
    folder = FolderStore(tmp_path / "objects")
    await folder.put_bytes(KEY, RESULT)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A place."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


async def publish(store: FolderStore, where: Path, *, name: str = "a.mp4", place: str = "archive") -> None:
    await places.publish(store, {"archive": where}, place=place, name=name, artifact_key=KEY)


async def refused(store: FolderStore, where: Path, **how: str) -> str:
    """The detail of the failure; it and all else that it says name no folder."""
    with pytest.raises(PublishFailed) as caught:
        await publish(store, where, **how)
    assert str(where.parent) not in str(caught.value.fields)
    return caught.value.fields["detail"]


async def test_a_result_appears_whole_and_again_is_no_error(store: FolderStore, out: Path) -> None:
    await publish(store, out)
    before = (out / "a.mp4").stat()
    await publish(store, out)
    assert (out / "a.mp4").read_bytes() == RESULT
    assert (out / "a.mp4").stat().st_ino == before.st_ino, "written once"
    assert os.listdir(out) == ["a.mp4"]


@pytest.mark.parametrize(
    "squat",
    [
        lambda path: path.write_bytes(b"another"),
        lambda path: path.write_bytes(bytes(len(RESULT))),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/etc/hostname"),
    ],
    ids=["another file", "another file of its length", "a folder", "a link"],
)
async def test_what_is_there_stays(store: FolderStore, out: Path, squat: Callable[[Path], Any]) -> None:
    squat(out / "a.mp4")
    before = (out / "a.mp4").lstat()
    assert "stays" in await refused(store, out)
    assert (out / "a.mp4").lstat() == before
    assert os.listdir(out) == ["a.mp4"]


async def test_a_name_that_is_taken_meanwhile_is_not_taken_over(
    store: FolderStore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = os.link

    def late(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"faster")
        linked(source, target)

    monkeypatch.setattr(os, "link", late)
    assert "stays" in await refused(store, out)
    assert (out / "a.mp4").read_bytes() == b"faster"


async def test_a_disk_without_links_takes_it_too(
    store: FolderStore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    await publish(store, out)
    assert (out / "a.mp4").read_bytes() == RESULT
    assert os.listdir(out) == ["a.mp4"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, f"no space is left: {len(RESULT)} bytes are needed"),
        (errno.EDQUOT, "no space is left"),
        (errno.EROFS, "Read-only file system"),
        (errno.EACCES, "Permission denied"),
    ],
    ids=["full", "quota", "read-only", "forbidden"],
)
async def test_a_disk_that_refuses_says_why_and_keeps_nothing(
    store: FolderStore, out: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number), str(out))

    monkeypatch.setattr(places.os, "fsync", fails)
    assert said in await refused(store, out)
    monkeypatch.undo()
    assert os.listdir(out) == []
    await publish(store, out)


async def test_a_place_that_is_gone_is_not_made(store: FolderStore, out: Path) -> None:
    out.rmdir()
    assert "not there" in await refused(store, out)
    assert not out.exists()
    out.write_bytes(b"a file")
    assert "not there" in await refused(store, out)


@pytest.mark.parametrize("name", ["../a.mp4", "/etc/a.mp4", "b/a.mp4", "..", ""])
async def test_a_name_that_leads_away_is_refused(store: FolderStore, out: Path, name: str) -> None:
    assert "plain" in await refused(store, out, name=name)
    assert os.listdir(out) == []


async def test_every_tenant_has_a_folder_of_its_own_where_the_operator_says_so(store: FolderStore, out: Path) -> None:
    await publish(store, out / "{tenant}")
    assert (out / "anna" / "a.mp4").read_bytes() == RESULT
    assert "not there" in await refused(store, out / "gone" / "{tenant}")


async def test_an_unknown_place_or_kind_is_a_failure(store: FolderStore, out: Path) -> None:
    assert "no place" in await refused(store, out, place="else")
    assert "s3" in await refused(store, Path("s3://bucket/out"))


async def test_a_result_that_is_gone_is_no_fault_of_the_place(store: FolderStore, out: Path) -> None:
    await store.delete(KEY)
    with pytest.raises(ObjectMissing):
        await publish(store, out)


async def test_what_nobody_waits_for_does_not_appear(
    store: FolderStore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    synced, copied = os.fsync, places._copy

    def waits(descriptor: int) -> None:
        reached.set()
        go_on.wait(10)
        synced(descriptor)

    def watched(*arguments: Any) -> None:
        try:
            copied(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(places.os, "fsync", waits)
    monkeypatch.setattr(places, "_copy", watched)
    publishing = asyncio.ensure_future(publish(store, out))
    assert await asyncio.to_thread(reached.wait, 10)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert os.listdir(out) == []


async def test_what_a_dead_writer_left_goes_with_the_next_one(store: FolderStore, out: Path) -> None:
    with places._partial(out, KEY) as writing:
        pass
    old, young = writing.with_name(f"{writing.name[:-12]}00.partial"), writing
    for left in (old, young):
        left.write_bytes(b"half")
    os.utime(old, (1, 1))
    await publish(store, out)
    assert sorted(os.listdir(out)) == sorted([young.name, "a.mp4"])


@pytest.mark.parametrize(("name", "where"), [("a/b", "/out"), ("..", "/out"), ("bucket", "s3://bucket")])
def test_a_place_that_cannot_be_is_refused_with_the_settings(tmp_path: Path, name: str, where: str) -> None:
    with pytest.raises(InvalidSetting):
        OrchestratorSettings.load({"data": str(tmp_path), "places": {name: where}})
