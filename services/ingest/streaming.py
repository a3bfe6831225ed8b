"""One Decode stream: credits in, frames out, a child in between.

A credit is memory for one frame, or so many bytes that may go inline. The child is told of a place only when a credit
paid for it, so a caller that stops looking stops the decoder, one frame ahead at most. What is lent together is decoded
and answered together: a message for each frame, on three hops, cost 1 ms of CPU a frame.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.common.child import ChildStream
from services.common.errors import DecoderDied, FrameBatchInvalid, LaneRefused, MasqueradeError
from services.common.lanes.payload import INLINE_CAP
from services.common.lanes.pulling import SLOT_FLOOR_BYTES
from services.common.lanes.region import SlotRef
from services.common.lanes.registry import Registry
from services.common.lanes.ring import Ring, Slot
from services.common.lanes.views import ViewWanted, frame_nbytes
from services.common.media.index import MediaIndex

_PRIVATE_SLOTS: Final = 2
"""Slots of a stream without shared memory: one is written while the other is copied into its message."""

TOGETHER: Final = 8
"""Most frames in one answer: a group of the analysis. More would let its first frame wait for its last for long."""

Credit: TypeAlias = SlotRef | int
"""A slot for one frame, or so many more bytes that may be sent inline."""

Grants: TypeAlias = AsyncIterator[Sequence[Credit]]
"""Credits as they were granted together."""


@dataclass(frozen=True, slots=True)
class Given:
    """One frame, written.

    Attributes:
        number: presentation index.
        pts: in the video's time base.
        top_field_first: None unless the video is interlaced.
        payload: where it lies, or its bytes.
    """

    number: int
    pts: int
    top_field_first: bool | None
    payload: SlotRef | bytes


class Memory(ABC):
    """Where a stream's frames are written, as its child sees it."""

    @abstractmethod
    def fileno(self) -> int:
        """The memory's descriptor."""

    @abstractmethod
    async def places(self, grants: Grants, sizes: Sequence[int]) -> list[SlotRef]:
        """Places for the next frames, as many as one grant paid for; none when the caller will lend no more.

        Args:
            grants: from the caller.
            sizes: bytes of each of the next frames, at least one.
        """

    @abstractmethod
    def collect(self, place: SlotRef) -> SlotRef | bytes:
        """What to answer, now that the place is written."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is not the caller's."""


class LentMemory(Memory):
    """Slots in the caller's region: they are his, we only look whether they still are lent."""

    def __init__(self, region_id: str, regions: Registry) -> None:
        self._region = regions.find(region_id)
        self._lent: deque[Credit] = deque()

    def fileno(self) -> int:
        return self._region.fileno()

    async def places(self, grants: Grants, sizes: Sequence[int]) -> list[SlotRef]:
        while not self._lent:
            granted = await anext(grants, None)
            if granted is None:
                return []
            self._lent.extend(granted)
        count = min(len(self._lent), len(sizes))
        return [self._place(self._lent.popleft(), nbytes) for nbytes in sizes[:count]]

    def _place(self, credit: Credit, nbytes: int) -> SlotRef:
        if not isinstance(credit, SlotRef) or credit.region != self._region.id:
            raise LaneRefused(detail="one stream's slots lie in one region")
        if credit.nbytes < nbytes:
            raise FrameBatchInvalid(problem=f"a frame of {nbytes} bytes does not fit a slot of {credit.nbytes}")
        self._region.check(credit)
        return SlotRef(credit.region, credit.offset, nbytes, credit.generation)

    def collect(self, place: SlotRef) -> SlotRef:
        self._region.check(place)
        return place

    def close(self) -> None:
        """Nothing here is ours."""


