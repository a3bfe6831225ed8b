"""Segments that are interrupted again and again run alone, so that one that kills the process is found by its deed.

A kill ends all segments in flight. Were all of them counted for it, a segment that kills would take those beside it
along, which harmed nobody. So after a few starts a segment runs with nobody beside it, and only the starts alone decide
that it is given up. Innocent ones come through at their first start alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from services.orchestrator.failures import Failure, WorkFailed

TOGETHER: Final = 3
"""So many starts a segment has beside others: restarts of a process are common, and cost no speed."""


@dataclass(frozen=True, slots=True)
class Record:
    """How often a segment was started."""

    starts: int
    """In all, this one included."""

    alone: int = 0
    """Of these with nobody beside it, this one not included."""


class Quarantine:
    """Decides who runs beside whom, in one process."""

    def __init__(
        self,
        *,
        attempts: int,
        look: Callable[[str], Awaitable[Record]],
        note: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """Args:
        attempts: starts of a segment before it is given up.
        look: reads a segment's record.
        note: writes down, before it begins, which start alone this is, from 1 on.
        """
        self._together = min(TOGETHER, attempts)
        self._alone = max(1, attempts - TOGETHER)
        self._look, self._note = look, note
        self._changed = asyncio.Condition()
        self._inside = 0
        self._is_taken = False
        self._waiting: list[tuple[int, str]] = []

    @contextlib.asynccontextmanager
    async def entered(self, segment: str) -> AsyncIterator[None]:
        """Wait until the segment may run, and let it; its starts are counted.

        Raises:
            WorkFailed: it was started too often.
        """
        record = await self._look(segment)
        if record.starts <= self._together:
            async with self._beside_others():
                yield
            return
        if record.alone >= self._alone:
            detail = f"a segment was started too often without ending: {record.starts - 1} times"
            raise WorkFailed(Failure("INTERNAL", {"detail": detail}))
        async with self._with_nobody(segment, record.alone):
            await self._note(segment, record.alone + 1)
            yield

    @contextlib.asynccontextmanager
    async def _beside_others(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_taken and not self._waiting)
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            await self._tell()

    @contextlib.asynccontextmanager
    async def _with_nobody(self, segment: str, alone: int) -> AsyncIterator[None]:
        # Those with the fewest starts alone go first: an innocent one is through before the guilty one's next turn.
        place = (alone, segment)
        self._waiting.append(place)
        try:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: not self._is_taken and self._inside == 0 and min(self._waiting) == place
                )
                self._is_taken = True
            self._waiting.remove(place)
            try:
                yield
            finally:
                self._is_taken = False
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
