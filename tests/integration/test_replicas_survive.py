"""Real jobs on PostgreSQL with several orchestrators, each service a process of its own: what dies loses nothing."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from masquerade.v1 import errors_pb2, job_pb2, orchestrator_pb2
from masquerade.v1.job_pb2_grpc import JobServiceStub
from services.common import errors
from tests.clips import make_clip
from tests.e2e.ports import free_ports
from tests.support.callers import bearer
from tests.support.cluster import Cluster, cluster, until
from tests.support.engine_process import executions, most_at_once, overlaps
from tests.support.postgres import PostgresServer, postgres_server, requires_postgres
from tests.support.watched_compositor import POISON, SLOW

pytestmark = [requires_postgres, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

FRAMES, SEGMENTS = 128, 8
TENANTS = ("anna", "berta")
DEAD_AFTER_S = 3.0
"""Much less than an operator would choose."""

AT_ONCE, OF_A_TENANT = 2, 1
"""Segments in flight in one orchestrator, and of one tenant."""

CAPS = {
    "orchestrator__segments_at_once": AT_ONCE,
    "orchestrator__tenant_segments_at_once": OF_A_TENANT,
    "orchestrator__tenant_jobs": 1,
    "orchestrator__dead_after_s": DEAD_AFTER_S,
    "orchestrator__replicas": 2,
    "compositor__renders": 4,
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=FRAMES, size=(640, 480), audio="aac")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Of this module alone: it is crashed."""
    with postgres_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(server: PostgresServer, clip: Path) -> AsyncIterator[Cluster]:
    """Two orchestrators, and what a job without models needs."""
    database = server.new_database()
    async with cluster(database=database, services=("ingest", "compositor"), orchestrators=2, **CAPS) as running:
        await _put(running, clip)
        yield running


async def _put(running: Cluster, clip: Path) -> None:
    for tenant in TENANTS:
        await running.store.put_file(f"{tenant}/assets/clip", clip)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(house: Cluster) -> str:
    """The digest of all planes, of a job that nobody disturbed."""
    job = await house.at("o0").submit(spec_of("anna"), "undisturbed", tenant="anna")
    report = await house.at("o0").report(job)
    assert (report["frames_in"], report["frames_out"]) == (FRAMES, FRAMES)
    return str(report["plane_digest"])


def spec_of(tenant: str, segments: int = SEGMENTS) -> job_pb2.JobSpec:
    """A label in every frame: something to render, and no model to load."""
    spec = job_pb2.JobSpec(asset_key=f"{tenant}/assets/clip")
    spec.provenance.label = "survives"
    spec.proof.segments = segments
    spec.proof.plane_digests = True
    return spec


def results(server: PostgresServer, running: Cluster, job: str) -> list[tuple[Any, ...]]:
    """What the engine has written down of a job's runs."""
    what = f"""SELECT s.workflow_uuid, s.status, o.output FROM dbos.workflow_status s
               JOIN dbos.workflow_output o USING (workflow_uuid) WHERE s.workflow_uuid LIKE '{job}%' ORDER BY 1"""
    return server.execute(running.environment["MASQUERADE_DATABASE"].rpartition("/")[2], what)


async def public_spec(running: Cluster, tenant: str, *, is_short: bool = False) -> job_pb2.JobSpec:
    """The same job in a caller's words: the clip is an asset of the tenant. A short one keeps a few frames."""
    spec = spec_of(tenant, segments=1 if is_short else SEGMENTS)
    if is_short:
        spec.keep.add(start_ms=0, end_ms=200)
    spec.ClearField("asset_key")
    spec.asset_id = await running.asset(tenant, "clip")
    return spec


async def key(running: Cluster, tenant: str) -> Any:
    """What a caller of a tenant shows."""
    return bearer(await running.key(tenant))


async def create(running: Cluster, name: str, request: job_pb2.CreateJobRequest, tenant: str) -> job_pb2.Job:
    shown = await key(running, tenant)
    answer: job_pb2.Job = (await running.at(name).outer.CreateJob(request, metadata=shown, timeout=30)).job
    return answer


