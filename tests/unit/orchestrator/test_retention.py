"""What has been kept long enough goes, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from services.common.errors import Unavailable
from services.common.records.database import Records
from services.common.records.tables import assets, counters, jobs
from services.common.store.folder import FolderStore
from services.orchestrator import retention
from services.orchestrator.book import creating, events
from services.orchestrator.book.admission import Limits
from services.orchestrator.ending import Keeping
from services.orchestrator.engine.port import RunStatus
from services.orchestrator.failures import Failure
from services.orchestrator.progress import JobState
from services.orchestrator.retention import Rules
from tests.support.book import ended, entered, lines, made
from tests.support.desk import Desk
from tests.support.postgres import PostgresServer, requires_postgres

STAGES = ("analyse/0", "identity/0", "link/0", "render/0", "finalise/0")


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A book and a store."""
    records = Records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    await records.open()
    yield Desk(records, FolderStore(tmp_path / "objects"), Limits(3, 3), Keeping(face_days=1))
    await records.close()


async def aged(desk: Desk, job: str, *, days: float) -> None:
    """Let a job have ended so long ago."""
    ms = round(days * 86_400_000)
    values = {"ended_ms": jobs.c.ended_ms - ms, "expires_ms": jobs.c.expires_ms - ms}
    await desk.records.write(
        lambda connection: connection.execute(sa.update(jobs).where(jobs.c.id == job).values(**values))
    )


async def finished(desk: Desk, request: str, *, days: float = 0.0) -> str:
    """A job that succeeded so long ago."""
    row = await made(desk.records, request)
    await desk.admitter.admit()
    await desk.put(row.id, *STAGES)
    desk.engine.finish(row.id, RunStatus.DONE, result={"frames": 1})
    await desk.admitter.reconcile()
    assert (await desk.row(row.id)).state is JobState.SUCCEEDED
    await aged(desk, row.id, days=days)
    return row.id


async def failed(desk: Desk, request: str, *, days: float, reason: str = "NOT_A_VIDEO") -> str:
    """A job that failed so long ago."""
    row = await made(desk.records, request)
    await entered(desk.records, row, JobState.RENDERING)
    await desk.put(row.id, *STAGES)
    await ended(desk.records, row, JobState.FAILED, failure=Failure(reason), keep_ms=30 * 86_400_000)
    await aged(desk, row.id, days=days)
    return row.id


async def test_a_job_leaves_with_its_artifacts_when_its_days_are_over(desk: Desk) -> None:
    old, young = await finished(desk, "old", days=31), await finished(desk, "young", days=29)
    assert (await desk.retention())["jobs"] == 1
    assert await desk.left(f"anna/jobs/{old}/") == []
    assert await desk.engine.get(old) is None
    assert await desk.left(f"anna/jobs/{young}/")
    assert (await lines(desk.records))[-2:] == [("job.deleted", old), ("retention.swept", "")]


async def test_samples_of_faces_go_after_their_days_and_the_rest_stays(desk: Desk) -> None:
    job = await finished(desk, "old", days=2)
    assert (await desk.retention())["faces"] == 0
    assert (await desk.retention(face_days=1))["faces"] == 1
    assert await desk.left(f"anna/jobs/{job}/") == ["finalise/0", "link/0", "render/0"]
    assert (await desk.row(job)).stored_bytes == sum(map(len, ["finalise/0", "link/0", "render/0"]))
    assert (await desk.retention(face_days=1)).total() == 0, "once is enough"


async def test_what_an_abandoned_job_had_finished_goes_after_its_hours(desk: Desk) -> None:
    old, young = await failed(desk, "old", days=1.1), await failed(desk, "young", days=0.9)
    assert (await desk.retention(abandoned_hours=24))["abandoned"] == 1
    assert await desk.left(f"anna/jobs/{old}/") == []
    assert len(await desk.left(f"anna/jobs/{young}/")) == len(STAGES)
    assert (await desk.row(old)).state is JobState.FAILED, "the job itself is still told of"


async def test_what_was_left_of_a_withdrawn_face_goes_at_once(desk: Desk) -> None:
    job = await failed(desk, "withdrawn", days=0, reason="CONSENT_REVOKED")
    assert (await desk.retention())["abandoned"] == 1
    assert await desk.left(f"anna/jobs/{job}/") == []


