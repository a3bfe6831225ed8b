"""How much memory the command and its children hold together, watched while a job runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psutil

EVERY_S = 0.5
MIB = 1 << 20


class Peak:
    """The largest proportional set size seen so far, in MiB: shared pages count once, whoever maps them."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._root = psutil.Process()

    def look(self) -> None:
        """Measure now."""
        total = 0
        for process in (self._root, *self._root.children(recursive=True)):
            # A child may end between being listed and being asked.
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        self.mib = max(self.mib, total / MIB)


@contextlib.asynccontextmanager
async def memory_watched() -> AsyncIterator[Peak]:
    """Watch while the block lasts."""
    peak = Peak()
    task = asyncio.create_task(_watch(peak))
    try:
        yield peak
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(peak.look)


async def _watch(peak: Peak) -> None:
    while True:
        await asyncio.to_thread(peak.look)
        await asyncio.sleep(EVERY_S)
