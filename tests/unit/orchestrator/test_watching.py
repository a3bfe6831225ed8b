"""Watching a job from a process that does not run it, and from one that does."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import JobNotFound
from services.common.records.database import Records
from services.orchestrator.book.rows import JobRow
from services.orchestrator.ledger import BookLedger
from services.orchestrator.progress import Board, JobState, Snapshot
from services.orchestrator.watching import watch
from tests.support.book import ended, entered, made


async def rendered(records: Records, board: Board, ledger: BookLedger, job: JobRow) -> None:
    """A job on its way, as its body tells of it."""
    for state in (JobState.ANALYSING, JobState.LINKING, JobState.RENDERING):
        await ledger.enter(job.id, 0, state, total=90)
        board.enter(job.id, state, total=90)
        await asyncio.sleep(0.02)
        for done in (48, 90) if state is not JobState.LINKING else ():
            board.add(job.id, done - (board.look(job.id) or Snapshot(state)).frames_done)
            ledger.finished(job.id, Snapshot(state, done, 90))
            await asyncio.sleep(0.02)
    await ledger.flush(job.id)
    board.forget(job.id)
    await ended(records, job, JobState.SUCCEEDED, result={"frames": 90})
    board.ring(job.id)


ALL = [
    (JobState.QUEUED, 0),
    (JobState.ANALYSING, 0),
    (JobState.ANALYSING, 48),
    (JobState.ANALYSING, 90),
    (JobState.LINKING, 0),
    (JobState.RENDERING, 0),
    (JobState.RENDERING, 48),
    (JobState.RENDERING, 90),
    (JobState.SUCCEEDED, 90),
]


@pytest.mark.parametrize("is_here", [True, False], ids=["here", "elsewhere"])
async def test_every_state_and_segment_is_told_once_and_in_order(records: Records, is_here: bool) -> None:
    job, board, ledger = await made(records, "r"), Board(), BookLedger(records)
    mine = board if is_here else Board()
    work = asyncio.create_task(rendered(records, board, ledger, job))
    async with asyncio.timeout(10):
        seen = [
            (place.state, place.frames_done)
            async for place in watch(records, mine, job.id, tenant="anna", from_sequence=0)
        ]
    await work
    assert seen == ALL


@pytest.mark.parametrize("place", range(len(ALL)))
async def test_from_any_place_on_the_rest_is_told(records: Records, place: int) -> None:
    job, board, ledger = await made(records, "r"), Board(), BookLedger(records)
    number = Snapshot(*ALL[place]).sequence
    work = asyncio.create_task(rendered(records, board, ledger, job))
    async with asyncio.timeout(10):
        told = watch(records, board, job.id, tenant="anna", from_sequence=number)
        seen = [(each.state, each.frames_done) async for each in told]
    await work
    assert seen == ALL[place:]


async def test_frames_between_two_rows_are_told_to_those_who_look(records: Records) -> None:
    job = await made(records, "r")
    counted = {"frames": 0.0}
    board = Board(live_frames=lambda state: counted["frames"] if state is JobState.RENDERING else 0.0)
    await entered(records, job, JobState.RENDERING)
    board.enter(job.id, JobState.RENDERING, total=90)
    told = watch(records, board, job.id, tenant="anna", from_sequence=Snapshot(JobState.RENDERING).sequence + 1)
    counted["frames"] = 7
    async with asyncio.timeout(5):
        live = await anext(told)
    assert (live.frames_done, live.frames_total) == (7, 90)
    await told.aclose()  # type: ignore[attr-defined]


async def test_a_number_beyond_the_end_gives_nothing_and_ends(records: Records) -> None:
    job = await made(records, "r")
    await ended(records, job)
    async with asyncio.timeout(5):
        assert [each async for each in watch(records, Board(), job.id, tenant="anna", from_sequence=2**64 - 1)] == []


async def test_a_job_that_is_deleted_while_it_is_watched_ends_the_watch(records: Records) -> None:
    with pytest.raises(JobNotFound):
        await anext(watch(records, Board(), "job_nobodys", tenant="anna", from_sequence=0))
