"""The caller's side of Decode: frames in order, in memory that the caller lends and takes back.

    async with FramePull(stub, lane, asset_key=..., index_key=..., frames=(0, 96), views=[...], max_bytes=...) as pull:
        async for frame in pull:
            with frame:
                use(frame.planes)

Memory is lent ahead of the decoder up to `max_bytes`; releasing a frame is what lets the decoder go on. A frame whose
release is forgotten therefore stops the stream instead of growing it. Slots are lent several at a time, and come back
with several frames in an answer: every message costs both ends a turn of their loops.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, Protocol, TypeAlias

from grpc import aio

from masquerade.v1 import frames_pb2, media_pb2
from masquerade.v1 import ingest_pb2 as pb
from services.common.errors import AnswerMismatch, MasqueradeError
from services.common.lanes import payload as wire
from services.common.lanes.frame import DecodedFrame
from services.common.lanes.lane import PATIENCE_S, QUARANTINE_S, Lane, answered_bytes
from services.common.lanes.pictures import Picture, PixelFormat, Shape, read_picture
from services.common.lanes.ring import Slot
from services.common.lanes.views import CoverWanted, CropsWanted, PlanesWanted, RgbWanted, ViewWanted, frame_nbytes

DecodeCall: TypeAlias = "aio.StreamStreamCall[pb.DecodeRequest, pb.DecodeResponse]"

SLOT_FLOOR_BYTES: Final = 64
"""A frame of which nothing but its PTS is wanted still needs a slot: a slot is what asks for a frame."""

TOGETHER: Final = 8
"""Most slots in one grant."""

TOGETHER_SHARE: Final = 4
"""What is lent together is at most this part of all that may be lent: the decoder works in what is left meanwhile."""

GATHER_S: Final = 0.25
"""How long freed memory waits for more of it before it is lent again alone. The caller has frames in hand meanwhile;
and if it holds all of them and needs one more, that one is late by this and no more."""

LET_IN_S: Final = 0.25
"""How long we wait for a peer to let the stream in before we speak all the same; ours answer at once, see `ending`."""


class DecodeStub(Protocol):
    """What we need of a stub of IngestService."""

    @property
    def Decode(self) -> aio.StreamStreamMultiCallable[pb.DecodeRequest, pb.DecodeResponse]:
        """The stream."""


class FramePull:
    """One Decode stream. Enter it, iterate it once, release each frame.

    Leaving it ends the stream. Frames that are still held then are released too; after an error their memory rests for
    a while, because a thread may still be looking at it.
    """

    def __init__(
        self,
        stub: DecodeStub,
        lane: Lane,
        *,
        asset_key: str,
        index_key: str,
        frames: tuple[int, int],
        views: Sequence[ViewWanted],
        max_bytes: int,
    ) -> None:
        """Describe what to pull; nothing is sent before the block is entered.

        Args:
            stub: of IngestService.
            lane: to that service.
            asset_key: key of the video.
            index_key: key of its index.
            frames: first presentation index and the one after the last.
            views: what is wanted of each frame.
            max_bytes: memory lent at once, frames in the caller's hands included. One frame is lent in any case; a
                caller that looks at n frames at a time needs room for n + 1.
        """
        self._stub, self._lane = stub, lane
        self._open = pb.DecodeOpen(
            asset_key=asset_key,
            index_key=index_key,
            frames=media_pb2.FrameRange(first=frames[0], last=frames[1]),
            views=[_view_message(view) for view in views],
        )
        self._first, self._last = frames
        self._views = tuple(views)
        self._max_bytes = max_bytes
        self._lent: deque[tuple[Slot | None, int]] = deque()
        self._held: set[DecodedFrame] = set()
        self._lent_bytes = 0
        self._room_wanted = 0
        self._room = asyncio.Event()
        self._saying = asyncio.Lock()
        self._is_ending = False
        self._running: tuple[DecodeCall, asyncio.Task[None]] | None = None

    async def __aenter__(self) -> FramePull:
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        call = self._stub.Decode()
        self._running = call, asyncio.create_task(self._grant(call), name="decode grants")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        call, granting = self._started()
        granting.cancel()
        call.cancel()
        try:
            await asyncio.gather(granting, return_exceptions=True)
        finally:
            # Whoever is cancelled here, a second time perhaps, must not keep the memory: the ring outlives this pull.
            for slot, _ in self._lent:
                if slot is not None:
                    slot.retire(QUARANTINE_S)
            self._lent.clear()
            for frame in list(self._held):
                frame.release(quarantine_s=0.0 if error is None else QUARANTINE_S)

    def __aiter__(self) -> AsyncIterator[DecodedFrame]:
        return self._frames()

    async def _frames(self) -> AsyncIterator[DecodedFrame]:
        """The frames of the range, each once, in order.

        Raises:
            AnswerMismatch: the peer gave another frame, other views, or not all.
            FrameBatchInvalid: an answer contradicts itself.
            RingFull: no memory became free to lend.
        """
        call, granting = self._started()
        index = self._first
        while index < self._last:
            answered = await self._next(call, granting)
            if not answered:
                raise AnswerMismatch(asked=f"frame {index}", answered="the end of the stream", peer="ingest")
            for answer in answered:
                if answer.index != index or index == self._last:
                    raise AnswerMismatch(asked=f"frame {index}", answered=f"frame {answer.index}", peer="ingest")
                index += 1
                yield self._received(answer)
        # The stream must end here by itself: a frame too many is as wrong as one too few.
        if await self._next(call, granting):
            raise AnswerMismatch(asked=f"{self._last - self._first} frames", answered="more", peer="ingest")

    def _started(self) -> tuple[DecodeCall, asyncio.Task[None]]:
        if self._running is None:
            raise RuntimeError("a pull is entered before it is iterated: async with FramePull(...) as pull")
        return self._running

    async def _next(self, call: DecodeCall, granting: asyncio.Task[None]) -> Sequence[pb.DecodedFrame]:
        """The next frames, none at the end of the stream; raises what stopped the lending, if something did."""
        reading = asyncio.ensure_future(call.read())
        try:
            await asyncio.wait({reading, granting}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and granting.done():
                granting.result()
            answer = await reading
        finally:
            reading.cancel()
        if isinstance(answer, pb.DecodeResponse) and not answer.frames:
            # These were its last words (see `ending`).
            await self._fall_silent(call)
            answer = await call.read()
        return answer.frames if isinstance(answer, pb.DecodeResponse) else ()

    async def _fall_silent(self, call: DecodeCall) -> None:
        """Let no write be on the way when the peer's error comes, or gRPC would put its own in place of it."""
        self._is_ending = True
        async with self._saying:
            # A stream that has ended by now cannot be closed; its status is read next in any case.
            await asyncio.gather(call.done_writing(), return_exceptions=True)

    async def _say(self, call: DecodeCall, request: pb.DecodeRequest) -> None:
        async with self._saying:
            if self._is_ending:
                return
            try:
                await call.write(request)
            except (aio.AioRpcError, asyncio.InvalidStateError, MasqueradeError):
                # The stream has ended; why, its reader will be told.
                self._is_ending = True

    async def _grant(self, call: DecodeCall) -> None:
        """Lend memory for every frame of the range, as far ahead as allowed."""
        await _let_in(call)
        await self._say(call, pb.DecodeRequest(open=self._open))
        index = self._first
        while index < self._last and not self._is_ending:
            grant = pb.DecodeGrant()
            for nbytes in await self._room_for(index):
                slot = await self._slot(nbytes, has_others=bool(grant.slots))
                if slot is None and grant.slots:
                    break
                self._lent.append((slot, nbytes))
                self._lent_bytes += nbytes
                index += 1
                if slot is None:
                    # Pixels in messages are large enough to be paid for, and to go, alone.
                    grant.inline_bytes = nbytes
                    break
                grant.slots.append(wire.lease_message(slot.ref))
            await self._say(call, pb.DecodeRequest(grant=grant))

    async def _slot(self, nbytes: int, *, has_others: bool) -> Slot | None:
        """Memory for a frame, waited for if nothing else can be lent meanwhile; None where frames come inline."""
        ring = self._lane.ring
        if ring is None:
            return None
        return ring.try_acquire(nbytes) if has_others else await ring.acquire(nbytes, timeout=PATIENCE_S)

    async def _room_for(self, index: int) -> list[int]:
        """Sizes of the frames from `index` on that may be lent now: one at least, and soon, or several."""
        ahead = range(index, min(index + TOGETHER, self._last))
        sizes = [max(SLOT_FLOOR_BYTES, frame_nbytes(self._views, number)) for number in ahead]
        await self._room_of(sizes[0])
        share = self._max_bytes // TOGETHER_SHARE
        together = next((n for n in range(1, len(sizes)) if sum(sizes[: n + 1]) > share), len(sizes))
        try:
            async with asyncio.timeout(GATHER_S):
                await self._room_of(sum(sizes[:together]))
        except TimeoutError:
            together = next(n for n in range(together, 0, -1) if n == 1 or self._has_room(sum(sizes[:n])))
        return sizes[:together]

    async def _room_of(self, nbytes: int) -> None:
        """Wait until so many bytes more may be lent."""
        while not self._has_room(nbytes):
            self._room_wanted = nbytes
            self._room.clear()
            await self._room.wait()

    def _has_room(self, nbytes: int) -> bool:
        """Whether so many bytes more may be lent; one frame always may."""
        return not self._lent_bytes or self._lent_bytes + nbytes <= self._max_bytes

    def _received(self, answer: pb.DecodedFrame) -> DecodedFrame:
        """An answer as a frame, in the memory that was lent for it."""
        if not self._lent:
            raise AnswerMismatch(asked="frames for which memory was lent", answered="one more", peer="ingest")
        slot, nbytes = self._lent[0]
        pictures = self._pictures(answer, slot)
        self._lent.popleft()
        field_order = answer.top_field_first if answer.HasField("top_field_first") else None
        frame = DecodedFrame(
            answer.index,
            answer.pts,
            views=self._views,
            pictures=pictures,
            top_field_first=field_order,
            slot=slot,
            on_release=lambda released: self._returned(released, nbytes),
        )
        self._held.add(frame)
        return frame

    def _pictures(self, answer: pb.DecodedFrame, slot: Slot | None) -> dict[int, list[Picture]]:
        """The pictures of each view, checked against what was asked of this frame."""
        given = {view.view: view for view in answer.views}
        asked = {number: view.shapes(answer.index) for number, view in enumerate(self._views)}
        if len(given) != len(answer.views):
            raise AnswerMismatch(asked="each view once", answered="one of them twice", peer="ingest")
        for number, shapes in asked.items():
            images = given.pop(number).images if number in given else ()
            found, _ = wire.read_images(images)
            if tuple(found) != shapes:
                raise AnswerMismatch(asked=f"view {number}: {_sizes(shapes)}", answered=_sizes(found), peer="ingest")
        if given:
            raise AnswerMismatch(asked=f"{len(asked)} views", answered=f"view {min(given)}", peer="ingest")
        _, needed = wire.read_images([image for view in answer.views for image in view.images])
        buffer = answered_bytes(answer.payload, needed, slot)
        if slot is None:
            # Pixels are blended into planes in place, and the bytes of a message are not for writing.
            buffer = memoryview(bytearray(buffer))
        made: dict[int, list[Picture]] = {}
        for view in answer.views:
            colour = wire.read_colour(view.colour) if view.HasField("colour") else None
            shapes = asked[view.view]
            if colour is None and any(shape.format is PixelFormat.I420 for shape in shapes):
                raise AnswerMismatch(asked="planes with their colour", answered="planes without", peer="ingest")
            made[view.view] = [
                read_picture(buffer, shape, image.offset, colour)
                for shape, image in zip(shapes, view.images, strict=True)
            ]
        return made

    def _returned(self, frame: DecodedFrame, nbytes: int) -> None:
        """A frame was released, on whatever thread: its bytes may be lent again."""
        if threading.get_ident() == self._thread:
            self._make_room(frame, nbytes)
        else:
            self._loop.call_soon_threadsafe(self._make_room, frame, nbytes)

    def _make_room(self, frame: DecodedFrame, nbytes: int) -> None:
        self._held.discard(frame)
        self._lent_bytes -= nbytes
        if self._has_room(self._room_wanted):
            self._room.set()


