"""A Timeline comes to another job whole, and stands without the job that it came from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masquerade.timeline import ShardRef, Timeline, read_timeline, write_timeline
from services.common.errors import InvalidSpec, ObjectCorrupt, ObjectMissing
from services.common.store.folder import FolderStore
from services.orchestrator.rerendering import adopt_timeline, check_same_video

SOURCE, TARGET = "anna/jobs/job_a/", "anna/jobs/job_b/"
LINK = "link/000000-aa"


async def analysed(store: FolderStore, *, shards: int = 3, **changes: Any) -> dict[str, Any]:
    """The result of a job whose Timeline lies in the store."""
    refs = []
    for number in range(shards):
        part = await store.put_bytes(f"{SOURCE}{LINK}-parts/shard-{number:06d}", b"rows %d" % number)
        refs.append(ShardRef(number, 8 * number, 8 * number + 8, part.key, part.digest, 0))
    textures = await store.put_bytes(f"{SOURCE}{LINK}-parts/textures", b"looks")
    timeline = Timeline(64, 48, 8 * shards, segments=tuple(refs), tracks=(), people=(), cuts=(8,))
    looks = {"textures_key": textures.key, "textures_digest": textures.digest}
    timeline = replace(timeline, **{**looks, **changes})
    stored = await store.put_bytes(f"{SOURCE}{LINK}", write_timeline(timeline))
    reference = {"key": stored.key, "digest": stored.digest, "size_bytes": stored.bytes}
    return {"timeline_object": reference, "timeline": {"frames": 8 * shards, "people": []}}


async def adopt(store: FolderStore, result: dict[str, Any]) -> Any:
    return await adopt_timeline(store, tenant="anna", source="job_a", target="job_b", result=result)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Empty."""
    return FolderStore(tmp_path)


async def test_the_copy_names_its_own_parts_and_stands_when_the_source_is_deleted(store: FolderStore) -> None:
    result = await analysed(store)
    before = read_timeline(await store.get_bytes(f"{SOURCE}{LINK}"))
    adopted = await adopt(store, result)
    await store.delete_prefix(SOURCE)
    content = await store.get_bytes(adopted["timeline"]["key"])
    assert hashlib.sha256(content).hexdigest() == adopted["timeline"]["digest"]
    copy = read_timeline(content)
    assert [each.digest for each in copy.segments] == [each.digest for each in before.segments]
    assert [each.key for each in copy.segments] == [
        f"{TARGET}{LINK}-parts/shard-{number:06d}" for number in range(len(before.segments))
    ]
    for each in copy.segments:
        assert hashlib.sha256(await store.get_bytes(each.key)).hexdigest() == each.digest
    assert await store.get_bytes(copy.textures_key) == b"looks"
    assert (copy.cuts, copy.frames) == (before.cuts, before.frames)
    assert adopted["summary"] == result["timeline"]


async def test_done_again_it_gives_the_same(store: FolderStore) -> None:
    result = await analysed(store)
    first = await adopt(store, result)
    await store.delete(f"{TARGET}{LINK}-parts/shard-000001")
    assert await adopt(store, result) == first
    assert await store.stat(f"{TARGET}{LINK}-parts/shard-000001") is not None


async def test_without_textures_none_are_copied(store: FolderStore) -> None:
    result = await analysed(store, textures_key="", textures_digest="")
    adopted = await adopt(store, result)
    assert read_timeline(await store.get_bytes(adopted["timeline"]["key"])).textures_key == ""


async def test_a_part_that_is_gone_is_named_and_no_half_timeline_appears(store: FolderStore) -> None:
    result = await analysed(store)
    await store.delete(f"{SOURCE}{LINK}-parts/shard-000001")
    with pytest.raises(ObjectMissing) as caught:
        await adopt(store, result)
    assert caught.value.fields["key"].endswith("shard-000001")
    assert await store.stat(f"{TARGET}{LINK}") is None


@pytest.mark.parametrize("result", [{}, {"timeline_object": None}])
async def test_a_job_without_a_timeline_has_none_to_give(store: FolderStore, result: dict[str, Any]) -> None:
    with pytest.raises(ObjectMissing):
        await adopt(store, result)


async def test_a_timeline_that_is_gone_or_another_one_is_refused(store: FolderStore) -> None:
    result = await analysed(store)
    other = {**result, "timeline_object": {**result["timeline_object"], "digest": "00"}}
    with pytest.raises(ObjectCorrupt):
        await adopt(store, other)
    await store.delete(f"{SOURCE}{LINK}")
    with pytest.raises(ObjectMissing):
        await adopt(store, result)


async def test_a_timeline_that_names_what_is_not_its_own_takes_nothing(store: FolderStore) -> None:
    foreign = await store.put_bytes("berta/jobs/job_x/link/secret", b"of another tenant")
    result = await analysed(store, textures_key=foreign.key, textures_digest=foreign.digest)
    with pytest.raises(ObjectCorrupt):
        await adopt(store, result)
    assert await store.list(TARGET) == []


def test_a_timeline_of_another_video_is_refused() -> None:
    check_same_video({"summary": {"frames": 24}}, {"info": {"frames": 24}})
    with pytest.raises(InvalidSpec):
        check_same_video({"summary": {"frames": 24}}, {"info": {"frames": 25}})
