"""What of a job shows a face, and how far erasing goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.common.records.tables import assets, uploads
from services.orchestrator.consents import Attestation, write
from services.orchestrator.erasure import Reach, erase_face_data
from services.orchestrator.progress import JobState
from tests.support.people_house import PeopleHouse, people_house, portrait


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[PeopleHouse]:
    async with people_house(tmp_path) as opened:
        yield opened


async def agreed(house: PeopleHouse, job: str, asset: str) -> None:
    """Inline portraits: the consent names the job."""
    await house.records.write(
        lambda c: write(
            c,
            tenant="anna",
            actor="local",
            subject=job,
            attestation=Attestation("self", "local"),
            portraits=[asset.removeprefix("asset_")],
            now_ms=1,
        )
    )


@pytest.mark.parametrize(
    ("reach", "left"),
    [
        (Reach.SAMPLES, {"index", "link", "render", "finalise"}),
        (Reach.FACES, {"index", "finalise"}),
        (Reach.ALL, set()),
    ],
)
async def test_as_much_goes_as_is_asked_for_and_nothing_of_other_jobs(
    reach: Reach, left: set[str], house: PeopleHouse
) -> None:
    job, other = [await house.job([], state=JobState.SUCCEEDED) for _ in range(2)]
    before = await house.stages(other)
    erased = await erase_face_data(house.store, house.records, "anna", job, reach=reach)
    assert erased.objects > 0
    assert await house.stages(job) == left
    assert await house.stages(other) == before
    again = await erase_face_data(house.store, house.records, "anna", job, reach=reach)
    assert (again.objects, again.assets) == (0, 0)


@pytest.mark.parametrize("has_row", [True, False], ids=["of the asset service", "of the command"])
async def test_portraits_given_for_one_job_go_with_its_face_data(has_row: bool, house: PeopleHouse) -> None:
    job = await house.job([], state=JobState.SUCCEEDED)
    asset = await house.asset(portrait(), has_row=has_row)
    await house.records.write(
        lambda c: c.execute(
            uploads.insert().values(
                tenant="anna", upload_id="u", name="n", size_bytes=1, asset=asset, created_ms=1, changed_ms=1
            )
        )
    )
    await agreed(house, job, asset)
    assert (await erase_face_data(house.store, house.records, "anna", job)).assets == 1
    assert await house.store.list("anna/assets") == []
    for table in (assets, uploads):
        assert await house.records.read(lambda c, table=table: c.execute(sa.select(table)).all()) == []
    lines = [line for line in await house.lines() if line[0] == "asset.deleted"]
    assert lines == [("asset.deleted", asset, "done")]
    await erase_face_data(house.store, house.records, "anna", job)
    assert len([line for line in await house.lines() if line[0] == "asset.deleted"]) == 1


async def test_a_portrait_that_another_running_job_was_given_stays_for_it(house: PeopleHouse) -> None:
    done, running = await house.job([], state=JobState.SUCCEEDED), await house.job([], state=JobState.RENDERING)
    asset = await house.asset(portrait())
    for job in (done, running):
        await agreed(house, job, asset)
    assert (await erase_face_data(house.store, house.records, "anna", done)).assets == 0
    assert len(await house.store.list("anna/assets")) == 1
    assert (await erase_face_data(house.store, house.records, "anna", running, reach=Reach.ALL)).assets == 1