def holder(server: PostgresServer, running: Cluster, job: str) -> str:
    """The orchestrator that runs a job's body."""
    what = f"SELECT executor_id FROM dbos.workflow_status WHERE name = 'job' AND workflow_uuid LIKE '{job}%'"
    ((found,),) = server.execute(running.environment["MASQUERADE_DATABASE"].rpartition("/")[2], what)
    return str(found)


def objects(running: Cluster, job: str) -> dict[str, tuple[int, int, bytes]]:
    """Every object of a job: which file it is, when it was written, and its bytes."""
    found = {}
    for path in running.folder.glob(f"objects/*/jobs/{job}/**/sha256-*"):
        stat = path.stat()
        found[str(path.relative_to(running.folder))] = (stat.st_ino, stat.st_mtime_ns, path.read_bytes())
    return found


def began(running: Cluster, jobs: list[str]) -> int:
    return sum(each.job in jobs for each in executions(running.folder))


async def victims(
    running: Cluster,
    server: PostgresServer,
    *,
    kills: int,
    orchestrators: int,
    jobs_each: int,
    segments: int,
    seed: int,
    seconds: float,
) -> tuple[list[str], list[str], int]:
    """Jobs of two tenants, random orchestrators killed meanwhile; the jobs, their digests, how much was done again."""
    chance = random.Random(seed)
    names = [f"o{number}" for number in range(orchestrators)]
    jobs = {
        await running.at(chance.choice(names)).submit(
            spec_of(tenant, segments), f"{seed} {number}", tenant=tenant
        ): tenant
        for number in range(jobs_each)
        for tenant in TENANTS
    }
    total = segments * len(jobs)
    for kill in range(kills):
        wanted = (kill + 1) * total // (kills + 2)
        await until(lambda wanted=wanted: began(running, list(jobs)) >= wanted, seconds=seconds, what=f"{kill} kills")
        victim = chance.choice(names) if kill else holder(server, running, next(iter(jobs)))
        running.kill(victim)
        if kill % 2:
            # The others take over what it had.
            await asyncio.sleep(DEAD_AFTER_S + 3)
        running.start(victim)
    await running.serving(*names)
    reports = [await running.at(names[0]).report(job, seconds=seconds) for job in jobs]
    found = [each for each in executions(running.folder) if each.job in jobs]
    assert {(each.job, each.segment) for each in found} == {(job, n) for job in jobs for n in range(segments)}
    assert not overlaps(found, {}), "a segment was rendered twice at the same time"
    assert most_at_once(found, {}) <= AT_ONCE * orchestrators, "the processes' caps were not held"
    for tenant in TENANTS:
        own = [each for each in found if jobs[each.job] == tenant]
        assert most_at_once(own, {}) <= OF_A_TENANT * orchestrators, "the tenant's cap was not held"
        _one_after_another(own)
    return list(jobs), [str(report["plane_digest"]) for report in reports], len(found) - total


def _one_after_another(found: list[Any]) -> None:
    """A tenant may have one job in flight: the next one's first segment begins after the last of the one before."""
    spans = {}
    for each in found:
        first, last = spans.get(each.job, (each.began, each.began))
        spans[each.job] = (min(first, each.began), max(last, each.ended or each.began))
    in_order = sorted(spans.values())
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(in_order)), in_order


async def test_jobs_of_two_tenants_survive_a_killed_orchestrator(
    house: Cluster, server: PostgresServer, undisturbed: str
) -> None:
    _, digests, again = await victims(
        house, server, kills=1, orchestrators=2, jobs_each=1, segments=SEGMENTS, seed=1, seconds=40
    )
    assert set(digests) == {undisturbed}
    assert again <= AT_ONCE, "more was done again than was in flight"


