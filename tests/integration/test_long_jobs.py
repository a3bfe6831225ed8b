"""A job of very many segments, and one that outlives its software: real rows, real engine, peers that are toys."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hashlib
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from masquerade.v1 import job_pb2 as pb
from services.common.store.folder import FolderStore
from services.orchestrator import app
from services.orchestrator.engine.dbos_engine import DbosSettings
from tests.support.jobs_house import JobsHouse, blurred, jobs_house
from tests.support.toy_peers import SEGMENTS, StoringPeers

MiB = 1 << 20
FRAMES = 8
"""In each segment."""


class ManySegments(StoringPeers):
    """A video of as many segments as are wanted."""

    def __init__(self, store: FolderStore, segments: int) -> None:
        super().__init__(store)
        self._segments = segments

    def _index(self, request: Any) -> Any:
        answer = super()._index(request)
        answer["info"]["frames"] = FRAMES * self._segments
        return answer

    def _plan(self, request: Any) -> Any:
        ranges = [{"first": FRAMES * n, "last": FRAMES * (n + 1)} for n in range(self._segments)]
        return {**super()._plan(request), "segments": [{"number": n, "frames": each} for n, each in enumerate(ranges)]}

    def _rendersegment(self, request: Any) -> Any:
        # The digest as the store has it: what is assembled is what was stored.
        return {**super()._rendersegment(request), "frames": FRAMES}


def rendered(folder: Path) -> int:
    return len(list(folder.glob("objects/anna/jobs/*/render/*/sha256-*")))


def counted(path: Path, *tables: str) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}


@contextlib.asynccontextmanager
async def house(folder: Path, segments: int) -> AsyncIterator[JobsHouse]:
    peers = ManySegments(FolderStore(folder / "objects"), segments)
    async with jobs_house(folder, peers=peers, segments_at_once=16, sweep_s=3600) as opened:
        yield opened


async def reached(folder: Path, segments: int, *, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while rendered(folder) < segments:  # noqa: ASYNC110  files ring no bell
            await asyncio.sleep(0.02)


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize(
    ("segments", "seconds"),
    [(240, 40), pytest.param(1000, 300, marks=[pytest.mark.soak, pytest.mark.timeout(500)])],
)
async def test_a_job_of_many_segments_is_replayed_soon_and_takes_no_more_memory(
    segments: int, seconds: float, tmp_path: Path
) -> None:
    async with house(tmp_path, segments) as first:
        spec = await blurred(first)
        job = (await first.create(spec, "long")).id
        await reached(tmp_path, segments // 4, seconds=seconds)
        early = resident()
        await reached(tmp_path, segments // 2, seconds=seconds)
    found = rendered(tmp_path)
    assert found < segments
    async with house(tmp_path, segments) as second:
        opened = time.monotonic()
        await reached(tmp_path, found + 1, seconds=30)
        replay_s = time.monotonic() - opened
        ended = await second.ended(job, seconds=seconds)
        assert ended.state == pb.JOB_STATE_SUCCEEDED
        grown = resident() - early
        again = len(second.peers.of("compositor.RenderSegment"))
        told = [each.sequence for each in await second.watched(job)]
    print(f"{segments} segments: replay {replay_s:.2f} s, {grown / MiB:.1f} MiB more, {found + again - segments} again")
    assert replay_s < 15
    assert grown < 32 * MiB
    # Those in flight when it was closed.
    assert found + again <= segments + 2 * 16
    # A row a segment and a state; watched once, each is told once.
    states = 7
    assert counted(tmp_path / "records.sqlite", "jobs", "job_events") == {"jobs": 1, "job_events": segments + states}
    assert len(told) == len(set(told)) == segments + states
    chunks = -(-segments // 100)
    runs = {"workflow_status": segments + chunks + 1, "workflow_output": segments + chunks + 1}
    assert counted(tmp_path / "jobs.sqlite", *runs) == runs
    # Of the segments, and file, artifact, record and report.
    assert len(await second.objects(job)) == segments + 4


async def test_a_job_of_an_older_software_fails_by_rule_and_is_taken_up_from_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys = StoringPeers(FolderStore(tmp_path / "objects"))
    async with jobs_house(tmp_path, peers=toys) as old:
        spec = await blurred(old)
        assembling = toys.hold("compositor.Assemble")
        job = (await old.create(spec, "older")).id
        await asyncio.wait_for(assembling.wait(), 20)
    toys.let_go("compositor.Assemble")
    kept = {name: hashlib.sha256(name.encode()) for name in await old.objects(job) if name.startswith("render/")}
    assert len(kept) == len(SEGMENTS)
    monkeypatch.setattr(app, "DbosSettings", functools.partial(DbosSettings, version="a-later-one"))
    async with jobs_house(tmp_path, peers=toys) as new:
        failed = await new.ended(job, seconds=20)
        assert failed.state == pb.JOB_STATE_FAILED
        assert "retry" in failed.failure.remedy
        assert kept.keys() <= set(await new.objects(job)), "what was finished is gone"
        await new.ask("RetryJob", pb.RetryJobRequest(id=job))
        assert (await new.ended(job, seconds=20)).state == pb.JOB_STATE_SUCCEEDED
        assert {name for name in await new.objects(job) if name.startswith("render/")} == kept.keys()
