"""The event loop is never held: whoever asks for health or progress during a job is answered at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.mesh_driver import BLUR, Driver

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY_S = 0.005
MOST_S = 0.050
ATTEMPTS = 3


@contextlib.asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """Seconds by which a timer that rings every 5 ms was late, as long as the block lasts."""
    late: list[float] = []

    async def ring() -> None:
        while True:
            due = time.perf_counter() + EVERY_S
            await asyncio.sleep(EVERY_S)
            late.append(time.perf_counter() - due)

    ringing = asyncio.create_task(ring())
    try:
        yield late
    finally:
        ringing.cancel()
        await asyncio.gather(ringing, return_exceptions=True)


async def test_the_loop_is_late_by_less_than_fifty_milliseconds_during_a_job(
    mesh: Driver, talking: Path, portrait: Path
) -> None:
    await mesh.transform(talking, faces=[portrait], background=BLUR)
    found = []
    for _ in range(ATTEMPTS):
        async with lateness() as late:
            await mesh.transform(talking, faces=[portrait], background=BLUR, segments=3, reads_rows=False)
        assert len(late) > 20
        found.append(float(np.percentile(late, 99)))
        if found[-1] < MOST_S:
            return
    raise AssertionError(f"late by {[round(one * 1000) for one in found]} ms in the worst hundredth")
