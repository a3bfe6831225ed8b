"""What the book of jobs promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.common.errors import (
    AssetNotFound,
    Cancelled,
    ConsentRequired,
    InvalidSpec,
    JobNotFound,
    JobStateForbids,
    QuotaExceeded,
    RequestIdReused,
)
from services.common.records.database import Records
from services.orchestrator.book import deleting, events, listing, moving, rows
from services.orchestrator.book.creating import InlineConsent
from services.orchestrator.book.listing import Filter
from services.orchestrator.consents import Attestation
from services.orchestrator.failures import Failure
from services.orchestrator.progress import JobState, Snapshot
from tests.support.book import ended, entered, lines, made
from tests.support.postgres import PostgresServer, requires_postgres

DATABASES = ["sqlite", pytest.param("postgres", marks=requires_postgres)]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest_asyncio.fixture
async def records(url: str) -> AsyncIterator[Records]:
    """An empty book."""
    opened = Records(url)
    await opened.open()
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def other(url: str, records: Records) -> AsyncIterator[Records]:
    """The same book at another replica."""
    opened = Records(url)
    await opened.open()
    yield opened
    await opened.close()


async def test_the_same_request_at_two_replicas_at_once_is_one_job(records: Records, other: Records) -> None:
    found = await asyncio.gather(*(made(each, "r") for each in [records, other] * 8))
    assert len({row.id for row in found}) == 1
    assert [line for line in await lines(records) if line[0] == "job.created"] == [("job.created", found[0].id)]


async def test_a_request_id_stands_for_one_content_also_at_two_replicas_at_once(
    records: Records, other: Records
) -> None:
    attempts = await asyncio.gather(
        *(made(each, "r", asked={"label": str(n)}) for n, each in enumerate([records, other])), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in attempts) == ["JobRow", "RequestIdReused"]
    with pytest.raises(RequestIdReused):
        await made(records, "r", asked={"label": "third"})


async def test_the_same_request_of_another_tenant_is_another_job(records: Records) -> None:
    mine, theirs = await made(records, "r"), await made(records, "r", tenant="bob")
    assert mine.id != theirs.id
    with pytest.raises(JobNotFound):
        await records.read(lambda connection: rows.one(connection, theirs.id, tenant="anna"))


async def test_jobs_have_numbers_in_the_order_in_which_they_came(records: Records) -> None:
    numbers = [(await made(records, f"r{n}")).number for n in range(5)]
    assert numbers == sorted(set(numbers))


async def test_a_tenant_may_have_so_many_waiting_and_another_one_too(records: Records) -> None:
    for number in range(3):
        await made(records, f"r{number}", most_waiting=3)
    with pytest.raises(QuotaExceeded) as caught:
        await made(records, "r3", most_waiting=3)
    assert (caught.value.fields["limit"], caught.value.fields["most"]) == ("waiting jobs", "3")
    await made(records, "r3", tenant="bob", most_waiting=3)
    assert (await made(records, "r0", most_waiting=3)).request_id == "r0", "what is there already is no new one"


async def test_states_move_forward_only_and_each_is_told_once(records: Records) -> None:
    job = await made(records, "r")
    for state in (JobState.ANALYSING, JobState.RENDERING, JobState.LINKING, JobState.RENDERING):
        await entered(records, job, state)
    found = await records.read(lambda connection: rows.one(connection, job.id))
    assert found.state is JobState.RENDERING
    history = await records.read(lambda connection: events.history(connection, [job.id])[job.id])
    assert [change.state for change in history] == [JobState.QUEUED, JobState.ANALYSING, JobState.RENDERING]
    assert [action for action, _ in await lines(records)] == ["job.created", "job.state", "job.state"]


@pytest.mark.parametrize("last", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
async def test_an_end_is_the_end_and_whoever_is_late_is_told_to_stop(records: Records, last: JobState) -> None:
    job = await made(records, "r")
    assert await ended(records, job, last)
    for other in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
        assert not await ended(records, job, other)
    with pytest.raises(Cancelled):
        await entered(records, job, JobState.RENDERING)
    assert (await records.read(lambda connection: rows.one(connection, job.id))).state is last


async def test_the_first_of_many_ends_at_once_holds(records: Records) -> None:
    job = await made(records, "r")
    states = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED] * 4
    told = await asyncio.gather(*(ended(records, job, state) for state in states))
    assert sum(told) == 1
    found = await records.read(lambda connection: rows.one(connection, job.id))
    assert found.state is states[told.index(True)]
    assert len([line for line in await lines(records) if line[0] != "job.created"]) == 1


async def requeued(records: Records, job: str, *, keeps_result: bool = False) -> rows.JobRow:
    return await records.write(
        lambda connection: moving.requeue(
            connection, job, tenant="anna", actor="key:anna", most_waiting=9, keeps_result=keeps_result
        )
    )


async def test_a_second_attempt_begins_anew_and_the_first_has_no_say_in_it(records: Records) -> None:
    job = await made(records, "r")
    await entered(records, job, JobState.RENDERING)
    with pytest.raises(JobStateForbids):
        await requeued(records, job.id)
    await ended(records, job, JobState.FAILED, failure=Failure("NOT_A_VIDEO"), result={"frames": 3})
    again = await requeued(records, job.id)
    assert (again.state, again.attempt, again.failure, again.result) == (JobState.QUEUED, 1, None, None)
    with pytest.raises(Cancelled):
        await entered(records, job, JobState.ASSEMBLING, attempt=0)
    assert not await ended(records, job, JobState.SUCCEEDED, attempt=0)
    await entered(records, job, JobState.ANALYSING, attempt=1)
    places = await records.read(lambda connection: events.since(connection, job.id, 0))
    told = [(place.attempt, place.state) for place in places]
    assert told == sorted(told)
    assert told[-2:] == [(1, JobState.QUEUED), (1, JobState.ANALYSING)]


async def test_a_result_that_only_was_not_published_is_kept_for_the_next_attempt(records: Records) -> None:
    job = await made(records, "r", places=[("archive", "")])
    await entered(records, job, JobState.PUBLISHING)
    await records.write(lambda connection: moving.keep_result(connection, job.id, 0, {"frames": 3}))
    await ended(records, job, JobState.FAILED, failure=Failure("PUBLISH_FAILED"))
    assert (await requeued(records, job.id, keeps_result=True)).result == {"frames": 3}


async def test_events_written_twice_are_there_once_and_are_read_from_any_number_on(records: Records) -> None:
    job = await made(records, "r")
    places = [Snapshot(JobState.RENDERING, frames, 90) for frames in (24, 48, 90)]
    for _ in range(2):
        await records.write(lambda connection: events.add(connection, job.id, *places))
    found = await records.read(lambda connection: events.since(connection, job.id, places[0].sequence + 1))
    assert [place.frames_done for place in found] == [48, 90]
    first = await records.read(lambda connection: events.since(connection, job.id, 0, most=2))
    assert [place.state for place in first] == [JobState.QUEUED, JobState.RENDERING]


async def test_pages_hold_every_job_once_whatever_comes_in_between(records: Records) -> None:
    jobs = [await made(records, f"r{n}", labels={"n": str(n % 2)}) for n in range(7)]
    await made(records, "other", tenant="bob")
    seen: list[str] = []
    token, wanted = "", Filter()
    for number in itertools.count():
        page, token = await records.read(
            lambda connection, token=token: listing.page(connection, "anna", wanted, page_size=3, token=token)
        )
        seen += [row.id for row in page]
        await made(records, f"late {number}")
        if not token:
            break
    assert seen == [job.id for job in reversed(jobs)]


LABELS: list[dict[str, str]] = [{"a": "1"}, {"A": "1"}, {"a": "11"}, {"b": 'x,"a":"1"'}, {'b,"a': "1"}, {"a": "%"}]


@pytest.mark.parametrize("labels", LABELS, ids=str)
async def test_a_label_is_found_by_its_whole_name_and_value(records: Records, labels: dict[str, str]) -> None:
    jobs = {str(each): await made(records, f"r{n}", labels={"z": "z", **each}) for n, each in enumerate(LABELS)}
    found, _ = await records.read(
        lambda connection: listing.page(connection, "anna", Filter(labels=labels), page_size=9, token="")
    )
    assert [row.id for row in found] == [jobs[str(labels)].id]


@pytest.mark.parametrize("token", ["x", "MTIzLmFiYw==", "é"])
async def test_a_token_that_is_none_is_refused(records: Records, token: str) -> None:
    with pytest.raises(InvalidSpec):
        await records.read(lambda connection: listing.page(connection, "anna", Filter(), page_size=9, token=token))


async def test_a_job_whose_video_was_deleted_since_it_was_looked_at_is_none(records: Records) -> None:
    with pytest.raises(AssetNotFound, match="asset_gone"):
        await made(records, "r", assets=["asset_gone"], is_metered=True)
    assert await lines(records) == []


async def test_a_job_is_deleted_after_its_end_with_all_its_rows_but_the_log(records: Records) -> None:
    job = await made(records, "r", places=[("archive", "")], assets=["asset_a"])
    with pytest.raises(JobStateForbids):
        await records.write(lambda connection: deleting.check_ended(connection, job.id, tenant="anna"))
    await ended(records, job)
    row = await records.write(lambda connection: deleting.check_ended(connection, job.id, tenant="anna"))
    again = await requeued(records, job.id)
    with pytest.raises(JobStateForbids):
        await records.write(lambda connection: deleting.forget(connection, row, actor="a", why="asked"))
    await ended(records, again)
    row = await records.write(lambda connection: deleting.check_ended(connection, job.id, tenant="anna"))
    await records.write(lambda connection: deleting.forget(connection, row, actor="a", why="asked"))
    assert await records.read(lambda connection: rows.find(connection, job.id)) is None
    assert await records.read(lambda connection: events.since(connection, job.id, 0)) == []
    assert (await lines(records))[-1] == ("job.deleted", job.id)


async def test_portraits_that_come_with_a_job_bring_their_consent(records: Records) -> None:
    said = InlineConsent(Attestation("self", ""), ("p1",))
    face: dict[str, Any] = {"identities": [{"name": "f", "portrait_keys": ["anna/assets/p1"]}]}
    job = await made(records, "r", asked=face, inline=[said])
    await records.read(lambda connection: moving.check_consent(connection, job))
    bare = await made(records, "bare", asked=face)
    with pytest.raises(ConsentRequired):
        await records.read(lambda connection: moving.check_consent(connection, bare))
    with pytest.raises(ConsentRequired):
        await ended(records, bare, JobState.SUCCEEDED)
    assert (await records.read(lambda connection: rows.one(connection, bare.id))).state is JobState.QUEUED
