"""Who runs beside whom after a crash."""

from __future__ import annotations

import asyncio

import pytest

from services.orchestrator.engine.quarantine import Quarantine, Record
from services.orchestrator.failures import WorkFailed


def a_quarantine(records: dict[str, Record], noted: list[tuple[str, int]], *, attempts: int = 10) -> Quarantine:
    async def look(segment: str) -> Record:
        return records.get(segment, Record(1))

    async def note(segment: str, alone: int) -> None:
        noted.append((segment, alone))

    return Quarantine(attempts=attempts, look=look, note=note)


async def test_one_that_was_started_often_runs_alone_and_is_noted_before_it_begins() -> None:
    noted: list[tuple[str, int]] = []
    quarantine = a_quarantine({"often": Record(starts=4)}, noted)
    seen: list[str] = []
    inside, leave = asyncio.Event(), asyncio.Event()

    async def beside() -> None:
        async with quarantine.entered("first"):
            inside.set()
            await leave.wait()
            seen.append("first left")

    async def alone() -> None:
        async with quarantine.entered("often"):
            assert noted == [("often", 1)]
            seen.append("alone")
            await asyncio.sleep(0)
            seen.append("alone left")

    async def later() -> None:
        async with quarantine.entered("later"):
            seen.append("later")

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(beside())
        await inside.wait()
        group.create_task(alone())
        await asyncio.sleep(0.01)
        group.create_task(later())
        await asyncio.sleep(0.01)
        leave.set()
    assert seen == ["first left", "alone", "alone left", "later"]


async def test_those_with_the_fewest_starts_alone_go_first() -> None:
    records = {"guilty": Record(6, alone=2), "innocent": Record(6, alone=0)}
    noted: list[tuple[str, int]] = []
    quarantine = a_quarantine(records, noted)
    hold = asyncio.Event()

    async def first() -> None:
        async with quarantine.entered("first"):
            await hold.wait()

    async def enter(segment: str) -> None:
        async with quarantine.entered(segment):
            await asyncio.sleep(0)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(first())
        await asyncio.sleep(0.01)
        for segment in ("guilty", "innocent"):
            group.create_task(enter(segment))
        await asyncio.sleep(0.01)
        hold.set()
    assert noted == [("innocent", 1), ("guilty", 3)]


async def test_one_that_ended_its_process_too_often_while_alone_is_given_up() -> None:
    quarantine = a_quarantine({"guilty": Record(14, alone=7)}, [], attempts=10)
    with pytest.raises(WorkFailed) as caught:
        async with quarantine.entered("guilty"):
            raise AssertionError("it was begun")
    assert "too often" in caught.value.failure.fields["detail"]


async def test_one_that_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    quarantine = a_quarantine({"often": Record(4)}, [])
    hold = asyncio.Event()

    async def enter(segment: str) -> None:
        async with quarantine.entered(segment):
            await hold.wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(enter("first"))
        await asyncio.sleep(0.01)
        waits = group.create_task(enter("often"))
        await asyncio.sleep(0.01)
        behind = group.create_task(enter("behind"))
        await asyncio.sleep(0.01)
        waits.cancel()
        hold.set()
        await behind
