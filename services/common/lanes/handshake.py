"""Both ends of the proof that they see the same memory.

The caller writes a random number into its region and asks the peer to read it. A name alone proves nothing: two
machines may have a file of the same name, and a peer behind another mount sees another folder.
"""

from __future__ import annotations

import asyncio
import secrets
import weakref
from typing import Final

import grpc
from grpc import aio

from masquerade.v1 import lane_pb2 as pb
from masquerade.v1 import lane_pb2_grpc
from services.common.deps import Registration
from services.common.errors import Internal, LaneRefused, LeaseExpired
from services.common.lanes.lane import Lane
from services.common.lanes.registry import REGIONS, Registry
from services.common.lanes.ring import Ring

NONCE_BYTES: Final = 16


class LaneServicer(lane_pb2_grpc.LaneServiceServicer):
    """The peer's end: reads the number back. Every internal server offers it."""

    def __init__(self, regions: Registry = REGIONS) -> None:
        self._regions = regions

    async def Open(self, request: pb.OpenRequest, context: object) -> pb.OpenResponse:
        """What we see at a place of a region, if we see the region; never an error, so that callers need no guess."""
        try:
            region = self._regions.find(request.region)
            nonce = region.peek(request.nonce_offset, NONCE_BYTES)
        except (LaneRefused, LeaseExpired):
            return pb.OpenResponse(mapped=False)
        if region.nbytes != request.size_bytes:
            return pb.OpenResponse(mapped=False)
        return pb.OpenResponse(mapped=True, nonce=nonce)


def lane_service(servicer: lane_pb2_grpc.LaneServiceServicer | None = None) -> Registration:
    """What every internal server offers beside its own service: the proof of which memory it sees."""
    offered = LaneServicer() if servicer is None else servicer
    return Registration(
        pb.DESCRIPTOR.services_by_name["LaneService"].full_name,
        lambda server: lane_pb2_grpc.add_LaneServiceServicer_to_server(offered, server),
    )


class Lanes:
    """The caller's end: one ring, and for each channel what was agreed on."""

    def __init__(self, ring: Ring | None, *, timeout_s: float = 5.0) -> None:
        """Keep a ring for calls.

        Args:
            ring: memory for pixels; None means that everything travels inline.
            timeout_s: how long a peer may take to answer the proof.
        """
        self._ring = ring
        self._timeout_s = timeout_s
        self._agreed: weakref.WeakKeyDictionary[aio.Channel, Lane] = weakref.WeakKeyDictionary()
        self._asking = asyncio.Lock()

    async def to(self, channel: aio.Channel) -> Lane:
        """The lane to a peer: shared if it proved that it sees our memory, else inline. Asked once for a channel."""
        async with self._asking:
            lane = self._agreed.get(channel)
            if lane is None:
                lane = self._agreed[channel] = Lane(await self._proven(channel))
            return lane

    async def _proven(self, channel: aio.Channel) -> Ring | None:
        """The ring, if the peer sees it."""
        if self._ring is None or not await proves_shared(channel, self._ring, timeout_s=self._timeout_s):
            return None
        return self._ring


async def proves_shared(channel: aio.Channel, ring: Ring, *, timeout_s: float) -> bool:
    """Whether the peer reads from our region what we have just written there.

    Raises:
        grpc.aio.AioRpcError, MasqueradeError: the peer does not answer at all; which one is the channel's choice.
        RingFull: not one page became free to write into.
    """
    with await ring.acquire(NONCE_BYTES, timeout=timeout_s) as slot:
        nonce = secrets.token_bytes(NONCE_BYTES)
        slot.buffer[:] = nonce
        request = pb.OpenRequest(region=slot.ref.region, size_bytes=ring.region.nbytes, nonce_offset=slot.ref.offset)
        try:
            answer = await lane_pb2_grpc.LaneServiceStub(channel).Open(request, timeout=timeout_s)
        except (aio.AioRpcError, Internal) as error:
            if _lacks_the_service(error):
                return False
            raise
    return answer.mapped and secrets.compare_digest(answer.nonce, nonce)


def _lacks_the_service(error: aio.AioRpcError | Internal) -> bool:
    """Whether a peer has no LaneService: it is not broken, it takes pixels inline."""
    code = error.fields.get("status") if isinstance(error, Internal) else error.code().name
    return code == grpc.StatusCode.UNIMPLEMENTED.name
