"""What is stored: given back in ranges, listed, deleted, and nothing of it to another tenant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from masquerade.v1 import asset_pb2 as pb
from masquerade.v1 import job_pb2
from services.common import errors
from services.common.records.tables import assets, identities, job_assets, jobs
from tests.support.asset_house import JOB, PART, VIDEO, House, begin, chunk, finish, serving, some_bytes


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(tmp_path) as house:
        yield house


@pytest.mark.parametrize(("offset", "length"), [(0, 5), (PART, 0), (len(VIDEO) - 3, 10), (7, PART), (len(VIDEO), 0)])
async def test_a_range_of_an_asset(house: House, offset: int, length: int) -> None:
    asset = await house.whole(VIDEO)
    pieces = await house.download(asset.id, offset=offset, length=length)
    assert b"".join(piece.chunk for piece in pieces) == VIDEO[offset : offset + length if length else None]
    assert pieces[0].offset == offset
    assert {piece.size_bytes for piece in pieces} == {len(VIDEO)}


async def test_large_assets_come_in_pieces(house: House) -> None:
    content = some_bytes((2 << 20) + 5)
    requests = (chunk(content, offset, offset + (1 << 20)) for offset in range(0, len(content), 1 << 20))
    asset = (await house.upload(begin(content), *requests, finish(content))).asset
    pieces = await house.download(asset.id)
    assert [(piece.offset, len(piece.chunk)) for piece in pieces] == [(0, 1 << 20), (1 << 20, 1 << 20), (2 << 20, 5)]


async def test_a_range_beyond_the_end_is_refused(house: House) -> None:
    asset = await house.whole(VIDEO)
    for offset in (len(VIDEO) + 1, 2**64 - 1):
        with pytest.raises(errors.InvalidSpec) as raised:
            await house.download(asset.id, offset=offset)
        assert raised.value.violations[0].field == "offset"


async def test_a_damaged_asset_is_not_given_out(house: House) -> None:
    asset = await house.whole(VIDEO)
    (file,) = (house.folder / "objects" / "a" / "assets").rglob("sha256-*")
    file.chmod(0o600)
    file.write_bytes(VIDEO[:-1] + b"x")
    with pytest.raises(errors.ObjectCorrupt):
        await house.download(asset.id)


async def test_artifacts_of_own_jobs_are_given_out_and_faces_never(house: House) -> None:
    await house.add_job()
    for stage in ("finalise", "report", "analyse", "link", "identity", "render"):
        await house.store.put_bytes(f"a/jobs/{JOB}/{stage}/000000-abc.mp4", b"made")
    for stage in ("finalise", "report"):
        (piece,) = await house.download(f"a/jobs/{JOB}/{stage}/000000-abc.mp4", offset=1)
        assert (piece.chunk, piece.size_bytes) == (b"ade", 4)
    for key in (
        *(f"a/jobs/{JOB}/{stage}/000000-abc.mp4" for stage in ("analyse", "link", "identity", "render")),
        f"a/jobs/{JOB}/finalise/none",
        f"a/jobs/{JOB}/finalise/../link/000000-abc.mp4",
        f"a/jobs/{JOB}/finalise/x/000000-abc.mp4",
        f"a/jobs/job_{'b' * 26}/finalise/000000-abc.mp4",
        "a/assets/x",
        "/etc/passwd",
        "a%2fjobs",
        "../x",
        "x" * 1025,
        "",
    ):
        with pytest.raises(errors.AssetNotFound):
            await house.download(key)
    with pytest.raises(errors.AssetNotFound):
        await house.download(f"a/jobs/{JOB}/finalise/000000-abc.mp4", tenant="b")


async def test_slow_callers_keep_nobody_waiting(house: House) -> None:
    content = bytes(16 << 20)
    requests = (chunk(content, offset, offset + (1 << 20)) for offset in range(0, len(content), 1 << 20))
    asset = (await house.upload(begin(content), *requests, finish(content))).asset
    asked = pb.DownloadAssetRequest(id=asset.id)
    slow = [house.stub.DownloadAsset(asked, metadata=(("tenant", "a"),), timeout=30) for _ in range(12)]
    for call in slow:
        assert (await call.read()).chunk
    pieces = await asyncio.wait_for(house.download(asset.id), 10)
    assert sum(len(piece.chunk) for piece in pieces) == len(content)
    for call in slow:
        call.cancel()


async def test_lists_come_in_pages_newest_first(house: House) -> None:
    made = [(await house.whole(VIDEO[:100] + bytes([n]), upload_id=f"u{n}")).id for n in range(5)]
    first = await house.list(page_size=2)
    # One that comes in meanwhile is on no page that was begun before it.
    made.append((await house.whole(b"new", upload_id="new")).id)
    second = await house.list(page_size=2, page_token=first.next_page_token)
    third = await house.list(page_size=2, page_token=second.next_page_token)
    listed = [asset.id for page in (first, second, third) for asset in page.assets]
    assert listed == made[4::-1]
    assert third.next_page_token == ""
    for token in (first.next_page_token, "x"):
        with pytest.raises(errors.InvalidSpec):
            await house.list(page_token=token, tenant="b")


async def test_what_a_running_job_uses_stays(house: House) -> None:
    asset = await house.whole(VIDEO)
    await house.add_job()
    await house.insert(job_assets, job=JOB, asset=asset.id)
    with pytest.raises(errors.InUse) as raised:
        await house.delete(asset.id)
    assert raised.value.fields["job"] == JOB
    assert (await house.audited())[-1] == ("asset.deleted", asset.id, "refused")
    ended = sa.update(jobs).values(state=job_pb2.JOB_STATE_FAILED)
    await house.records.write(lambda connection: connection.execute(ended))
    await house.delete(asset.id)
    assert (await house.audited())[-1] == ("asset.deleted", asset.id, "done")
    assert await house.objects() == []
    with pytest.raises(errors.AssetNotFound):
        await house.delete(asset.id)
    again = await house.whole(VIDEO)
    assert again.id == asset.id
    assert len(await house.objects()) == 1


async def test_a_portrait_of_an_identity_stays(house: House) -> None:
    asset = await house.whole(VIDEO)
    texts = dict.fromkeys(("name", "request_id", "digest", "key", "object_digest", "consent"), "x")
    quality = json.dumps({"portraits": [{"asset": asset.id}]})
    await house.insert(identities, id="idn_x", tenant="a", quality=quality, number=1, created_ms=0, **texts)
    with pytest.raises(errors.InUse) as raised:
        await house.delete(asset.id)
    assert raised.value.fields["identity"] == "idn_x"
    await house.records.write(lambda connection: connection.execute(sa.update(identities).values(key="")))
    await house.delete(asset.id)


async def test_bytes_that_cannot_be_deleted_keep_their_row(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = await house.whole(VIDEO)

    async def fail(key: str) -> None:
        raise errors.Unavailable(peer="the object store")

    with monkeypatch.context() as patch:
        patch.setattr(house.store, "delete", fail)
        with pytest.raises(errors.Unavailable):
            await house.delete(asset.id)
    assert (await house.get(asset.id)).id == asset.id
    await house.delete(asset.id)


async def test_deleting_and_storing_the_same_bytes_at_once_leaves_both_or_neither(house: House) -> None:
    content = VIDEO[:500]
    for turn in range(20):
        asset = await house.whole(content, upload_id=f"first {turn}")
        await asyncio.gather(house.delete(asset.id), house.whole(content, upload_id=f"second {turn}"))
        rows, objects = await house.rows(assets), await house.objects()
        assert len(rows) == len(objects)
        if rows:
            await house.delete(asset.id)
