"""The detector's one peer: ingest, which decodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from grpc import aio

from masquerade.v1 import ingest_pb2_grpc
from services.common.lanes.handshake import Lanes
from services.common.lanes.pulling import FramePull
from services.common.lanes.region import PAGE_BYTES
from services.common.lanes.ring import Ring
from services.common.lanes.views import PlanesWanted, frame_nbytes
from services.detector.conducting import FramesWanted


class IngestFrames:
    """Frames from ingest, in memory of our own: a ring for each segment at work, kept for the next.

    One ring for all segments would let two of them hold what the other waits for.
    """

    def __init__(self, channel: aio.Channel, *, segments: int, folder: Path | None = None) -> None:
        """Args:
        channel: to ingest.
        segments: at work at once; more wait in line.
        folder: where containers share memory; None keeps it inside the process tree.
        """
        self._channel = channel
        self._stub = ingest_pb2_grpc.IngestServiceStub(channel)
        self._folder = folder
        self._free = asyncio.Semaphore(segments)
        self._idle: list[tuple[Ring, Lanes]] = []

    @asynccontextmanager
    async def pull(self, wanted: FramesWanted) -> AsyncIterator[FramePull]:
        """The frames' planes, in order, each lent until it is released."""
        view = PlanesWanted(wanted.width, wanted.height)
        nbytes = frame_nbytes((view,), wanted.first)
        pages = wanted.most_frames * -(-nbytes // PAGE_BYTES)
        async with self._free:
            ring, lanes = await self._take(pages * PAGE_BYTES)
            try:
                async with FramePull(
                    self._stub,
                    await lanes.to(self._channel),
                    asset_key=wanted.asset_key,
                    index_key=wanted.index_key,
                    frames=(wanted.first, wanted.last),
                    views=[view],
                    max_bytes=wanted.most_frames * nbytes,
                ) as frames:
                    yield frames
            finally:
                self._idle.append((ring, lanes))

    async def close(self) -> None:
        """Give all memory back."""
        for ring, _ in self._idle:
            ring.close()
        self._idle.clear()

    async def _take(self, nbytes: int) -> tuple[Ring, Lanes]:
        """A ring that is large enough; one that is not gives way to a larger one."""
        while self._idle:
            ring, lanes = self._idle.pop()
            if ring.total_bytes >= nbytes:
                return ring, lanes
            ring.close()
        # Allocating touches every page: a few dozen milliseconds that must not hold up the loop.
        ring = await asyncio.to_thread(Ring, nbytes, folder=self._folder)
        return ring, Lanes(ring)