async def stored(desk: Desk, *names: str, used_ms: int = 1) -> None:
    """Assets of which nothing is asked any more, unless a job does."""
    for number, name in enumerate(names):
        await desk.store.put_bytes(f"anna/assets/{name}", b"x")
        row = {"id": f"asset_{name}", "tenant": "anna", "key": f"anna/assets/{name}", "name": name, "size_bytes": 1}
        row |= {"digest": "", "number": number, "created_ms": 1, "used_ms": used_ms}
        await desk.records.write(lambda connection, row=row: connection.execute(assets.insert().values(**row)))  # type: ignore[misc]


async def test_unused_assets_go_unless_a_job_that_runs_needs_them(desk: Desk) -> None:
    await stored(desk, "needed", "unused")
    await made(desk.records, "r", assets=["asset_needed"])
    await desk.records.write(lambda connection: connection.execute(sa.update(assets).values(used_ms=1)))
    assert (await desk.retention(uploads_days=7))["assets"] == 1
    assert await desk.left("anna/assets/") == ["needed"]


async def test_an_asset_that_is_used_while_it_is_swept_stays(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await stored(desk, "old")
    found = retention._unused_assets

    def used_meanwhile(connection: sa.Connection, before: int) -> Sequence[str]:
        due = found(connection, before)
        creating.touch_assets(connection, "anna", due, events.now_ms())
        return due

    monkeypatch.setattr(retention, "_unused_assets", used_meanwhile)
    assert (await desk.retention(uploads_days=7))["assets"] == 0
    assert await desk.left("anna/assets/") == ["old"]


async def test_who_stores_the_same_bytes_while_they_are_swept_waits(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(desk, "same")
    delete, again = FolderStore.delete, []

    async def slow(store: FolderStore, key: str) -> None:
        again.append(asyncio.create_task(stored(desk, "same", used_ms=events.now_ms())))
        await asyncio.sleep(0.1)
        assert not again[0].done(), "the row was gone before the bytes were"
        await delete(store, key)

    monkeypatch.setattr(FolderStore, "delete", slow)
    assert (await desk.retention(uploads_days=7))["assets"] == 1
    await again[0]


async def test_an_asset_that_cannot_be_removed_keeps_its_row_and_holds_up_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(desk, "stuck", "unused")
    delete = FolderStore.delete

    async def failing(store: FolderStore, key: str) -> None:
        if key.endswith("stuck"):
            raise Unavailable(peer="the store")
        await delete(store, key)

    monkeypatch.setattr(FolderStore, "delete", failing)
    assert (await desk.retention(uploads_days=7))["assets"] == 1
    chosen = sa.select(assets.c.name)
    assert await desk.records.read(lambda connection: connection.execute(chosen).scalars().all()) == ["stuck"]


async def test_objects_that_no_row_owns_go_a_day_after_they_were_seen_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await made(desk.records, "r")).id
    await desk.put(job, "render/0")
    await desk.put("job_nobodys", "render/0")
    assert (await desk.retention())["orphans"] == 0
    assert (await desk.retention())["orphans"] == 0, "another process saw it a moment ago"
    monkeypatch.setattr(retention, "ORPHANS_MS", 0)
    assert (await desk.retention())["orphans"] == 1
    assert await desk.left("anna/jobs/") == [f"{job}/render/0"]
    assert (await desk.retention())["orphans"] == 0


async def test_the_whole_store_is_not_listed_at_every_sweep(desk: Desk) -> None:
    sweeper = desk.sweeper(Rules(999, 9999, 999, 600))
    await sweeper.sweep()
    await desk.put("job_nobodys", "render/0")
    await sweeper.sweep()
    assert await desk.records.read(lambda connection: connection.execute(sa.select(counters.c.name)).all()) == []


async def test_a_sweep_with_nothing_to_do_says_nothing(desk: Desk) -> None:
    await finished(desk, "young")
    before = await lines(desk.records)
    assert (await desk.retention()).total() == 0
    assert await lines(desk.records) == before


@requires_postgres
async def test_one_replica_at_a_time_has_its_turn(postgres: PostgresServer, tmp_path: Path) -> None:
    records = Records(postgres.new_database())
    await records.open()
    desk = Desk(records, FolderStore(tmp_path), Limits(3, 3))
    turns = [desk.sweeper(Rules(1, 1, 1, 600)) for _ in range(3)]
    taken = await asyncio.gather(*(records.write(sweeper.takes_turn) for sweeper in turns))
    assert sum(taken) == 1
    soon = desk.sweeper(Rules(1, 1, 1, 0.001))
    await asyncio.sleep(0.01)
    assert await records.write(soon.takes_turn), "half a pause later it is somebody's turn again"
    await records.close()
