"""Who begins next, and what happens where book and engine disagree."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Unavailable
from services.common.records.database import Records
from services.common.store.folder import FolderStore
from services.orchestrator import admitting
from services.orchestrator.book import admission, moving
from services.orchestrator.book.admission import Limits, Waiting, choose
from services.orchestrator.engine.port import RunStatus
from services.orchestrator.failures import Failure
from services.orchestrator.progress import JobState
from tests.support.book import ended, made
from tests.support.desk import Desk
from tests.support.postgres import PostgresServer, requires_postgres

DATABASES = ["sqlite", pytest.param("postgres", marks=requires_postgres)]


def waiting(*jobs: tuple[str, int]) -> list[Waiting]:
    """Jobs by tenant and priority, in the order in which they came."""
    return [Waiting(f"{tenant}{number}", tenant, priority, number) for number, (tenant, priority) in enumerate(jobs)]


def names(*jobs: tuple[str, int], running: Mapping[str, int], in_all: int = 9, of_a_tenant: int = 9) -> list[str]:
    return [each.job for each in choose(waiting(*jobs), running, Limits(in_all, of_a_tenant))]


def test_within_a_priority_the_first_to_come_is_the_first_to_begin() -> None:
    assert names(("a", 5), ("a", 5), ("a", 0), running={}) == ["a2", "a0", "a1"]


def test_a_flood_does_not_delay_the_first_job_of_another() -> None:
    flood = [("a", 5)] * 100
    assert names(*flood, ("b", 5), running={"a": 2}, in_all=4, of_a_tenant=3)[0] == "b100"


def test_tenants_take_turns() -> None:
    jobs = [*[("a", 5)] * 3, *[("b", 5)] * 3]
    assert names(*jobs, running={}) == ["a0", "b3", "a1", "b4", "a2", "b5"]


def test_a_full_tenant_waits_and_holds_up_nobody() -> None:
    assert names(("a", 0), ("b", 9), running={"a": 2}, of_a_tenant=2) == ["b1"]


@given(
    jobs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=30),
    running=st.dictionaries(st.sampled_from("abc"), st.integers(0, 4)),
    in_all=st.integers(1, 12),
    of_a_tenant=st.integers(1, 5),
)
def test_no_limit_is_passed_and_no_place_stays_empty(
    jobs: list[tuple[str, int]], running: dict[str, int], in_all: int, of_a_tenant: int
) -> None:
    chosen = choose(waiting(*jobs), running, Limits(in_all, of_a_tenant))
    before = sum(running.values())
    counts = Counter(running) + Counter(each.tenant for each in chosen)
    assert len(chosen) <= max(0, in_all - before)
    assert all(counts[each.tenant] <= of_a_tenant for each in chosen)
    left = [each for each in waiting(*jobs) if each not in chosen and counts[each.tenant] < of_a_tenant]
    assert not left or before + len(chosen) >= in_all
    for tenant in "abc":
        own = [(each.priority, each.number) for each in chosen if each.tenant == tenant]
        passed = [(each.priority, each.number) for each in waiting(*jobs) if each.tenant == tenant and each in left]
        assert own == sorted(own)
        assert not own or not passed or max(own) < min(passed)


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest_asyncio.fixture
async def desk(url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """One with few places."""
    records = Records(url)
    await records.open()
    yield Desk(records, FolderStore(tmp_path / "objects"), Limits(in_all=3, of_a_tenant=2))
    await records.close()


async def test_jobs_are_handed_over_in_turn_and_as_places_become_free(desk: Desk) -> None:
    flood = [await made(desk.records, f"r{n}") for n in range(4)]
    other = await made(desk.records, "r", tenant="bob")
    await desk.admitter.admit()
    assert desk.engine.submitted == [flood[0].id, other.id, flood[1].id]
    await desk.admitter.admit()
    assert len(desk.engine.submitted) == 3
    desk.engine.finish(flood[1].id, RunStatus.DONE, result={"frames": 9})
    await desk.admitter.reconcile()
    await desk.admitter.admit()
    assert desk.engine.submitted[3:] == [flood[2].id]
    assert (await desk.row(flood[1].id)).state is JobState.SUCCEEDED


async def test_two_admitters_at_once_hand_nothing_over_twice(desk: Desk, url: str, tmp_path: Path) -> None:
    records = Records(url)
    await records.open()
    other = Desk(records, FolderStore(tmp_path / "objects"), Limits(in_all=3, of_a_tenant=2))
    for number in range(6):
        await made(desk.records, f"r{number}", tenant=f"t{number}")
    for _ in range(3):
        await asyncio.gather(desk.admitter.admit(), other.admitter.admit())
    both = desk.engine.submitted + other.engine.submitted
    assert len(both) == len(set(both)) == 3
    await records.close()


@pytest.mark.parametrize(
    ("status", "outcome", "state", "reason"),
    [
        (RunStatus.DONE, {"result": {"frames": 9}}, JobState.SUCCEEDED, None),
        (RunStatus.FAILED, {"failure": Failure("NOT_A_VIDEO")}, JobState.FAILED, "NOT_A_VIDEO"),
        (RunStatus.CANCELLED, {}, JobState.CANCELLED, None),
    ],
)
async def test_what_ended_in_the_engine_unseen_ends_in_the_book(
    desk: Desk, status: RunStatus, outcome: dict[str, Any], state: JobState, reason: str | None
) -> None:
    job = await made(desk.records, "r")
    await desk.admitter.admit()
    desk.engine.finish(job.id, status, **outcome)
    for _ in range(2):
        await desk.admitter.reconcile()
    row = await desk.row(job.id)
    assert (row.state, row.failure and row.failure.reason, row.is_admitted) == (state, reason, False)


async def test_a_job_that_was_admitted_and_never_handed_over_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await made(desk.records, "r")
    await desk.records.write(lambda connection: admission.admit(connection, Limits(3, 2)))
    await desk.admitter.reconcile()
    assert desk.engine.submitted == [], "whoever admitted it may be about to"
    monkeypatch.setattr(admitting, "GRACE_MS", -1)
    await desk.admitter.reconcile()
    assert desk.engine.submitted == [job.id]


async def test_a_job_whose_engine_was_away_begins_when_it_is_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await made(desk.records, "r")
    desk.engine.is_away = True
    with pytest.raises(Unavailable):
        await desk.admitter.admit()
    desk.engine.is_away = False
    monkeypatch.setattr(admitting, "GRACE_MS", -1)
    await desk.admitter.reconcile()
    assert desk.engine.submitted == [job.id]


async def test_a_job_that_was_cancelled_while_nobody_told_the_engine_stops(desk: Desk) -> None:
    job = await made(desk.records, "r")
    await desk.admitter.admit()
    await ended(desk.records, job, JobState.CANCELLED, is_stopped=False)
    assert (await desk.row(job.id)).is_admitted, "its place is not free while it runs"
    await desk.admitter.reconcile()
    assert desk.engine.cancelled == [job.id]
    assert not (await desk.row(job.id)).is_admitted


async def test_the_end_of_an_attempt_before_says_nothing_of_the_one_after(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admitting, "GRACE_MS", -1)
    job = await made(desk.records, "r")
    await desk.admitter.admit()
    desk.engine.finish(job.id, RunStatus.FAILED, failure=Failure("NOT_A_VIDEO"))
    await desk.admitter.reconcile()
    await desk.records.write(
        lambda connection: moving.requeue(
            connection, job.id, tenant="anna", actor="a", most_waiting=9, keeps_result=False
        )
    )
    await desk.records.write(lambda connection: admission.admit(connection, Limits(3, 2)))
    await desk.admitter.reconcile()
    assert (await desk.row(job.id)).state is JobState.QUEUED
    assert (job.id, 1) in desk.engine.runs, "it was handed over once more, as its second attempt"


async def test_one_job_that_cannot_be_moved_holds_up_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await made(desk.records, "r0"), await made(desk.records, "r1")
    await desk.admitter.admit()
    for job in (first, second):
        desk.engine.finish(job.id, RunStatus.DONE, result={"frames": 1})
    settle = desk.ending.settle

    async def broken(job: str) -> bool:
        if job == first.id:
            raise OSError("the store is away")
        return await settle(job)

    monkeypatch.setattr(desk.ending, "settle", broken)
    await desk.admitter.reconcile()
    assert (await desk.row(second.id)).state is JobState.SUCCEEDED
    assert (await desk.row(first.id)).state is JobState.QUEUED
