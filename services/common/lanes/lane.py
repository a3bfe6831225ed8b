"""A caller's way to one peer: pixels out in slots or inline, memory for the answer, and the answer checked.

    async with lane.offer_frames(frames) as batch, lane.reserve(nbytes) as answer:
        response = await stub.Segment(SegmentRequest(frames=batch, answer_slot=answer.lease))
        mattes = answer.frames(response.mattes).pixels.copy()

All memory is the caller's. What was sent is free again when the block ends; what the peer was to write into is set
aside for a while if the block ends with an error, because the peer may still be writing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from masquerade.v1 import frames_pb2 as pb
from services.common.errors import AnswerMismatch, FrameBatchInvalid
from services.common.lanes import payload as wire
from services.common.lanes.pictures import Frames, Picture, PixelFormat, Shape, lay_out, read_picture
from services.common.lanes.region import SlotRef
from services.common.lanes.ring import Ring, Slot

QUARANTINE_S: Final = 5.0
"""How long a slot rests that a peer may still be writing into. Cancelling takes effect within two seconds."""

PATIENCE_S: Final = 30.0
"""How long a message too large to go inline waits for memory; longer means that the ring is too small for its work."""


class Answer:
    """Where the peer may write its answer, and the answer read from there. Use it inside the block that made it."""

    def __init__(self, slot: Slot | None) -> None:
        self._slot = slot

    @property
    def lease(self) -> pb.SlotLease | None:
        """What to put into the request; None, which leaves the field unset, asks for an inline answer."""
        return None if self._slot is None else wire.lease_message(self._slot.ref)

    def frames(self, message: pb.FrameBatch) -> Frames:
        """The frames of an answer, as arrays on the slot or on the message.

        Raises:
            AnswerMismatch: it lies in memory that was not lent for it.
            FrameBatchInvalid: it contradicts itself.
        """
        shape, colour = wire.read_batch(message)
        buffer = self.buffer(message.payload, len(message.pts) * shape.nbytes)
        return wire.frames_in(buffer, message, shape, colour)

    def pictures(self, message: pb.ImageSet) -> list[Picture]:
        """The pictures of an answer, RGB or grey.

        Raises:
            AnswerMismatch: it lies in memory that was not lent for it.
            FrameBatchInvalid: it contradicts itself.
        """
        shapes, needed = wire.read_images(message.images)
        if any(shape.format is PixelFormat.I420 for shape in shapes):
            raise FrameBatchInvalid(problem="a set of images cannot hold planes: their colour is not named")
        buffer = self.buffer(message.payload, needed)
        return [read_picture(buffer, shape, at.offset) for shape, at in zip(shapes, message.images, strict=True)]

    def buffer(self, payload: pb.Payload, nbytes: int) -> memoryview:
        """At least `nbytes` bytes of an answer's payload.

        Raises:
            AnswerMismatch: the payload names a slot other than the one that was lent.
            FrameBatchInvalid: there are fewer bytes.
        """
        return answered_bytes(payload, nbytes, self._slot)


class Lane:
    """How pixels travel to one peer."""

    def __init__(self, ring: Ring | None) -> None:
        """Use a ring that the peer was proven to see; None sends everything inline."""
        self._ring = ring

    @property
    def ring(self) -> Ring | None:
        """The shared memory, if there is any."""
        return self._ring

    @property
    def most_bytes(self) -> int:
        """Most bytes that one message can carry on this lane: split what is larger."""
        return wire.INLINE_CAP if self._ring is None else self._ring.total_bytes

    def go_inline(self) -> None:
        """Lend no memory from now on: the peer said that it does not see it, as another replica behind a name may."""
        self._ring = None

    @asynccontextmanager
    async def offer_frames(self, frames: Frames) -> AsyncIterator[pb.FrameBatch]:
        """Frames as a message, valid inside the block.

        Raises:
            RingFull: more bytes than fit inline, and no memory.
            FrameBatchInvalid: more bytes than fit inline, on an inline lane.
        """
        slot = await self._slot(frames.nbytes)
        if slot is None:
            yield wire.place_frames(frames)
            return
        with slot:
            wire.write_frames(frames, slot.buffer)
            yield wire.batch_message(frames, pb.Payload(slot=wire.lease_message(slot.ref)))

    @asynccontextmanager
    async def offer_pictures(self, pictures: Sequence[Picture]) -> AsyncIterator[pb.ImageSet]:
        """Pictures as a message, valid inside the block.

        Raises:
            RingFull: more bytes than fit inline, and no memory.
            FrameBatchInvalid: more bytes than fit inline, on an inline lane.
        """
        shapes = [Shape.of(picture) for picture in pictures]
        offsets, nbytes = lay_out(shapes)
        slot = await self._slot(nbytes)
        if slot is None:
            yield wire.place_pictures(pictures)
            return
        with slot:
            wire.write_pictures(pictures, offsets, slot.buffer)
            yield wire.images_message(shapes, offsets, pb.Payload(slot=wire.lease_message(slot.ref)))

    @asynccontextmanager
    async def reserve(self, nbytes: int) -> AsyncIterator[Answer]:
        """Memory for an answer of at most `nbytes`, inside the block."""
        slot = await self._slot(nbytes)
        try:
            yield Answer(slot)
        except BaseException:
            if slot is not None:
                slot.retire(QUARANTINE_S)
            raise
        if slot is not None:
            slot.release()

    async def _slot(self, nbytes: int) -> Slot | None:
        """A slot, or None where the bytes are to go inline."""
        if self._ring is None or not nbytes:
            return None
        # Memory that frames hold may be freed only by the very work that this message asks for, so what can go inline
        # never waits in line for memory.
        if self._ring.total_bytes < nbytes <= wire.INLINE_CAP:
            return None
        slot = self._ring.try_acquire(nbytes)
        if slot is not None or nbytes <= wire.INLINE_CAP:
            return slot
        return await self._ring.acquire(nbytes, timeout=PATIENCE_S)


def answered_bytes(payload: pb.Payload, nbytes: int, lent: Slot | None) -> memoryview:
    """At least `nbytes` of what a peer answered: in the slot that was lent to it, or in the message.

    Our own books say which slot that was, so the shared table, which a peer can write, is not asked.

    Raises:
        AnswerMismatch: it names a slot that was not lent for this answer.
        FrameBatchInvalid: there are fewer bytes.
    """
    if payload.WhichOneof("place") != "slot":
        with wire.borrow_payload(payload, nbytes) as buffer:
            return buffer
    ref = wire.read_lease(payload.slot)
    if lent is None or not _is_within(ref, lent.ref):
        raise AnswerMismatch(asked=_named(None if lent is None else lent.ref), answered=_named(ref))
    if ref.nbytes < nbytes:
        raise FrameBatchInvalid(problem=f"{nbytes} bytes of pixels cannot lie in {ref.nbytes}")
    return lent.buffer[: ref.nbytes]


def check_answered(asked: Frames, answered: Frames, *, peer: str) -> None:
    """Refuse an answer that is not about exactly the frames that were asked, in order.

    Raises:
        AnswerMismatch: it is about others.
    """
    if (asked.first_index, asked.pts) != (answered.first_index, answered.pts):
        raise AnswerMismatch(
            asked=f"{len(asked)} frames from {asked.first_index}",
            answered=f"{len(answered)} frames from {answered.first_index}",
            peer=peer,
        )


def _is_within(ref: SlotRef, lent: SlotRef) -> bool:
    return (ref.region, ref.offset, ref.generation) == (lent.region, lent.offset, lent.generation) and (
        ref.nbytes <= lent.nbytes
    )


def _named(ref: SlotRef | None) -> str:
    return "inline" if ref is None else f"slot {ref.offset} of generation {ref.generation}"
