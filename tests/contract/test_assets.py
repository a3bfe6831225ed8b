"""Uploads over the wire: what callers of two tenants see, and what is left behind when something goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from masquerade.v1 import asset_pb2 as pb
from masquerade.v1 import job_pb2
from services.common import errors
from services.common.records.database import Records
from services.common.records.tables import assets, uploads
from services.common.store.folder import FolderStore
from services.common.store.s3 import Bucket as S3Bucket
from services.common.store.s3 import S3Store
from tests.support import s3_server
from tests.support.asset_house import (
    PART,
    VIDEO,
    House,
    begin,
    chunk,
    chunks,
    finish,
    serving,
    sha,
    some_bytes,
    whole,
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(tmp_path) as house:
        yield house


async def test_what_is_uploaded_is_an_asset_and_comes_back(house: House) -> None:
    asset = await house.whole(VIDEO)
    assert asset.id.startswith("asset_")
    assert len(asset.id) == 32
    assert (asset.name, asset.size_bytes, asset.digest) == ("clip.mp4", len(VIDEO), sha(VIDEO))
    assert asset.expire_time.seconds - asset.create_time.seconds == 7 * 24 * 3600
    assert await house.get(asset.id) == asset
    pieces = await house.download(asset.id)
    assert b"".join(piece.chunk for piece in pieces) == VIDEO
    assert await house.objects() == [f"a/assets/{asset.id.removeprefix('asset_')}"]
    assert await house.audited() == [("asset.stored", asset.id, "done")]
    assert not list((house.folder / "scratch").rglob("upload-*"))


async def test_a_caller_that_breaks_off_goes_on_from_what_is_confirmed(house: House) -> None:
    first = await house.upload(begin(VIDEO), chunk(VIDEO, 0, PART + 5000))
    assert not first.HasField("asset")
    assert first.confirmed_bytes == PART == await house.confirmed(VIDEO)
    second = await house.upload(begin(VIDEO), *chunks(VIDEO[: 2 * PART + 99], first=PART))
    assert second.confirmed_bytes == 2 * PART
    third = await house.upload(begin(VIDEO), *chunks(VIDEO, first=2 * PART))
    assert third.confirmed_bytes == len(VIDEO)
    last = await house.upload(begin(VIDEO), finish(VIDEO))
    assert last.asset.digest == sha(VIDEO)


async def test_what_a_killed_stream_had_confirmed_is_not_asked_for_again(house: House) -> None:
    async def requests() -> AsyncIterator[pb.UploadAssetRequest]:
        yield begin(VIDEO)
        yield chunk(VIDEO, 0, 2 * PART + 10)
        await asyncio.sleep(60)

    call = house.stub.UploadAsset(requests(), metadata=(("tenant", "a"),), timeout=20)
    await until(lambda: house.rows(uploads), lambda rows: bool(rows) and rows[0].confirmed_bytes == 2 * PART)
    call.cancel()
    assert await house.confirmed(VIDEO) == 2 * PART
    answer = await house.upload(begin(VIDEO), *chunks(VIDEO, first=2 * PART), finish(VIDEO))
    assert answer.asset.digest == sha(VIDEO)


async def until(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds(await ask()):  # noqa: ASYNC110  # it happens in the server
            await asyncio.sleep(0.02)


async def test_finishing_twice_gives_the_same_asset(house: House) -> None:
    asset = await house.whole(VIDEO)
    again = await house.upload(begin(VIDEO))
    assert (again.asset, again.confirmed_bytes) == (asset, len(VIDEO))
    assert (await house.whole(VIDEO)).id == asset.id
    assert len(await house.rows(assets)) == 1


async def test_the_same_bytes_are_one_asset_with_its_first_name(house: House) -> None:
    one = await house.whole(VIDEO, upload_id="one", name="first.mp4")
    other = await house.whole(VIDEO, upload_id="other", name="second.mp4")
    assert (other.id, other.name) == (one.id, "first.mp4")
    assert len(await house.objects()) == 1
    assert await house.audited() == [("asset.stored", one.id, "done")]


async def test_chunks_that_come_twice_or_overlap_are_harmless(house: House) -> None:
    twice = [each for one in chunks(VIDEO) for each in (one, one)]
    overlapping = [chunk(VIDEO, max(0, offset - 7000), offset + 25_000) for offset in range(0, len(VIDEO), 25_000)]
    for number, given in enumerate((twice, overlapping)):
        answer = await house.upload(begin(VIDEO, f"u{number}"), *given, finish(VIDEO))
        assert answer.asset.digest == sha(VIDEO)


BAD: dict[str, tuple[list[pb.UploadAssetRequest], type[errors.MasqueradeError]]] = {
    "nothing": ([], errors.InvalidSpec),
    "no header": ([chunk(VIDEO, 0, 10)], errors.InvalidSpec),
    "an empty message": ([pb.UploadAssetRequest()], errors.InvalidSpec),
    "an empty message later": ([begin(VIDEO), pb.UploadAssetRequest()], errors.InvalidSpec),
    "two headers": ([begin(VIDEO), begin(VIDEO)], errors.InvalidSpec),
    "out of order": ([begin(VIDEO), chunk(VIDEO, 100, 200), chunk(VIDEO, 0, 100)], errors.UploadConflict),
    "missing last": ([begin(VIDEO[:200]), chunk(VIDEO, 0, 100), finish(VIDEO[:200])], errors.UploadConflict),
    "wrong sha": ([*whole(VIDEO)[:-1], finish(b"other")], errors.UploadConflict),
    "no sha": ([*whole(VIDEO)[:-1], pb.UploadAssetRequest(finish=pb.UploadFinish(digest="x"))], errors.InvalidSpec),
    "beyond the end": ([begin(VIDEO[:200]), chunk(VIDEO, 0, 201)], errors.UploadConflict),
    "far beyond the end": (
        [begin(VIDEO), pb.UploadAssetRequest(chunk=pb.UploadChunk(offset=2**64 - 1, chunk=b"x"))],
        errors.UploadConflict,
    ),
    "a chunk too large": (
        [begin(bytes(3 << 20)), pb.UploadAssetRequest(chunk=pb.UploadChunk(chunk=bytes((1 << 20) + 1)))],
        errors.InvalidSpec,
    ),
    "no bytes": ([begin(b"")], errors.InvalidSpec),
    "no id": ([begin(VIDEO, "")], errors.InvalidSpec),
    "an id too long": ([begin(VIDEO, "x" * 201)], errors.InvalidSpec),
    "an id with a NUL": ([begin(VIDEO, "a\0b")], errors.InvalidSpec),
}


@pytest.mark.parametrize("name", list(BAD))
async def test_a_stream_that_makes_no_sense_is_refused_and_leaves_nothing(house: House, name: str) -> None:
    requests, expected = BAD[name]
    with pytest.raises(expected) as raised:
        await house.upload(*requests)
    assert await house.rows(assets) == []
    if name == "no sha":
        # The bytes are all there and safe; only their digest is to be said.
        assert await house.confirmed(VIDEO) == len(VIDEO)
    else:
        assert await house.objects() == []
    if expected is errors.UploadConflict:
        assert raised.value.fields["confirmed_bytes"] == "0"
    assert (await house.whole(VIDEO, upload_id="another")).digest == sha(VIDEO)


@pytest.mark.parametrize("writes_itself", [False, True])
async def test_a_caller_in_full_flow_hears_why_it_is_refused(house: House, writes_itself: bool) -> None:
    large = bytes(1 << 20)

    async def steps() -> AsyncIterator[pb.UploadAssetRequest]:
        yield begin(VIDEO)
        for number in range(20):
            yield pb.UploadAssetRequest(chunk=pb.UploadChunk(offset=number << 20, chunk=large))

    async def speak() -> None:
        named: Any = {"metadata": (("tenant", "a"),), "timeout": 20}
        if not writes_itself:
            await house.stub.UploadAsset(steps(), **named)
            return
        call: Any = house.stub.UploadAsset(**named)
        async for step in steps():
            await call.write(step)
        await call.done_writing()
        await call

    for _ in range(4):
        with pytest.raises(errors.UploadConflict):
            await speak()


async def test_after_a_wrong_digest_the_upload_begins_anew(house: House) -> None:
    wrong = some_bytes(len(VIDEO), seed=2)
    with pytest.raises(errors.UploadConflict):
        await house.upload(*whole(wrong)[:-1], finish(VIDEO))
    assert await house.confirmed(VIDEO) == 0
    assert (await house.whole(VIDEO)).digest == sha(VIDEO)


async def test_an_upload_id_stands_for_one_length_and_one_name(house: House) -> None:
    await house.upload(begin(VIDEO), *chunks(VIDEO[:PART]))
    for other in (begin(VIDEO[:-1]), begin(VIDEO, name="other.mp4")):
        with pytest.raises(errors.UploadConflict) as raised:
            await house.upload(other)
        assert raised.value.fields["confirmed_bytes"] == str(PART)
    await house.upload(begin(VIDEO), *chunks(VIDEO, first=PART), finish(VIDEO))
    with pytest.raises(errors.UploadConflict):
        await house.upload(begin(VIDEO[:-1]))
    with pytest.raises(errors.UploadConflict):
        await house.upload(begin(VIDEO), finish(b"other"))


async def test_names_are_for_people_and_never_paths(house: House) -> None:
    for number, name in enumerate(("../../etc/passwd", "-i.mp4", "a\0b", "a\u202eb", "x" * 4096)):
        asset = await house.whole(some_bytes(100, seed=number), upload_id=f"u{number}", name=name)
        assert asset.name == "".join(each for each in name if each.isprintable())[:255]
    assert all(key.startswith("a/assets/") for key in await house.objects())


async def test_of_two_streams_of_one_upload_nothing_is_corrupted(house: House) -> None:
    for seed in range(5):
        content, other = some_bytes(5 * PART + 77, seed), some_bytes(5 * PART + 77, seed + 100)
        both = [*([content] * 2), other]
        answers = await asyncio.gather(
            *(house.upload(*whole(each, upload_id=f"raced {seed}")) for each in both), return_exceptions=True
        )
        won = [answer.asset for answer in answers if isinstance(answer, pb.UploadAssetResponse)]
        lost = [answer for answer in answers if isinstance(answer, BaseException)]
        assert won or lost
        assert all(isinstance(each, errors.UploadConflict) for each in lost)
        for asset in won:
            pieces = await house.download(asset.id)
            assert sha(b"".join(piece.chunk for piece in pieces)) == asset.digest in (sha(content), sha(other))
        for each in both:
            with contextlib.suppress(errors.UploadConflict):
                await house.upload(*whole(each, upload_id=f"again {seed} {sha(each)}"))
        assert {sha(content), sha(other)} <= {asset.digest for asset in (await house.list()).assets}


async def test_replicas_share_an_upload(tmp_path: Path) -> None:
    store, records = FolderStore(tmp_path / "objects"), Records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(records.close)
        one, two = [await stack.enter_async_context(serving(tmp_path / name, store, records)) for name in ("1", "2")]
        await one.upload(begin(VIDEO), *chunks(VIDEO[: 2 * PART]))
        assert await two.confirmed(VIDEO) == 2 * PART
        await two.upload(begin(VIDEO), *chunks(VIDEO, first=2 * PART))
        answers = await asyncio.gather(*(each.upload(begin(VIDEO), finish(VIDEO)) for each in (one, two)))
        assert answers[0].asset.id == answers[1].asset.id
        assert len(await one.objects()) == 1


async def test_uploads_go_into_a_bucket_as_into_a_folder(tmp_path: Path) -> None:
    with s3_server.s3_server() as bucket:
        store = S3Store(S3Bucket(bucket.endpoint, "bucket", "key", "secret", is_secure=False), cache=tmp_path / "cache")
        async with serving(tmp_path, store) as house:
            await house.upload(begin(VIDEO), *chunks(VIDEO[: PART + 10]))
            assert await house.confirmed(VIDEO) == PART
            assert [len(content) for content, _ in bucket.objects.values()] == [PART]
            answer = await house.upload(begin(VIDEO), *chunks(VIDEO, first=PART), finish(VIDEO))
            assert {key: content for key, (content, _) in bucket.objects.items()} == {
                f"a/assets/{answer.asset.id.removeprefix('asset_')}": VIDEO
            }
            pieces = await house.download(answer.asset.id, offset=PART)
            assert b"".join(piece.chunk for piece in pieces) == VIDEO[PART:]
            await house.delete(answer.asset.id)
            assert bucket.objects == {}
        await store.close()


async def test_another_tenant_sees_nothing(house: House) -> None:
    mine = await house.whole(VIDEO)
    with pytest.raises(errors.AssetNotFound):
        await house.get(mine.id, tenant="b")
    with pytest.raises(errors.AssetNotFound):
        await house.delete(mine.id, tenant="b")
    with pytest.raises(errors.AssetNotFound):
        await house.download(mine.id, tenant="b")
    assert not (await house.list(tenant="b")).assets
    assert await house.confirmed(VIDEO, tenant="b") == 0
    theirs = await house.whole(VIDEO, tenant="b")
    assert theirs.id != mine.id
    assert len(await house.objects("b")) == 1
    await house.delete(theirs.id, tenant="b")
    assert (await house.get(mine.id)).id == mine.id
    assert b"".join(piece.chunk for piece in await house.download(mine.id)) == VIDEO


async def test_a_tenant_that_has_enough_is_told_before_anything_is_stored(tmp_path: Path) -> None:
    async with serving(tmp_path, tenant_bytes=1000) as house:
        asset = await house.whole(VIDEO[:400], upload_id="kept")
        await house.upload(begin(VIDEO[:300], "begun"))
        await house.add_job(stored_bytes=200, state=job_pb2.JOB_STATE_SUCCEEDED)
        with pytest.raises(errors.QuotaExceeded) as raised:
            await house.upload(*whole(VIDEO[:101], upload_id="more"))
        fields = raised.value.fields
        assert (fields["value"], fields["most"], fields["retry_after_s"]) == ("900", "1000", "60")
        with pytest.raises(errors.QuotaExceeded):
            await house.upload(begin(VIDEO[:101], "more"))
        assert (await house.audited()).count(("asset.stored", "", "refused")) == 1
        assert [row.upload_id for row in await house.rows(uploads)] == ["kept", "begun"]
        assert (await house.whole(VIDEO[:1000], tenant="b")).size_bytes == 1000
        await house.upload(*whole(VIDEO[:300], upload_id="begun"))
        await house.delete(asset.id)
        assert (await house.whole(VIDEO[:101], upload_id="more")).size_bytes == 101


async def test_tenants_cannot_begin_more_at_once_than_they_may_store(tmp_path: Path) -> None:
    async with serving(tmp_path, tenant_bytes=1000) as house:
        begun = (house.upload(begin(VIDEO[:300], f"u{number}")) for number in range(12))
        answers = await asyncio.gather(*begun, return_exceptions=True)
    assert sum(isinstance(answer, pb.UploadAssetResponse) for answer in answers) == 3
    assert sum(isinstance(answer, errors.QuotaExceeded) for answer in answers) == 9


async def test_a_full_disk_is_said_and_what_is_confirmed_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.upload(begin(VIDEO), *chunks(VIDEO))

    async def full(key: str, path: Path) -> None:
        raise errors.NoSpace(path="/")

    with monkeypatch.context() as patch:
        patch.setattr(house.store, "put_file", full)
        with pytest.raises(errors.NoSpace):
            await house.upload(begin(VIDEO), finish(VIDEO))
    assert not list((house.folder / "scratch").rglob("upload-*"))
    assert await house.confirmed(VIDEO) == len(VIDEO)
    assert (await house.upload(begin(VIDEO), finish(VIDEO))).asset.digest == sha(VIDEO)


async def test_more_uploads_than_a_process_takes_are_told_to_come_again(tmp_path: Path) -> None:
    async with serving(tmp_path, upload_streams=1) as house:
        still = asyncio.Event()

        async def waiting() -> AsyncIterator[pb.UploadAssetRequest]:
            yield begin(VIDEO)
            await still.wait()

        first = house.stub.UploadAsset(waiting(), metadata=(("tenant", "a"),), timeout=20)
        await until(lambda: house.rows(uploads), bool)
        with pytest.raises(errors.Overloaded):
            await house.whole(VIDEO, tenant="b")
        still.set()
        assert (await first).confirmed_bytes == 0
        assert (await house.whole(VIDEO, tenant="b")).digest == sha(VIDEO)