async def test_the_same_request_at_two_replicas_at_once_is_one_job(house: Cluster) -> None:
    spec = await public_spec(house, "berta", is_short=True)
    for number in range(3):
        request = job_pb2.CreateJobRequest(request_id=f"twice {number}", spec=spec)
        asking = [create(house, name, request, "berta") for name in ("o0", "o1", "o0", "o1")]
        made = await asyncio.gather(*asking)
        assert len({job.id for job in made}) == 1
    request.spec.provenance.label = "another one"
    with pytest.raises(errors.RequestIdReused):
        await create(house, "o1", request, "berta")
    listed = await house.at("o0").outer.ListJobs(
        job_pb2.ListJobsRequest(), metadata=await key(house, "berta"), timeout=30
    )
    assert sum(job.request_id.startswith("twice") for job in listed.jobs) == 3
    for job in listed.jobs:
        assert (await house.at("o1").ended(job.id)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_watch_goes_on_at_another_replica_and_misses_and_repeats_nothing(house: Cluster) -> None:
    spec = await public_spec(house, "anna")
    job = (await create(house, "o0", job_pb2.CreateJobRequest(request_id="watched", spec=spec), "anna")).id
    seen: list[int] = []
    state = job_pb2.JOB_STATE_QUEUED
    for turn in itertools.count():
        door = house.at(f"o{turn % 2}").outer
        request = job_pb2.WatchJobRequest(id=job, from_sequence=seen[-1] + 1 if seen else 0)
        told = 0
        call = door.WatchJob(request, metadata=await key(house, "anna"), timeout=60)
        async for answer in call:
            seen.append(answer.progress.sequence)
            state = answer.progress.state
            told += 1
            if told == 2 and state < job_pb2.JOB_STATE_SUCCEEDED:
                call.cancel()
                break
        if state >= job_pb2.JOB_STATE_SUCCEEDED:
            break
    assert turn >= 3, "it was hardly ever cut off"
    assert state == job_pb2.JOB_STATE_SUCCEEDED
    assert seen == sorted(set(seen)), "repeated, or out of order"
    for name in ("o0", "o1"):
        whole = house.at(name).outer.WatchJob(
            job_pb2.WatchJobRequest(id=job), metadata=await key(house, "anna"), timeout=30
        )
        written = {answer.progress.sequence async for answer in whole}
        assert len(written) == SEGMENTS + 7, "a place for each segment and each state"
        assert written <= set(seen), "missed"


async def test_watchers_that_never_read_harm_nobody(house: Cluster) -> None:
    spec = await public_spec(house, "anna")
    watching, jobs = [], []
    # Streams of one tenant: as many as it may have.
    async with grpc.aio.insecure_channel(house.public("o0")) as channel:
        stub: Any = JobServiceStub(channel)
        before = house.resident("o0")
        for number, wanted in enumerate((spec, await public_spec(house, "anna", is_short=True))):
            request = job_pb2.CreateJobRequest(request_id=f"unread {number}", spec=wanted)
            jobs.append((await create(house, "o0", request, "anna")).id)
            for _ in range(8):
                request = job_pb2.WatchJobRequest(id=jobs[-1])
                watching.append(stub.WatchJob(request, metadata=await key(house, "anna"), timeout=60))
                await watching[-1].wait_for_connection()
        took = []
        for _ in range(40):
            begin = time.monotonic()
            await house.at("o0").outer.ListJobs(
                job_pb2.ListJobsRequest(), metadata=await key(house, "berta"), timeout=20
            )
            took.append(time.monotonic() - begin)
            await asyncio.sleep(0.05)
        for job in jobs:
            assert (await house.at("o1").ended(job)).state == job_pb2.JOB_STATE_SUCCEEDED
        grown = house.resident("o0") - before
        for call in watching:
            call.cancel()
    print(f"16 unread watches: another tenant's median call {1000 * sorted(took)[20]:.0f} ms, {grown >> 20} MiB")
    assert sorted(took)[20] < 0.5
    assert grown < 32 << 20


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_three_orchestrators_and_ten_kills_lose_nothing(
    server: PostgresServer, clip: Path, undisturbed: str
) -> None:
    settings = {**CAPS, "orchestrator__replicas": 3}
    began_at = time.monotonic()
    async with cluster(
        database=server.new_database(), services=("ingest", "compositor"), orchestrators=3, **settings
    ) as running:
        await _put(running, clip)
        _, digests, again = await victims(
            running, server, kills=10, orchestrators=3, jobs_each=4, segments=16, seed=7, seconds=400
        )
        assert set(digests) == {undisturbed}
        assert again <= 10 * AT_ONCE, "more was done again than was in flight"
        print(f"10 kills, 3 orchestrators: {again} of 128 segments again, {time.monotonic() - began_at:.0f} s")


async def test_a_database_that_crashes_in_the_middle_of_a_real_job_costs_time_alone(
    house: Cluster, server: PostgresServer, undisturbed: str
) -> None:
    job = await house.at("o0").submit(spec_of("anna"), "crash", tenant="anna")
    await until(lambda: len(house.rendered(job)) >= 2, seconds=30, what="the job is on its way")
    await asyncio.to_thread(server.restart, immediate=True, away_s=1.0)
    report = await house.at("o1").report(job)
    assert report["plane_digest"] == undisturbed
    assert began(house, [job]) <= SEGMENTS + 2 * AT_ONCE


async def test_an_orchestrator_that_sleeps_and_wakes_up_changes_nothing_that_was_written(
    house: Cluster, server: PostgresServer, undisturbed: str
) -> None:
    job = await house.at("o0").submit(spec_of("anna"), "sleeper", tenant="anna")
    await until(lambda: len(house.rendered(job)) >= 1, seconds=30, what="the job is on its way")
    sleeper = holder(server, house, job)
    other = "o1" if sleeper == "o0" else "o0"
    house.signal(sleeper, signal.SIGSTOP)
    report = await house.at(other).report(job)
    assert report["plane_digest"] == undisturbed
    assert "it is taken over" in house.said(other)
    written, stored = results(server, house, job), objects(house, job)
    assert sum(status == "SUCCESS" for _, status, _ in written) == SEGMENTS + 1, "a result a segment, and the job's"
    house.signal(sleeper, signal.SIGCONT)
    await house.serving(sleeper)
    # Long enough for what it was doing to end, and to be refused.
    await asyncio.sleep(2)
    assert results(server, house, job) == written, "a late writer changed what was written down"
    assert objects(house, job) == stored, "a late writer changed what was stored"
    assert (await house.at(sleeper).get(job)).state == job_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.slow
async def test_workers_that_are_killed_or_sleep_in_the_middle_of_a_segment_cost_that_segment(
    house: Cluster, undisturbed: str
) -> None:
    with house.slowly():
        job = await house.at("o1").submit(spec_of("anna"), "workers", tenant="anna")
        await until(lambda: len(house.rendered(job)) >= 1 and house.rendering(), seconds=30, what="it renders")
        house.kill("ingest")
        await house.again("ingest")
        await until(lambda: len(house.rendered(job)) >= 3 and house.rendering(), seconds=30, what="it renders again")
        house.kill("compositor")
        await house.again("compositor")
        await until(lambda: len(house.rendered(job)) >= 5 and house.rendering(), seconds=30, what="and again")
        house.signal("compositor", signal.SIGSTOP)
        await asyncio.sleep(1.5)
        house.signal("compositor", signal.SIGCONT)
    assert (await house.at("o0").report(job))["plane_digest"] == undisturbed
    found = [each for each in executions(house.folder) if each.job == job]
    assert len(found) > SEGMENTS, "nobody was disturbed"
    # A segment is tried anew while the other service is away, up to six times.
    assert len(found) <= SEGMENTS + 2 * 6 * AT_ONCE


async def test_a_job_that_is_cancelled_at_another_replica_stops_within_two_seconds(
    house: Cluster, server: PostgresServer
) -> None:
    took = []
    for attempt in range(3):
        with house.slowly():
            job = await house.at("o0").submit(spec_of("anna", segments=1), f"cancelled {attempt}", tenant="anna")
            await until(house.rendering, seconds=30, what="it renders")
            other = "o1" if holder(server, house, job) == "o0" else "o0"
            begin = time.monotonic()
            await house.at(other).inner.Cancel(orchestrator_pb2.CancelRequest(id=job), timeout=30)
            assert (await house.at(other).get(job)).state == job_pb2.JOB_STATE_CANCELLED
            await until(lambda job=job: not in_flight(house, job), seconds=10, what="the compositor stops")  # type: ignore[misc]
        assert f"stopped {job} " in (house.folder / "log").read_text(), "it was not called off, it ended of itself"
        took.append(max(each.ended or 0 for each in executions(house.folder) if each.job == job) - begin)
        count = began(house, [job])
        await asyncio.sleep(1)
        assert began(house, [job]) == count, "something began after the end"
        # Three tries for its time only: another process may have had the cores.
        if took[-1] < 2:
            return
    raise AssertionError(f"stopped after {took} s")


def in_flight(running: Cluster, job: str) -> bool:
    return any(each.job == job and each.ended is None for each in executions(running.folder))


@pytest.mark.soak
async def test_a_database_that_crashes_while_a_real_job_is_taken_over_strands_nothing(
    house: Cluster, server: PostgresServer, undisturbed: str
) -> None:
    job = await house.at("o0").submit(spec_of("anna"), "crash and takeover", tenant="anna")
    await until(lambda: len(house.rendered(job)) >= 1, seconds=30, what="the job is on its way")
    victim = holder(server, house, job)
    other = "o1" if victim == "o0" else "o0"
    before = house.said(other).count("it is taken over")
    house.kill(victim)
    await until(
        lambda: house.said(other).count("it is taken over") > before, seconds=30, what="the dead one is noticed"
    )
    await asyncio.to_thread(server.restart, immediate=True, away_s=0.5)
    assert (await house.at(other).report(job))["plane_digest"] == undisturbed
    await house.again(victim)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_the_late_writes_of_a_worker_that_slept_change_nothing(clip: Path, undisturbed: str) -> None:
    first = free_ports(2)
    addresses = {f"compositor{number}": f"127.0.0.1:{first + number}" for number in range(2)}
    async with cluster(
        services=("ingest", *addresses),
        addresses=addresses,
        compositor_target=f"ipv4:{','.join(addresses.values())}",
    ) as running:
        await _put(running, clip)
        job = await running.at("o0").submit(spec_of("anna"), "sleeping worker", tenant="anna")
        pids = {running.processes[name].pid: name for name in addresses}

        def at_work() -> str:
            return next(
                (pids[each.process] for each in executions(running.folder) if each.job == job and each.ended is None),
                "",
            )

        await until(lambda: bool(at_work()) and len(running.rendered(job)) >= 1, seconds=30, what="it renders")
        sleeper = at_work()
        running.signal(sleeper, signal.SIGSTOP)
        begin = time.monotonic()
        # Nothing answers any more: the connection is given up after its keepalive, and the other replica is asked.
        report = await running.at("o0").report(job, seconds=150)
        waited_s = time.monotonic() - begin
        assert report["plane_digest"] == undisturbed
        stored = objects(running, job)
        running.signal(sleeper, signal.SIGCONT)
        await until(lambda: not in_flight(running, job), seconds=30, what="it ends what it was at")
        await asyncio.sleep(2)
        assert objects(running, job) == stored, "a late writer changed what was stored"
        print(f"a worker slept: the job ended {waited_s:.0f} s later; late writes changed nothing")


@pytest.mark.soak
async def test_a_segment_that_kills_its_worker_is_given_up_and_a_slow_one_beside_it_is_not(clip: Path) -> None:
    async with cluster(services=("ingest", "compositor"), orchestrator__segments_at_once=4) as running:
        await _put(running, clip)

        async def nurse() -> None:
            """As a cluster does: whoever dies is started again."""
            while True:
                if not running.lives("compositor"):
                    running.start("compositor")
                await asyncio.sleep(0.1)

        nursing = asyncio.create_task(nurse())
        try:
            door = running.at("o0")
            slow, poison = spec_of("anna", segments=1), spec_of("berta", segments=1)
            slow.provenance.label, poison.provenance.label = SLOW, POISON
            innocent = await door.submit(slow, "slow", tenant="anna")
            guilty = await door.submit(poison, "poison", tenant="berta")
            ends = await asyncio.gather(door.ended(guilty, seconds=100), door.ended(innocent, seconds=100))
        finally:
            nursing.cancel()
        tries = {job: sum(each.job == job for each in executions(running.folder)) for job in (guilty, innocent)}
        print(f"poison: {tries[guilty]} tries, {ends[0].failure.message}; beside it {tries[innocent]} tries")
        assert ends[0].state == job_pb2.JOB_STATE_FAILED
        assert ends[0].failure.reason == errors_pb2.REASON_INTERNAL
        assert ends[1].state == job_pb2.JOB_STATE_SUCCEEDED, ends[1].failure
