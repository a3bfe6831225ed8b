"""The bucket store: the same promises as the folder's, on a server that can be told to misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.common import errors
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.common.store.opening import open_store
from services.common.store.s3 import COPY_S, PART_BYTES, Bucket, S3Store
from tests.support import s3_server


@pytest.fixture
def server() -> Iterator[s3_server.Bucket]:
    with s3_server.s3_server() as bucket:
        yield bucket


@pytest.fixture
async def store(server: s3_server.Bucket, tmp_path: Path) -> AsyncIterator[S3Store]:
    bucket = Bucket(server.endpoint, "bucket", "key", "secret", is_secure=False)
    store = S3Store(bucket, cache=tmp_path / "cache", cache_bytes=10_000)
    yield store
    await store.close()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_what_is_put_is_got(store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"frames")
    info = await store.put_file("t/a", tmp_path / "a")
    assert (info.digest, info.bytes) == (sha(b"frames"), 6)
    assert await store.stat("t/a") == info
    assert await store.get_bytes("t/a") == b"frames"
    async with store.local_path("t/a") as path:
        assert path.read_bytes() == b"frames"


async def test_a_large_file_goes_in_parts_and_appears_once(
    store: S3Store, server: s3_server.Bucket, tmp_path: Path
) -> None:
    content = b"0123456789abcdef" * (PART_BYTES // 16) + b"the end"
    (tmp_path / "large").write_bytes(content)
    first = await store.put_file("t/large", tmp_path / "large")
    assert first.digest == sha(server.objects["t/large"][0]) == sha(content)
    assert any("uploadId=" in request for request in server.requests)
    server.objects["t/raced"] = server.objects.pop("t/large")
    server.before_write.append(("t/large", b"another was quicker"))
    assert (await store.put_file("t/large", tmp_path / "large")).digest == sha(b"another was quicker")
    assert server.uploads == {}


async def test_the_first_writer_of_a_key_wins_even_in_a_race(store: S3Store, server: s3_server.Bucket) -> None:
    first = await store.put_bytes("t/a", b"one")
    assert await store.put_bytes("t/a", b"another") == first
    server.before_write.append(("t/b", b"quicker"))
    assert (await store.put_bytes("t/b", b"slower")).digest == sha(b"quicker")
    assert await store.get_bytes("t/b") == b"quicker"


async def test_a_server_that_knows_no_conditions_still_keeps_what_is_there(
    store: S3Store, server: s3_server.Bucket
) -> None:
    server.knows_conditions = False
    first = await store.put_bytes("t/a", b"one")
    assert await store.put_bytes("t/a", b"another") == first


async def test_a_damaged_object_is_found(store: S3Store, server: s3_server.Bucket) -> None:
    await store.put_bytes("t/a", b"one")
    server.objects["t/a"] = (b"onE", server.objects["t/a"][1])
    with pytest.raises(errors.ObjectCorrupt):
        await store.get_bytes("t/a")
    with pytest.raises(errors.ObjectCorrupt):
        async with store.local_path("t/a"):
            pass


async def test_lists_and_deletes_reach_just_what_is_below(store: S3Store) -> None:
    for key in ("t/jobs/job_1/b", "t/jobs/job_1/a", "t/jobs/job_10/c"):
        await store.put_bytes(key, b"x")
    assert [info.key for info in await store.list("t/jobs/job_1")] == ["t/jobs/job_1/a", "t/jobs/job_1/b"]
    assert await store.delete_prefix("t/jobs/job_1") == 2
    await store.delete("t/jobs/none")
    assert [info.key for info in await store.list("t")] == ["t/jobs/job_10/c"]


async def test_many_readers_fetch_once_and_the_cache_is_bounded(
    store: S3Store, server: s3_server.Bucket, tmp_path: Path
) -> None:
    for name in "abc":
        await store.put_bytes(f"t/{name}", name.encode() * 4000)

    async def read(name: str) -> int:
        async with store.local_path(f"t/{name}") as path:
            await asyncio.sleep(0.05)
            return len(path.read_bytes())

    assert await asyncio.gather(*(read(name) for name in "abcabcabc")) == [4000] * 9
    assert sum(request.startswith("GET /bucket/t/") for request in server.requests) == 3
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 10_000


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "INVALID_SETTING"),
        (404, "NoSuchBucket", "INVALID_SETTING"),
        (507, "XMinioStorageFull", "NO_SPACE"),
        (400, "SomethingElse", "UNAVAILABLE"),
    ],
)
async def test_a_servers_refusal_is_a_typed_error(
    store: S3Store, server: s3_server.Bucket, status: int, code: str, reason: str
) -> None:
    server.fails_with = (status, code)
    with pytest.raises(errors.MasqueradeError) as raised:
        await store.get_bytes("t/a")
    assert raised.value.reason == reason


async def test_an_absent_server_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3Store(Bucket("127.0.0.1:1", "bucket", "key", "secret", is_secure=False), cache=tmp_path)
    with pytest.raises(errors.Unavailable):
        await store.get_bytes("t/a")
    await store.close()


async def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    assert isinstance(open_store(ServiceSettings(data=tmp_path)), FolderStore)
    with pytest.raises(errors.InvalidSetting):
        open_store(ServiceSettings(data=tmp_path, store="s3"))
    store = open_store(ServiceSettings(data=tmp_path, store="s3", s3_endpoint="localhost:9000"))
    assert isinstance(store, S3Store)
    await store.close()


async def test_a_local_copy_goes_with_its_object(store: S3Store, tmp_path: Path) -> None:
    for key in ("t/a/x", "t/a/y", "t/b"):
        await store.put_bytes(key, key.encode())
        async with store.local_path(key):
            pass
    assert len(list((tmp_path / "cache").iterdir())) == 3
    await store.delete_prefix("t/a")
    (left,) = (tmp_path / "cache").iterdir()
    assert left.read_bytes() == b"t/b"
    async with store.local_path("t/b") as path:
        await store.delete("t/b")
        assert not path.exists()
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(errors.ObjectMissing):
        async with store.local_path("t/b"):
            pass


async def test_a_local_copy_does_not_stay_for_ever(store: S3Store, tmp_path: Path) -> None:
    for key in ("t/a", "t/b"):
        await store.put_bytes(key, b"frames")
    async with store.local_path("t/a") as path:
        old = time.time() - COPY_S - 60
        os.utime(path, (old, old))
    async with store.local_path("t/b"):
        pass
    assert len(list((tmp_path / "cache").iterdir())) == 1