class PrivateMemory(Memory):
    """Slots of our own, copied into messages, for callers that see no memory of ours."""

    def __init__(self, largest_nbytes: int) -> None:
        if largest_nbytes > INLINE_CAP:
            raise FrameBatchInvalid(
                problem=f"a frame of {largest_nbytes} bytes does not fit a message of {INLINE_CAP}; lend slots for it"
            )
        page = -(-max(SLOT_FLOOR_BYTES, largest_nbytes) // 4096) * 4096
        self._ring = Ring(_PRIVATE_SLOTS * page, page_bytes=page)
        self._slots: dict[SlotRef, Slot] = {}
        self._budget = 0

    def fileno(self) -> int:
        return self._ring.region.fileno()

    async def places(self, grants: Grants, sizes: Sequence[int]) -> list[SlotRef]:
        # One at a time: pixels in messages are large enough to go alone.
        nbytes = sizes[0]
        # A frame without a picture costs a little too, or credit for one would be credit for all.
        price = max(SLOT_FLOOR_BYTES, nbytes)
        while self._budget < price:
            granted = await anext(grants, None)
            if granted is None:
                return []
            for credit in granted:
                if not isinstance(credit, int):
                    raise LaneRefused(detail="a stream takes slots or inline bytes, not both")
                self._budget += credit
        self._budget -= price
        slot = await self._ring.acquire(max(1, nbytes))
        self._slots[slot.ref] = slot
        return [slot.ref]

    def collect(self, place: SlotRef) -> bytes:
        with self._slots.pop(place) as slot:
            return bytes(slot.buffer)

    def close(self) -> None:
        self._ring.close()


def memory_for(first: Sequence[Credit], views: Sequence[ViewWanted], frames: range, regions: Registry) -> Memory:
    """The memory that a stream's first grant asks for.

    Raises:
        LaneRefused: a region that we do not see.
        FrameBatchInvalid: frames too large for messages.
    """
    if isinstance(first[0], SlotRef):
        return LentMemory(first[0].region, regions)
    return PrivateMemory(max(frame_nbytes(views, number) for number in frames))


async def give_frames(
    child: ChildStream,
    memory: Memory,
    grants: Grants,
    *,
    index: MediaIndex,
    views: Sequence[ViewWanted],
    frames: range,
) -> AsyncGenerator[list[Given], None]:
    """Pass credits to the child and frames to the caller, until one of them ends.

    Args:
        child: runs `decode_child.decode_views` for these frames and views.
        memory: of this stream.
        grants: from the caller.
        index: of the video.
        views: wanted of each frame.
        frames: numbers to give, in order.

    Yields:
        One frame or more, those that were lent for together.

    Raises:
        MasqueradeError: what the caller did wrong with his memory, or what the video did.
    """
    places: asyncio.Queue[list[SlotRef] | MasqueradeError] = asyncio.Queue()

    async def grant() -> None:
        ahead = frames
        try:
            while ahead:
                paid = await memory.places(grants, [frame_nbytes(views, number) for number in ahead[:TOGETHER]])
                if paid:
                    await child.send([[place.offset, place.nbytes] for place in paid])
                places.put_nowait(paid)
                if not paid:
                    return
                ahead = ahead[len(paid) :]
        except MasqueradeError as error:
            places.put_nowait(error)

    is_interlaced = index.is_interlaced
    granting = asyncio.create_task(grant(), name="decode grants")
    number = frames.start
    try:
        while number < frames.stop:
            paid = await places.get()
            if isinstance(paid, MasqueradeError):
                raise paid
            if not paid:
                return
            while paid:
                said = await child.receive()
                # A child that fails says first what it had written: fewer than it was asked for.
                if not said or said != list(range(number, number + len(paid)))[: len(said)]:
                    raise DecoderDied(how="it wrote other frames than it was asked for")
                written, paid = paid[: len(said)], paid[len(said) :]
                yield [
                    Given(
                        number=number + at,
                        pts=int(index.pts[number + at]),
                        top_field_first=index.picture.top_field_first if is_interlaced else None,
                        payload=memory.collect(place),
                    )
                    for at, place in enumerate(written)
                ]
                number += len(written)
    finally:
        granting.cancel()
        await asyncio.gather(granting, return_exceptions=True)
