"""Which jobs this process still waits for its peers for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

STOPPED_WITHIN_S: Final = 2.0
"""Workers are to stop within this time."""


class InFlight:
    """Work that this process does or waits for, by job: calls of peers, and steps of its own that write objects."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._bells: dict[str, asyncio.Event] = {}

    async def during(self, job: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do something for a job."""
        self._begin(job)
        try:
            return await work()
        finally:
            self._end(job)

    def _begin(self, job: str) -> None:
        self._counts[job] = self._counts.get(job, 0) + 1

    def _end(self, job: str) -> None:
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
