"""Many jobs of three tenants, cancelled and taken up at random: all end, none twice, and no place stays taken."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from masquerade.v1 import job_pb2 as pb
from masquerade.v1 import orchestrator_pb2
from services.common.audit.verify import verify
from services.common.errors import JobStateForbids
from services.common.records.tables import jobs
from tests.support.jobs_house import ENDED, JobsHouse, jobs_house
from tests.support.postgres import PostgresServer, requires_postgres

TENANTS = "aaab"
"""One has three times as many as the other."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=requires_postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """A database; empty for the data folder's own."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


async def _one(house: JobsHouse, chance: random.Random, tenant: str, request: str) -> str:
    """A job and what its owner does to it."""
    await asyncio.sleep(chance.random())
    spec = pb.JobSpec(asset_key=f"{tenant}/assets/v")
    asked = orchestrator_pb2.SubmitRequest(tenant=tenant, request_id=request, spec=spec)
    job = str((await house.inner.Submit(asked)).job.id)
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(chance.random())
        try:
            if chance.random() < 0.5:
                await house.ask("CancelJob", pb.CancelJobRequest(id=job), who=tenant)
            else:
                await house.ask("RetryJob", pb.RetryJobRequest(id=job), who=tenant)
        except JobStateForbids:
            continue
    return job


async def _storm(folder: Path, url: str, *, count: int, seed: int) -> None:
    chance = random.Random(seed)
    async with jobs_house(folder, url=url, jobs_at_once=4, tenant_jobs=3) as house:
        for tenant in set(TENANTS):
            await house.store.put_bytes(f"{tenant}/assets/v", b"v")
        tenants = [chance.choice(TENANTS) for _ in range(count)]
        made = await asyncio.gather(*(_one(house, chance, who, f"r{n}") for n, who in enumerate(tenants)))
        assert len(set(made)) == count
        states = Counter[int]()
        for who, job in zip(tenants, made, strict=True):
            ended = await house.ended(job, who=who, seconds=60)
            states[ended.state] += 1
            told = [place.sequence for place in await house.watched(job, who=who)]
            assert told == sorted(set(told))
            for attempt in {change.attempt for change in ended.history}:
                way = [change.state for change in ended.history if change.attempt == attempt]
                assert (way[0], way == sorted(way)) == (pb.JOB_STATE_QUEUED, True)
                assert sum(state in ENDED for state in way) == 1, "an attempt ends once"
        assert states[pb.JOB_STATE_FAILED] == 0
        assert (await verify(house.records)).broken is None, "the audit log has a gap or a fork"
        taken = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.is_admitted)
        async with asyncio.timeout(10):
            while True:
                if not await house.records.read(lambda connection: connection.execute(taken).scalar()):
                    break
                await asyncio.sleep(0.1)


async def test_a_storm_of_jobs_ends_well(tmp_path: Path, url: str) -> None:
    await _storm(tmp_path, url, count=12, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(4))
async def test_a_long_storm_of_jobs_ends_well(tmp_path: Path, url: str, seed: int) -> None:
    await _storm(tmp_path, url, count=80, seed=seed)
