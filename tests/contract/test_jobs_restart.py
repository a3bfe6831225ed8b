"""Jobs over a restart of the orchestrator, on both databases; and a watcher at a replica that runs nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from masquerade.v1 import job_pb2 as pb
from services.common.records.database import Records
from services.orchestrator.progress import Board, JobState
from services.orchestrator.watching import watch
from tests.support.jobs_house import JobsHouse, blurred, faced, jobs_house
from tests.support.postgres import PostgresServer, requires_postgres


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=requires_postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """A database; empty for the data folder's own."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


async def test_a_restart_takes_up_what_was_running_and_what_was_waiting(tmp_path: Path, url: str) -> None:
    async with jobs_house(tmp_path, url=url, tenant_jobs=1) as first:
        rendering = first.peers.hold("compositor.RenderSegment")
        running = (await first.create(await blurred(first, content=b"running"), "running")).id
        await asyncio.wait_for(rendering.wait(), 10)
        waiting = (await first.create(await blurred(first, content=b"waiting"), "waiting")).id
        before = await _so_far(first, running)
        assert (await first.get(waiting)).state == pb.JOB_STATE_QUEUED
    async with jobs_house(tmp_path, url=url, tenant_jobs=1) as second:
        assert (await second.ended(running)).state == pb.JOB_STATE_SUCCEEDED
        assert (await second.ended(waiting)).state == pb.JOB_STATE_SUCCEEDED
        after = [each.sequence for each in await second.watched(running)]
        assert after[: len(before)] == before, "what was told before is told again in the same way"
        assert len(second.peers.of("ingest.Index")) == 1, "the step that had ended is not done again"


async def test_a_job_is_watched_at_a_replica_that_does_not_run_it(tmp_path: Path, url: str) -> None:
    async with jobs_house(tmp_path, url=url) as house:
        spec, _ = await faced(house, b"elsewhere")
        other = Records(url or f"sqlite:///{tmp_path / 'records.sqlite'}")
        await other.open()
        job = (await house.create(spec, "elsewhere")).id
        async with asyncio.timeout(20):
            told = watch(other, Board(), job, tenant="anna", from_sequence=0)
            seen = [each async for each in told]
        await other.close()
        assert [each.sequence for each in seen] == [each.sequence for each in await house.watched(job)]
        assert (seen[0].state, seen[-1].state) == (JobState.QUEUED, JobState.SUCCEEDED)


async def _so_far(house: JobsHouse, job: str) -> list[int]:
    """Numbers of what a watcher is told until the job stands still at the first segment."""
    call = house.stub.WatchJob(pb.WatchJobRequest(id=job), metadata=(("who", "anna"),), timeout=30)
    seen = []
    async for answer in call:
        seen.append(answer.progress.sequence)
        if answer.progress.state == pb.JOB_STATE_RENDERING:
            break
    call.cancel()
    return seen
