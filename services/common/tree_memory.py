"""How much memory this process and its children hold together, watched while work goes on.

The proportional set size counts a shared page once, whoever maps it, but asking for it makes the kernel walk all page
tables: some milliseconds for a process of some hundred MiB. Resident sizes cost microseconds. So those are looked at
often, and the proportional size is asked for only when they say that there is more than there was at the last peak.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

EVERY_S = 0.5
GROWTH = 1.01
"""How much more must be resident before it is worth asking again: a hundredth is less than anybody asks for."""

_PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# What a process that ends between being listed and being asked answers.
_ENDED = (FileNotFoundError, ProcessLookupError, PermissionError)


class Peak:
    """The largest proportional set size that was seen."""

    def __init__(self) -> None:
        self.mib = 0.0


class TreeMemory:
    """Watches the tree of this process for anyone who wants to know its peak; one look serves all of them."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._peaks: set[Peak] = set()
        self._task: asyncio.Task[None] | None = None
        self._resident = 0.0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[Peak]:
        """Watch while the block lasts; the peak is known at any time in it."""
        peak = Peak()
        self._peaks.add(peak)
        # Whoever comes new has seen nothing yet, and may have left again before the next look.
        self._resident = 0.0
        await self.look()
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            yield peak
        finally:
            self._peaks.discard(peak)
            if not self._peaks and self._task is not None:
                self._task.cancel()
                self._task = None

    async def look(self) -> None:
        """Measure now, if there is more than before."""
        resident, found = await asyncio.to_thread(_measure, self._resident * GROWTH)
        if found is None:
            return
        self._resident = resident
        for peak in self._peaks:
            peak.mib = max(peak.mib, found)

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)


def proportional_mib() -> float:
    """Proportional set size of this process and all that descend from it."""
    return _proportional_mib(_tree(os.getpid()))


def _measure(known_bytes: float) -> tuple[float, float | None]:
    """Resident bytes of the tree, and its proportional MiB where more is resident than was known."""
    tree = list(_tree(os.getpid()))
    resident = sum(_resident_bytes(process) for process in tree)
    if resident <= known_bytes:
        return resident, None
    return resident, _proportional_mib(tree)


def _proportional_mib(tree: Iterable[int]) -> float:
    return sum(_proportional_kib(process) for process in tree) / 1024


def _tree(process: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield process
    with contextlib.suppress(*_ENDED):
        for thread in (_PROC / str(process) / "task").iterdir():
            # A child belongs to the thread that made it.
            with contextlib.suppress(*_ENDED):
                for child in (thread / "children").read_text().split():
                    yield from _tree(int(child))


def _resident_bytes(process: int) -> int:
    with contextlib.suppress(*_ENDED):
        return int((_PROC / str(process) / "statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def _proportional_kib(process: int) -> int:
    with contextlib.suppress(*_ENDED):
        for line in (_PROC / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
