"""Cancelling in every stage: the conductor that works is told over the wire, and nothing stays that nobody owns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
import pytest_asyncio

from masquerade.v1 import job_pb2 as pb
from services.common.store.folder import FolderStore
from tests.support.jobs_house import JobsHouse, faced, jobs_house
from tests.support.toy_conductors import conductors
from tests.support.toy_peers import StoringPeers

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOLD_WITHIN_S = 2.0
STAGES = {
    "ingest.Index": pb.JOB_STATE_ANALYSING,
    "detector.AnalyseSegment": pb.JOB_STATE_ANALYSING,
    "detector.Link": pb.JOB_STATE_LINKING,
    "compositor.RenderSegment": pb.JOB_STATE_RENDERING,
    "compositor.Assemble": pb.JOB_STATE_ASSEMBLING,
    "compositor.Verify": pb.JOB_STATE_VERIFYING,
    "compositor.Finalise": pb.JOB_STATE_PUBLISHING,
}


@dataclass(frozen=True, slots=True)
class Wired:
    """A house whose peers are toys at the other end of a wire."""

    jobs: JobsHouse
    toys: StoringPeers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wired]:
    """What failed and was cancelled is swept at once: nobody is to wait for a day."""
    folder = tmp_path_factory.mktemp("house")
    toys = StoringPeers(FolderStore(folder / "objects"))
    async with (
        conductors(toys) as peers,
        jobs_house(folder, peers=cast(Any, peers), abandoned_hours=0, sweep_s=0.5, tenant_jobs=1) as opened,
    ):
        yield Wired(opened, toys)


async def cancelled(house: Wired, job: str) -> pb.Job:
    answer: pb.Job = (await house.jobs.ask("CancelJob", pb.CancelJobRequest(id=job))).job
    return answer


async def stands_at(house: Wired, job: str, reached: asyncio.Event) -> None:
    """Wait until a held conductor was asked; says where the job is if it never was."""
    try:
        async with asyncio.timeout(15):
            await reached.wait()
    except TimeoutError:
        last = house.toys.asked[-1][0] if house.toys.asked else "nobody"
        raise AssertionError(f"{last} was asked last, and now: {await house.jobs.get(job)}") from None


async def swept(house: Wired, job: str) -> bool:
    """Whether nothing of a job is left, some sweeps later."""
    deadline = time.monotonic() + 10
    while await house.jobs.objects(job):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


@pytest.mark.parametrize("rpc", STAGES)
async def test_a_job_that_is_cancelled_stops_its_conductor_and_leaves_no_orphan(house: Wired, rpc: str) -> None:
    took = []
    for attempt in range(3):
        reached = house.toys.hold(rpc)
        house.toys.cancelled.clear()
        spec, _ = await faced(house.jobs, f"{rpc} {attempt}".encode())
        job = (await house.jobs.create(spec, f"{rpc} {attempt}")).id
        await stands_at(house, job, reached)
        assert (await house.jobs.get(job)).state == STAGES[rpc]
        begun = time.monotonic()
        answering = asyncio.create_task(cancelled(house, job))
        while rpc not in house.toys.cancelled:
            assert time.monotonic() - begun < 10, "the conductor was never told"
            await asyncio.sleep(0.01)
        took.append(time.monotonic() - begun)
        assert (await answering).state == pb.JOB_STATE_CANCELLED
        house.toys.let_go(rpc)
        asked = len(house.toys.asked)
        assert await swept(house, job), await house.jobs.objects(job)
        assert len(house.toys.asked) == asked, "something went on"
        assert (await house.jobs.get(job)).state == pb.JOB_STATE_CANCELLED
        if took[-1] < TOLD_WITHIN_S:
            return
    raise AssertionError(f"told after {took} s")


async def test_a_job_that_waits_is_cancelled_before_anybody_is_asked(house: Wired) -> None:
    reached = house.toys.hold("ingest.Index")
    first = (await house.jobs.create((await faced(house.jobs, b"first"))[0], "first")).id
    await stands_at(house, first, reached)
    asked = len(house.toys.asked)
    waiting = (await house.jobs.create((await faced(house.jobs, b"waiting"))[0], "waiting")).id
    assert (await house.jobs.get(waiting)).state == pb.JOB_STATE_QUEUED
    begun = time.monotonic()
    assert (await cancelled(house, waiting)).state == pb.JOB_STATE_CANCELLED
    assert time.monotonic() - begun < TOLD_WITHIN_S
    house.toys.let_go("ingest.Index")
    assert (await house.jobs.ended(first)).state == pb.JOB_STATE_SUCCEEDED
    assert all(waiting not in str(request) for _, request in house.toys.asked[asked:])
    assert await house.jobs.objects(waiting) == []
    assert (await house.jobs.get(waiting)).state == pb.JOB_STATE_CANCELLED
