"""The same Timeline for another job: what was analysed once is rendered again with other settings.

A Timeline names the objects that it is made of. They are copied, and the copy names the copies: the job that was
analysed may be deleted the next moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from masquerade.timeline import Timeline, TimelineFormatError, read_timeline, write_timeline
from services.common.errors import InvalidSpec, ObjectCorrupt, ObjectMissing
from services.common.store.objects import ObjectInfo, ObjectStore
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.keys import job_prefix

AT_ONCE: Final = 4
"""Shards copied at the same time: each is one file of some hundred kilobytes."""


async def adopt_timeline(
    store: ObjectStore, *, tenant: str, source: str, target: str, result: JsonObject
) -> JsonObject:
    """Copy what analysis found from a job to another one. Done again it finds its own copies.

    Args:
        store: of both.
        tenant: of both.
        source: id of the job that was analysed.
        target: id of the job that renders again.
        result: of the source, as its workflow answered it.

    Returns:
        `timeline`, a reference to the copy, and its `summary`.

    Raises:
        ObjectMissing: the source's Timeline, or a part of it, is gone.
        ObjectCorrupt: it is not what was written.
    """
    known: Any = result.get("timeline_object")
    if not known:
        raise ObjectMissing(key=f"the Timeline of {source}")
    there, here = (job_prefix(tenant=tenant, job=job) for job in (source, target))
    moved = _Moving(there, here)
    timeline = await _read(store, str(known["key"]), str(known["digest"]))
    copied = replace(
        timeline,
        segments=tuple(replace(each, key=moved.key(each.key)) for each in timeline.segments),
        textures_key=moved.key(timeline.textures_key) if timeline.textures_key else "",
    )
    gate = asyncio.Semaphore(AT_ONCE)
    parts = _parts(timeline).items()
    copying = [asyncio.ensure_future(_copy(store, key, moved.key(key), digest, gate)) for key, digest in parts]
    try:
        await asyncio.gather(*copying)
    finally:
        for each in copying:
            each.cancel()
    # Last: a Timeline that is there is whole.
    stored = await store.put_bytes(moved.key(str(known["key"])), write_timeline(copied))
    return {"timeline": _reference(stored), "summary": result["timeline"]}


def check_same_video(adopted: Mapping[str, Any], index: Mapping[str, Any]) -> None:
    """Refuse a Timeline of another video.

    Args:
        adopted: as `adopt_timeline` answered it.
        index: of the video that is to be rendered, as ingest.Index answered it.

    Raises:
        InvalidSpec: their frames are not as many.
    """
    seen, frames = adopted["summary"]["frames"], index["info"]["frames"]
    if seen != frames:
        problem = f"it has {frames} frames, and the Timeline is of one with {seen}"
        raise InvalidSpec(field="spec.asset_id", problem=problem)


class _Moving:
    """From below one job to below another."""

    def __init__(self, there: str, here: str) -> None:
        self._there, self._here = there, here

    def key(self, key: str) -> str:
        # A Timeline is read from the store, and trusted with nothing: only what is the source's own is copied.
        if not key.startswith(self._there):
            raise ObjectCorrupt(key=key)
        return self._here + key.removeprefix(self._there)


def _parts(timeline: Timeline) -> dict[str, str]:
    """Keys and digests of what a Timeline is made of."""
    parts = {each.key: each.digest for each in timeline.segments}
    return parts | ({timeline.textures_key: timeline.textures_digest} if timeline.textures_key else {})


async def _read(store: ObjectStore, key: str, digest: str) -> Timeline:
    stored = await store.stat(key)
    if stored is None:
        raise ObjectMissing(key=key)
    if stored.digest != digest:
        raise ObjectCorrupt(key=key, found=stored.digest, expected=digest)
    try:
        return read_timeline(await store.get_bytes(key))
    except TimelineFormatError as error:
        raise ObjectCorrupt(key=key) from error


async def _copy(store: ObjectStore, key: str, target: str, digest: str, gate: asyncio.Semaphore) -> None:
    """From file to file: a shard is never held in memory."""
    async with gate, store.local_path(key) as path:
        copied = await store.put_file(target, path)
    if copied.digest != digest:
        raise ObjectCorrupt(key=key, found=copied.digest, expected=digest)


def _reference(stored: ObjectInfo) -> JsonObject:
    return {"key": stored.key, "digest": stored.digest, "size_bytes": stored.bytes}
