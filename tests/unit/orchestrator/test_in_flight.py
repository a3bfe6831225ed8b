"""Waiting until nothing of a job is being done any more."""

from __future__ import annotations

import asyncio

import pytest

from services.orchestrator import in_flight
from services.orchestrator.in_flight import InFlight


async def test_a_job_is_idle_when_its_last_work_has_ended_and_not_before() -> None:
    flight, gates = InFlight(), [asyncio.Event(), asyncio.Event()]
    works = [asyncio.create_task(flight.during("a", gate.wait)) for gate in gates]
    await asyncio.sleep(0)
    idle = asyncio.create_task(flight.idle("a"))
    assert await flight.idle("b"), "another job's work is not its own"
    gates[0].set()
    await works[0]
    await asyncio.sleep(0)
    assert not idle.done()
    gates[1].set()
    assert await idle
    assert flight.count("a") == 0
    await asyncio.gather(*works)


async def test_work_that_is_cancelled_has_ended() -> None:
    flight = InFlight()
    work = asyncio.create_task(flight.during("a", asyncio.Event().wait))
    await asyncio.sleep(0)
    idle = asyncio.create_task(flight.idle("a"))
    work.cancel()
    assert await idle
    await asyncio.gather(work, return_exceptions=True)


async def test_the_wait_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "STOPPED_WITHIN_S", 0.01)
    flight = InFlight()
    work = asyncio.create_task(flight.during("a", asyncio.Event().wait))
    await asyncio.sleep(0)
    assert not await flight.idle("a")
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
