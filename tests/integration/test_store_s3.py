"""The bucket store on a real S3 that checks signatures: Ceph's gateway."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from minio import Minio

from services.common import errors
from services.common.store.s3 import PART_BYTES, Bucket, S3Store
from tests.support.ceph import Gateway, ceph_gateway, is_installed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(150),
    pytest.mark.skipif(
        not is_installed(), reason="Ceph's gateway is absent: apt-get install radosgw ceph-mon ceph-osd"
    ),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with ceph_gateway(tmp_path_factory.mktemp("ceph")) as gateway:
        client = Minio(gateway.endpoint, gateway.access_key, gateway.secret_key, secure=False)
        client.make_bucket("bucket")
        yield gateway


def bucket_of(gateway: Gateway, *, secret: str | None = None, name: str = "bucket") -> Bucket:
    return Bucket(gateway.endpoint, name, gateway.access_key, secret or gateway.secret_key, is_secure=False)


@pytest.fixture
async def store(gateway: Gateway, tmp_path: Path) -> AsyncIterator[S3Store]:
    store = S3Store(bucket_of(gateway), cache=tmp_path)
    yield store
    await store.delete_prefix("t")
    await store.close()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_objects_come_back_as_they_went(store: S3Store, tmp_path: Path) -> None:
    content = b"0123456789abcdef" * (PART_BYTES // 16) + b"in two parts"
    (tmp_path / "large").write_bytes(content)
    assert (await store.put_file("t/large", tmp_path / "large")).digest == sha(content)
    assert (await store.put_bytes("t/small", b"")).bytes == 0
    assert await store.get_bytes("t/small") == b""
    async with store.local_path("t/large") as path:
        assert sha(path.read_bytes()) == sha(content)
    assert [(info.key, info.bytes) for info in await store.list("t")] == [("t/large", len(content)), ("t/small", 0)]
    assert await store.stat("t/none") is None
    with pytest.raises(errors.ObjectMissing):
        await store.get_bytes("t/none")
    assert await store.delete_prefix("t") == 2
    assert await store.list("t") == []


async def test_of_many_writers_at_once_the_server_lets_one_win(
    gateway: Gateway, store: S3Store, tmp_path: Path
) -> None:
    """Each with a store of its own, so that only the server can decide."""
    stores = [S3Store(bucket_of(gateway), cache=tmp_path) for _ in range(4)]
    told = await asyncio.gather(*(store.put_bytes("t/raced", bytes([n]) * 5000) for n, store in enumerate(stores)))
    for one in stores:
        await one.close()
    assert len({info.digest for info in told}) == 1
    assert sha(await store.get_bytes("t/raced")) == told[0].digest


async def test_a_wrong_secret_and_a_wrong_bucket_are_settings_to_mend(gateway: Gateway, tmp_path: Path) -> None:
    for bucket in (bucket_of(gateway, secret="wrong"), bucket_of(gateway, name="elsewhere")):
        store = S3Store(bucket, cache=tmp_path)
        with pytest.raises(errors.InvalidSetting):
            await store.put_bytes("t/a", b"one")
        await store.close()
