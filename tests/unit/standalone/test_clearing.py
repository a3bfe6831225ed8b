"""What the command clears away, and what is not its own to clear."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from services.common.errors import JobStateForbids
from services.common.records.database import Records
from services.common.records.tables import assets, jobs
from services.common.store.folder import FolderStore
from services.standalone.clearing import clear
from services.standalone.data_folder import DataFolder

HOUR_S = 3600.0
NOW_MS = time.time_ns() // 1_000_000


class House:
    """A data folder with jobs and inputs of some ages."""

    def __init__(self, folder: DataFolder, records: Records) -> None:
        self.folder, self.records = folder, records
        self.store = FolderStore(folder.objects)
        self.deleted: list[str] = []
        self.refused: set[str] = set()

    async def job(self, name: str, *, request: str, hours_ago: float | None, spec: str = "{}") -> None:
        ended = None if hours_ago is None else NOW_MS - round(hours_ago * HOUR_S * 1000)
        row = {"id": name, "tenant": "local", "request_id": request, "digest": "", "asked": "{}", "spec": spec}
        times = {"created_ms": 0, "changed_ms": 0, "ended_ms": ended}
        await self.records.write(
            lambda connection: connection.execute(jobs.insert().values(**row, state=8, number=1, **times))
        )

    async def input(self, name: str, *, hours_ago: float, is_upload: bool = False) -> str:
        key = f"local/assets/{name}"
        await self.store.put_bytes(key, name.encode())
        place = self.folder.objects / key
        written = time.time() - hours_ago * HOUR_S
        for path in (*place.iterdir(), place):
            os.utime(path, (written, written))
        if is_upload:
            row = {"id": f"asset_{name}", "tenant": "local", "key": key, "name": name, "digest": "", "number": 1}
            sizes = {"size_bytes": 1, "created_ms": 0, "used_ms": 0}
            await self.records.write(lambda connection: connection.execute(assets.insert().values(**row, **sizes)))
        return key

    async def delete(self, job: str) -> None:
        if job in self.refused:
            raise JobStateForbids(job=job)
        self.deleted.append(job)

    async def clear(self) -> int:
        given = {"tenant": "local", "older_than_s": 24 * HOUR_S, "delete": self.delete}
        return await clear(self.folder, self.records, self.store, **given)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    records = Records(f"sqlite:///{tmp_path}/data/records.sqlite")
    with DataFolder(tmp_path / "data") as folder:
        await records.open()
        yield House(folder, records)
        await records.close()


async def test_only_the_commands_own_old_jobs_go(house: House) -> None:
    await house.job("old", request="command-a", hours_ago=25)
    await house.job("young", request="command-b", hours_ago=23)
    await house.job("running", request="command-c", hours_ago=None)
    await house.job("of_another_system", request="theirs", hours_ago=25)
    assert await house.clear() == 1
    assert house.deleted == ["old"]


async def test_a_job_that_was_just_retried_stays(house: House) -> None:
    await house.job("one", request="command-a", hours_ago=25)
    await house.job("two", request="command-b", hours_ago=25)
    house.refused.add("one")
    assert await house.clear() == 1
    assert house.deleted == ["two"]


async def test_inputs_go_unless_they_are_young_uploaded_or_needed(house: House) -> None:
    old = await house.input("old", hours_ago=25)
    stay = [
        await house.input("young", hours_ago=23),
        await house.input("uploaded", hours_ago=25, is_upload=True),
        await house.input("needed", hours_ago=25),
    ]
    await house.job("running", request="command-c", hours_ago=None, spec='{"asset_key":"local/assets/needed"}')
    assert await house.clear() == 1
    assert await house.store.stat(old) is None
    assert all([await house.store.stat(key) for key in stay])
