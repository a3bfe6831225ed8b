"""Uploads without a wire: parts that are lost or late, processes that die in the middle, sweeping."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.common import errors
from services.common.records.database import Records
from services.common.records.tables import assets, audit, uploads
from services.common.store.folder import FolderStore
from services.ingest.assets import finishing
from services.ingest.assets.library import Library
from services.ingest.assets.naming import asset_id, asset_key, job_of_key, now_ms, part_key, parts_prefix
from services.ingest.assets.rows import Asset
from services.ingest.assets.sweeping import DAY_MS, Sweeper, sweep_uploads
from services.ingest.assets.uploads import Upload, UploadLimits, Uploads

PART = 10
SECRET = b"secret"
TEXT = b"0123456789abcdefghijklmnopqrstuvw"
DIGEST = hashlib.sha256(TEXT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


@dataclass
class Shelf:
    """What uploads stand on."""

    folder: Path
    store: FolderStore
    records: Records
    uploads: Uploads

    async def begin(self, upload_id: str = "u", *, size_bytes: int = len(TEXT)) -> Upload:
        return await self.uploads.begin("t", "me", name="clip", upload_id=upload_id, size_bytes=size_bytes)

    async def filled(self, upload_id: str = "u", content: bytes = TEXT) -> Upload:
        upload = await self.begin(upload_id, size_bytes=len(content))
        await upload.add(0, content)
        return upload

    async def objects(self) -> list[str]:
        return [info.key for info in await self.store.list("t")]

    async def rows(self, table: sa.Table) -> Sequence[Any]:
        return await self.records.read(lambda connection: connection.execute(sa.select(table)).all())

    async def prefix(self) -> str:
        (row,) = await self.rows(uploads)
        return parts_prefix("t", row.upload_id, row.created_ms, SECRET)

    async def age(self, days: float = 8) -> None:
        changed = sa.update(uploads).values(changed_ms=now_ms() - round(days * DAY_MS))
        await self.records.write(lambda connection: connection.execute(changed))

    async def sweep(self) -> int:
        return await sweep_uploads(
            self.records, self.store, 7 * DAY_MS, secret=SECRET, finishing=self.uploads.finishing
        )


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    store, records = FolderStore(tmp_path / "objects"), Records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    await records.open()
    made = Uploads(records, store, scratch=tmp_path / "scratch", secret=SECRET, limits=UploadLimits(part_bytes=PART))
    yield Shelf(tmp_path, store, records, made)
    await made.close()
    await records.close()


async def test_parts_lie_where_they_belong_and_are_confirmed_when_complete(shelf: Shelf) -> None:
    upload = await shelf.begin()
    await upload.add(0, TEXT[:25])
    prefix = await shelf.prefix()
    assert await shelf.objects() == [part_key(prefix, 0), part_key(prefix, 10)]
    assert upload.confirmed_bytes == 20 == (await shelf.begin()).confirmed_bytes
    await upload.add(25, TEXT[25:])
    assert upload.confirmed_bytes == len(TEXT)
    asset = await upload.finish(DIGEST)
    assert await shelf.store.get_bytes(asset.key) == TEXT
    assert await shelf.objects() == [asset.key]


@pytest.mark.parametrize("lost", [0, 10, 30])
@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_part_that_was_lost_is_asked_for_again(shelf: Shelf, lost: int, is_damaged: bool) -> None:
    upload = await shelf.filled()
    key = part_key(await shelf.prefix(), lost)
    (file,) = (shelf.folder / "objects" / key).iterdir()
    if is_damaged:
        file.write_bytes(b"x" + file.read_bytes()[1:])
    else:
        await shelf.store.delete(key)
    with pytest.raises(errors.UploadConflict) as raised:
        await upload.finish(DIGEST)
    assert raised.value.fields["confirmed_bytes"] == str(lost)
    again = await shelf.begin()
    assert again.confirmed_bytes == lost
    await again.add(lost, TEXT[lost:])
    assert (await again.finish(DIGEST)).digest == DIGEST


async def test_a_late_writer_of_a_dropped_upload_leaves_nothing(shelf: Shelf) -> None:
    late = await shelf.begin()
    await late.add(0, TEXT[:PART])
    await (quick := await shelf.begin()).add(PART, TEXT[PART:])
    with pytest.raises(errors.UploadConflict):
        await quick.finish(OTHER)
    with pytest.raises(errors.UploadConflict):
        await late.add(PART, TEXT[PART:])
    assert await shelf.objects() == []
    assert (await (await shelf.filled()).finish(DIGEST)).digest == DIGEST


async def test_a_late_writer_of_a_finished_upload_is_given_its_asset(shelf: Shelf) -> None:
    late = await shelf.begin()
    await late.add(0, TEXT[:PART])
    asset = await (await shelf.filled()).finish(DIGEST)
    await late.add(PART, TEXT[PART:])
    assert late.asset is not None
    assert late.confirmed_bytes == len(TEXT)
    assert (await late.finish(DIGEST)).id == asset.id
    assert await shelf.objects() == [asset.key]


async def test_other_bytes_under_the_same_id_contradict_those_that_came_first(shelf: Shelf) -> None:
    one, other = await shelf.begin(), await shelf.begin()
    await one.add(0, TEXT[:PART])
    with pytest.raises(errors.UploadConflict):
        await other.add(0, TEXT[::-1])
    await one.add(PART, TEXT[PART:])
    assert (await one.finish(DIGEST)).digest == DIGEST


async def test_an_upload_is_finished_though_its_caller_leaves(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await shelf.filled()
    at_the_store, put_file = asyncio.Event(), shelf.store.put_file

    async def slow(key: str, path: Path) -> Any:
        at_the_store.set()
        await asyncio.sleep(0.05)
        return await put_file(key, path)

    monkeypatch.setattr(shelf.store, "put_file", slow)
    asking = asyncio.create_task(upload.finish(DIGEST))
    await asyncio.wait_for(at_the_store.wait(), 5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert await shelf.rows(assets) == []
    await shelf.uploads.close()
    (row,) = await shelf.rows(assets)
    assert await shelf.objects() == [row.key]


async def died_between_object_and_row(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await shelf.filled()
    with monkeypatch.context() as patch:

        async def die(*_: Any, **__: Any) -> Asset:
            raise errors.Unavailable(peer="the records' database")

        patch.setattr(shelf.uploads.finishing, "keep", die)
        with pytest.raises(errors.Unavailable):
            await upload.finish(DIGEST)
    assert await shelf.rows(assets) == []
    assert asset_key("t", asset_id("t", DIGEST, SECRET)) in await shelf.objects()


async def test_what_died_between_object_and_row_is_finished_by_who_comes_next(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await died_between_object_and_row(shelf, monkeypatch)
    again = await shelf.begin()
    assert (again.asset, again.confirmed_bytes) == (None, len(TEXT))
    asset = await again.finish(DIGEST)
    assert await shelf.objects() == [asset.key]


async def test_an_object_whose_row_was_never_written_is_given_one(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await died_between_object_and_row(shelf, monkeypatch)
    await shelf.age()
    await shelf.sweep()
    (row,) = await shelf.rows(assets)
    assert await shelf.objects() == [row.key]
    assert (row.digest, row.size_bytes, row.name) == (DIGEST, len(TEXT), "clip")


async def test_a_full_disk_is_said_and_nothing_stays_in_scratch(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await shelf.filled()
    (shelf.folder / "scratch").mkdir()

    def full(**_: Any) -> tuple[int, str]:
        link = shelf.folder / "scratch" / "upload-full"
        link.symlink_to("/dev/full")
        return os.open(os.devnull, os.O_WRONLY), str(link)

    with monkeypatch.context() as patch:
        patch.setattr(finishing.tempfile, "mkstemp", full)
        with pytest.raises(errors.NoSpace):
            await upload.finish(DIGEST)
    assert list((shelf.folder / "scratch").iterdir()) == []
    assert Path("/dev/full").exists()
    assert (await upload.finish(DIGEST)).digest == DIGEST


async def test_idle_uploads_are_swept_with_their_parts(shelf: Shelf) -> None:
    await (await shelf.begin("young")).add(0, TEXT[:PART])
    assert await shelf.sweep() == 0
    young = await shelf.objects()
    await shelf.age(6)
    await (await shelf.begin("idle")).add(0, TEXT[:PART])
    changed = sa.update(uploads).where(uploads.c.upload_id == "idle").values(changed_ms=now_ms() - 8 * DAY_MS)
    await shelf.records.write(lambda connection: connection.execute(changed))
    swept = await asyncio.gather(shelf.sweep(), shelf.sweep())
    assert sorted(swept) == [0, 1]
    assert await shelf.objects() == young
    assert [row.upload_id for row in await shelf.rows(uploads)] == ["young"]
    assert [(row.action, row.actor, row.details) for row in await shelf.rows(audit)] == [
        ("retention.swept", "retention", '{"uploads":1}')
    ]


async def test_sweeping_leaves_finished_assets_alone(shelf: Shelf) -> None:
    asset = await (await shelf.filled()).finish(DIGEST)
    await shelf.age()
    assert await shelf.sweep() == 0
    assert await shelf.objects() == [asset.key]
    assert await shelf.rows(uploads) == []
    assert len(await shelf.rows(assets)) == 1
    assert [row.action for row in await shelf.rows(audit)] == ["asset.stored"]


async def test_parts_that_no_upload_owns_are_swept(shelf: Shelf) -> None:
    await (await shelf.begin()).add(0, TEXT[:PART])
    owned = await shelf.objects()
    await shelf.store.put_bytes(part_key(parts_prefix("t", "gone", 1, SECRET), 0), b"left by a process that died")
    await shelf.sweep()
    assert await shelf.objects() == owned


async def test_scratch_files_of_dead_processes_are_removed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = shelf.folder / "scratch"
    scratch.mkdir()
    (scratch / "upload-dead").write_bytes(b"x")
    await shelf.uploads.finishing.sweep()
    assert (scratch / "upload-dead").exists()
    monkeypatch.setattr(finishing, "ABANDONED_AFTER_S", 0)
    await shelf.uploads.finishing.sweep()
    assert list(scratch.iterdir()) == []


async def test_the_sweeper_goes_on_after_a_round_that_failed() -> None:
    rounds = asyncio.Queue[int]()

    async def work() -> None:
        rounds.put_nowait(1)
        raise errors.Unavailable(peer="the records' database")

    sweeper = Sweeper(work, every_s=0.01)
    sweeper.start()
    async with asyncio.timeout(5):
        for _ in range(3):
            await rounds.get()
    await sweeper.close()


async def test_deleting_forgets_the_uploads_too(shelf: Shelf) -> None:
    library = Library(shelf.records, shelf.store, ended_states=())
    asset = await (await shelf.filled()).finish(DIGEST)
    await library.delete("t", asset.id, actor="me")
    again = await shelf.begin()
    assert (again.asset, again.confirmed_bytes) == (None, 0)
    assert await shelf.objects() == []


async def test_an_upload_whose_asset_was_swept_by_another_service_begins_anew(shelf: Shelf) -> None:
    asset = await (await shelf.filled()).finish(DIGEST)
    await shelf.records.write(lambda connection: connection.execute(sa.delete(assets)))
    await shelf.store.delete(asset.key)
    again = await shelf.begin()
    assert (again.asset, again.confirmed_bytes) == (None, 0)
    await again.add(0, TEXT)
    assert (await again.finish(DIGEST)).id == asset.id


async def test_bytes_that_are_deleted_while_they_are_stored_again_are_put_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(shelf.records, shelf.store, ended_states=())
    asset = await (await shelf.filled("first")).finish(DIGEST)
    second = await shelf.filled("second")
    put_file, puts = shelf.store.put_file, []

    async def put_and_lose(key: str, path: Path) -> Any:
        puts.append(key)
        info = await put_file(key, path)
        if len(puts) == 1:
            await library.delete("t", asset.id, actor="me")
        return info

    monkeypatch.setattr(shelf.store, "put_file", put_and_lose)
    assert (await second.finish(DIGEST)).id == asset.id
    assert len(puts) == 2
    assert await shelf.objects() == [asset.key]
    assert len(await shelf.rows(assets)) == 1


JOB = "job_" + "a2" * 13


@pytest.mark.parametrize("key", [f"t/jobs/{JOB}/finalise/000000-a.mp4", f"t/jobs/{JOB}/report/000000-a.json"])
def test_results_of_own_jobs_are_given_out(key: str) -> None:
    assert job_of_key("t", key) == JOB


@pytest.mark.parametrize(
    "key",
    [
        f"other/jobs/{JOB}/finalise/000000-a.mp4",
        f"/t/jobs/{JOB}/finalise/a",
        f"t/jobs/{JOB}/link/a",
        f"t/jobs/{JOB}/finalise/..",
        f"t/jobs/{JOB}/finalise/a/b",
        f"t/jobs/{JOB}/finalise/",
        f"t/jobs/{JOB}/finalise/a\n",
        f"t/jobs/{JOB}/finalise",
        f"t/assets/{'a' * 26}",
        "",
    ],
)
def test_nothing_else_is(key: str) -> None:
    with pytest.raises(errors.AssetNotFound):
        job_of_key("t", key)