async def _let_in(call: DecodeCall) -> None:
    """Wait until the peer has let the stream in: one that is refused at the door must not find us writing."""
    metadata = asyncio.ensure_future(call.initial_metadata())
    await asyncio.wait({metadata}, timeout=LET_IN_S)
    metadata.cancel()
    # A refusal brings its status with its metadata: let the loop take note of both.
    await asyncio.sleep(0)


def _sizes(shapes: Sequence[Shape]) -> str:
    return ", ".join(f"{shape.width}x{shape.height}" for shape in shapes) or "nothing"


def _view_message(view: ViewWanted) -> pb.View:
    """One wish as a message."""
    frames = None if view.frames is None else media_pb2.FrameRange(first=view.frames[0], last=view.frames[1])
    match view:
        case PlanesWanted():
            return pb.View(planes=pb.PlanesView(), frames=frames)
        case RgbWanted():
            return pb.View(rgb=pb.RgbView(width=view.width, height=view.height), frames=frames)
        case CoverWanted():
            colour = wire.colour_message(view.colour)
            return pb.View(cover=pb.CoverView(width=view.width, height=view.height, colour=colour), frames=frames)
        case CropsWanted():
            return pb.View(crops=_crops_message(view), frames=frames)


def _crops_message(view: CropsWanted) -> pb.CropsView:
    rects = {
        index: [frames_pb2.PixelRect(x0=x0, y0=y0, x1=x1, y1=y1) for x0, y0, x1, y1 in boxes]
        for index, boxes in view.boxes.items()
    }
    return pb.CropsView(frames=[pb.FrameCrops(index=index, rects=rects[index]) for index in sorted(rects)])
