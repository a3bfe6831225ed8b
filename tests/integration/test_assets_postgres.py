"""Assets on a real PostgreSQL: what several replicas do at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from masquerade.v1 import asset_pb2 as pb
from services.common import errors
from services.common.records.database import Records
from services.common.records.tables import assets, audit, uploads
from services.common.store.folder import FolderStore
from tests.support.asset_house import PART, VIDEO, House, begin, chunks, finish, serving, some_bytes, whole
from tests.support.postgres import PostgresServer, requires_postgres

pytestmark = requires_postgres
TENANT_BYTES = 1 << 20


@pytest.fixture
async def replicas(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[list[House]]:
    url, store = postgres.new_database(), FolderStore(tmp_path / "objects")
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in ("1", "2", "3"):
            records = Records(url)
            stack.push_async_callback(records.close)
            door = serving(tmp_path / name, store, records, tenant_bytes=TENANT_BYTES)
            made.append(await stack.enter_async_context(door))
        yield made


async def test_replicas_together_let_no_more_in_than_a_tenant_may_store(replicas: list[House]) -> None:
    large = bytes(TENANT_BYTES // 4 + 1)
    begun = (house.upload(begin(large, f"u{number}")) for number in range(5) for house in replicas)
    answers = await asyncio.gather(*begun, return_exceptions=True)
    # Each id was begun three times, which counts once.
    assert len(await replicas[0].rows(uploads)) == 3
    assert {type(answer) for answer in answers} == {pb.UploadAssetResponse, errors.QuotaExceeded}


async def test_replicas_that_store_the_same_bytes_at_once_agree(replicas: list[House]) -> None:
    for turn in range(4):
        content = some_bytes(2 * PART + 9, seed=turn)
        same = [house.upload(*whole(content, upload_id=f"same {turn}")) for house in replicas]
        other = [house.upload(*whole(content, upload_id=f"{turn} {number}")) for number, house in enumerate(replicas)]
        answers = await asyncio.gather(*same, *other)
        assert len({answer.asset.id for answer in answers}) == 1
    assert len(await replicas[0].rows(assets)) == 4
    assert len(await replicas[0].objects()) == 4
    assert [row.action for row in await replicas[0].rows(audit)] == ["asset.stored"] * 4


async def test_replicas_that_delete_and_store_the_same_bytes_at_once_leave_both_or_neither(
    replicas: list[House],
) -> None:
    content = VIDEO[:700]
    for turn in range(15):
        asset = await replicas[0].whole(content, upload_id=f"first {turn}")
        await asyncio.gather(
            replicas[1].delete(asset.id),
            replicas[2].whole(content, upload_id=f"second {turn}"),
            replicas[0].whole(content, upload_id=f"third {turn}"),
        )
        rows, objects = await replicas[0].rows(assets), await replicas[0].objects()
        assert len(rows) == len(objects)
        if rows:
            await replicas[0].delete(asset.id)


async def test_an_upload_wanders_from_replica_to_replica(replicas: list[House]) -> None:
    for number, house in enumerate(replicas):
        assert await house.confirmed(VIDEO) == number * PART
        await house.upload(begin(VIDEO), *chunks(VIDEO[: (number + 1) * PART + 5], first=number * PART))
    answer = await replicas[0].upload(begin(VIDEO), *chunks(VIDEO, first=3 * PART), finish(VIDEO))
    pieces = await replicas[1].download(answer.asset.id)
    assert b"".join(piece.chunk for piece in pieces) == VIDEO
