"""Which jobs this process still waits for its peers for."""

from __future__ import annotations

import asyncio
from typing import Final

STOPPED_WITHIN_S: Final = 2.0
"""Workers are to stop within this time."""


class InFlight:
    """Calls of peers that this process waits for, by job."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._bells: dict[str, asyncio.Event] = {}

    def begin(self, job: str) -> None:
        """A call begins."""
        self._counts[job] = self._counts.get(job, 0) + 1

    def end(self, job: str) -> None:
        """A call has ended, whichever way."""
        self._counts[job] -= 1
        if not self._counts[job]:
            del self._counts[job]
            self._bells.pop(job, asyncio.Event()).set()

    def count(self, job: str) -> int:
        """Calls for a job."""
        return self._counts.get(job, 0)

    async def idle(self, job: str) -> bool:
        """Wait until nothing of a job is in flight, at most two seconds; whether it is so."""
        if job not in self._counts:
            return True
        bell = self._bells.setdefault(job, asyncio.Event())
        try:
            async with asyncio.timeout(STOPPED_WITHIN_S):
                await bell.wait()
        except TimeoutError:
            return job not in self._counts
        return True
