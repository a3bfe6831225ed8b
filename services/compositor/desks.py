"""Memory for renders: each works at a desk of its own, with a ring that nobody else takes from.

One ring for all would let two renders hold what the other waits for. A ring is kept from one render to the next, so
that its memory is allocated, and agreed on with the peers, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.common.lanes.handshake import Lanes
from services.common.lanes.ring import Ring
from services.common.metrics import RingUsage

if TYPE_CHECKING:
    from services.compositor.peers import Peers

PeersAt = Callable[[Lanes], "Peers"]


class Desk:
    """A ring, and the lanes agreed on over it. The ring grows when a render needs more, and stays so."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._usage = RingUsage()
        self._ring: Ring | None = None
        self._lanes: Lanes | None = None

    def lanes(self, nbytes: int) -> Lanes:
        """Lanes over a ring of at least so many bytes."""
        if self._ring is None or self._lanes is None or self._ring.total_bytes < nbytes:
            self.close()
            self._usage = RingUsage()
            self._ring = Ring(nbytes, folder=self._folder, on_usage=self._usage)
            self._lanes = Lanes(self._ring)
        return self._lanes

    def close(self) -> None:
        """Give the memory back."""
        if self._ring is not None:
            self._ring.close()
            self._usage(0, 0)
        self._ring = self._lanes = None


class Desks:
    """So many renders at once; the others wait in line."""

    def __init__(self, count: int, peers_at: PeersAt, *, folder: Path | None = None) -> None:
        """Args:
        count: renders at once.
        peers_at: makes the peers that talk over a desk's lanes.
        folder: where containers share memory; None keeps it inside the process tree.
        """
        self._peers_at = peers_at
        self._all = [Desk(folder) for _ in range(count)]
        self._free: asyncio.LifoQueue[Desk] = asyncio.LifoQueue()
        for desk in self._all:
            self._free.put_nowait(desk)

    @asynccontextmanager
    async def desk(self, nbytes: int) -> AsyncIterator[Peers]:
        """A desk with so much memory, for as long as the block lasts."""
        desk = await self._free.get()
        try:
            # Allocating touches every page: a few dozen milliseconds that must not hold up the loop.
            yield self._peers_at(await asyncio.to_thread(desk.lanes, nbytes))
        finally:
            self._free.put_nowait(desk)

    async def close(self) -> None:
        """Give all memory back."""
        for desk in self._all:
            desk.close()
