"""Pulling frames from a Decode stream: order, credit, memory, and peers that do not keep the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio

from masquerade.v1 import ingest_pb2 as pb
from masquerade.v1 import ingest_pb2_grpc
from services.common.channels import build_channel
from services.common.colour import ColourTags
from services.common.errors import AnswerMismatch, CorruptMedia, FrameBatchInvalid, LeaseExpired, Overloaded, RingFull
from services.common.lanes import payload as wire
from services.common.lanes.ending import answered
from services.common.lanes.frame import DecodedFrame
from services.common.lanes.lane import Lane
from services.common.lanes.pictures import Picture
from services.common.lanes.pulling import FramePull
from services.common.lanes.region import PAGE_BYTES, SlotRef
from services.common.lanes.ring import Ring
from services.common.lanes.views import CoverWanted, CropsWanted, PlanesWanted, RgbWanted, ViewWanted
from services.common.planes import Planes, planes_nbytes
from services.common.status import to_grpc_status

HD = ColourTags(1, 1)
WIDTH, HEIGHT = 32, 16
PLANES = PlanesWanted(WIDTH, HEIGHT)

Spoil = Callable[[pb.DecodedFrame], Sequence[pb.DecodedFrame]]
Connect = Callable[["Decoder"], Awaitable[ingest_pb2_grpc.IngestServiceStub]]


class Decoder(ingest_pb2_grpc.IngestServiceServicer):
    """A peer that decodes nothing: every sample of frame n is n, its PTS 10 n. `spoil` changes its answers."""

    def __init__(self, spoil: Spoil = lambda answer: [answer]) -> None:
        self.spoil = spoil
        self.sent = 0
        self.opened = pb.DecodeOpen()

    async def Decode(self, requests: AsyncIterator[pb.DecodeRequest], context: Any) -> AsyncIterator[pb.DecodeResponse]:
        async for answer in answered(context, requests, self.decode):
            yield answer

    async def decode(self, requests: AsyncIterator[pb.DecodeRequest]) -> AsyncGenerator[pb.DecodeResponse, None]:
        grants = self._grants(requests)
        self.opened = (await anext(requests)).open
        for index in range(self.opened.frames.first, self.opened.frames.last):
            lease = await anext(grants)
            for answer in self.spoil(self._answer(index, lease)):
                self.sent += 1
                yield pb.DecodeResponse(frames=[answer])

    async def _grants(self, requests: AsyncIterator[pb.DecodeRequest]) -> AsyncIterator[Any]:
        async for request in requests:
            for lease in request.grant.slots or [None]:
                yield lease

    def _answer(self, index: int, lease: Any) -> pb.DecodedFrame:
        groups = [self._pictures(view, index) for view in self.opened.views]
        images = wire.place_pictures([picture for group in groups for picture in group], lease)
        rest = iter(images.images)
        views = []
        for number, group in enumerate(groups):
            if group:
                is_planes = isinstance(group[0], Planes)
                colour = wire.colour_message(HD) if is_planes else None
                views.append(pb.DecodedView(view=number, images=[next(rest) for _ in group], colour=colour))
        return pb.DecodedFrame(index=index, pts=10 * index, views=views, payload=images.payload)

    def _pictures(self, view: pb.View, index: int) -> list[Picture]:
        if view.HasField("frames") and not view.frames.first <= index < view.frames.last:
            return []
        match view.WhichOneof("kind"):
            case "planes":
                return [flat_planes(index, WIDTH, HEIGHT)]
            case "cover":
                return [flat_planes(index, view.cover.width, view.cover.height)]
            case "rgb":
                return [np.full((view.rgb.height, view.rgb.width, 3), index, np.uint8)]
            case _:
                rects = [rect for frame in view.crops.frames if frame.index == index for rect in frame.rects]
                return [np.full((r.y1 - r.y0, r.x1 - r.x0, 3), index, np.uint8) for r in rects]

    async def Probe(self, request: Any, context: Any) -> pb.ProbeResponse:
        raise NotImplementedError

    async def Index(self, request: Any, context: Any) -> pb.IndexResponse:
        raise NotImplementedError

    async def Plan(self, request: Any, context: Any) -> pb.PlanResponse:
        raise NotImplementedError


def flat_planes(level: int, width: int, height: int) -> Planes:
    return Planes.view(np.full(planes_nbytes(width, height), level, np.uint8), width, height, HD)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def start(decoder: Decoder) -> ingest_pb2_grpc.IngestServiceStub:
            server = aio.server()
            ingest_pb2_grpc.add_IngestServiceServicer_to_server(decoder, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
            channel = await stack.enter_async_context(build_channel(f"127.0.0.1:{port}", peer="ingest"))
            return ingest_pb2_grpc.IngestServiceStub(channel)

        yield start


@pytest.fixture
def ring() -> Any:
    ring = Ring(16 * PAGE_BYTES)
    yield ring
    ring.close()


def pull(
    stub: Any, lane: Lane, *, last: int = 20, views: Sequence[ViewWanted] = (PLANES,), pages: int = 4
) -> FramePull:
    return FramePull(
        stub,
        lane,
        asset_key="t/assets/a",
        index_key="t/index",
        frames=(5, last),
        views=views,
        max_bytes=pages * planes_nbytes(WIDTH, HEIGHT),
    )


async def drain(frames: FramePull, use: Callable[[DecodedFrame], None] = DecodedFrame.release) -> None:
    async with frames:
        async for frame in frames:
            use(frame)


@pytest.mark.parametrize("shared", [True, False])
async def test_every_frame_comes_once_in_order(connect: Connect, ring: Ring, shared: bool) -> None:
    decoder = Decoder()
    seen = []
    async with pull(await connect(decoder), Lane(ring if shared else None), last=60) as frames:
        async for frame in frames:
            with frame:
                assert frame.planes is not None
                assert frame.planes.colour == HD
                assert {int(p.min()) for p in (frame.planes.y, frame.planes.u, frame.planes.v)} == {frame.index}
                frame.planes.y[:] = 0
                seen.append((frame.index, frame.pts))
    assert seen == [(index, 10 * index) for index in range(5, 60)]
    assert decoder.opened.asset_key == "t/assets/a"
    assert ring.used_bytes == 0


@pytest.mark.parametrize("shared", [True, False])
async def test_each_view_is_where_it_was_asked(connect: Connect, ring: Ring, shared: bool) -> None:
    views: list[ViewWanted] = [
        RgbWanted(8, 4),
        PlanesWanted(WIDTH, HEIGHT, frames=(6, 8)),
        CropsWanted({6: [(0, 0, 5, 3), (2, 2, 4, 9)], 9: [(0, 0, 1, 1)]}),
        CoverWanted(6, 2, HD, frames=(7, 30)),
    ]
    found = {}
    async with pull(await connect(Decoder()), Lane(ring if shared else None), last=10, views=views) as frames:
        async for frame in frames:
            with frame:
                assert frame.rgb is not None
                assert frame.rgb.shape == (4, 8, 3)
                assert np.unique(frame.rgb) == frame.index
                crops = [crop.shape for crop in frame.crops]
                found[frame.index] = (frame.planes is not None, crops, frame.cover is not None)
                assert [len(group) for group in frame.views] == [
                    1,
                    int(frame.planes is not None),
                    len(crops),
                    int(frame.cover is not None),
                ]
    assert found == {
        5: (False, [], False),
        6: (True, [(3, 5, 3), (7, 2, 3)], False),
        7: (True, [], True),
        8: (False, [], True),
        9: (False, [(1, 1, 3)], True),
    }


@pytest.mark.parametrize("shared", [True, False])
async def test_no_more_memory_is_lent_than_allowed_and_a_release_lends_again(
    connect: Connect, ring: Ring, shared: bool
) -> None:
    decoder = Decoder()
    held = []
    async with pull(await connect(decoder), Lane(ring if shared else None), pages=3) as frames:
        stream = aiter(frames)
        held = [await anext(stream) for _ in range(3)]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert decoder.sent == 3
        # From another thread, as a pool that has done its work does.
        await asyncio.to_thread(held[1].release)
        fourth = await asyncio.wait_for(waiting, 5)
        assert fourth.index == 8
        with pytest.raises(LeaseExpired):
            _ = held[1].planes
        assert held[0].planes is not None
    assert held[0].is_released
    assert fourth.is_released


async def test_what_is_held_or_lent_when_the_block_is_left_comes_back(connect: Connect, ring: Ring) -> None:
    seen: list[DecodedFrame] = []

    def stumble(frame: DecodedFrame) -> None:
        seen.append(frame)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await drain(pull(await connect(Decoder()), Lane(ring)), stumble)
    assert [frame.is_released for frame in seen] == [True]
    # It rests, since the peer, or a thread of ours, may still be at it; but nobody holds it any more.
    assert nothing_is_lent(ring)


def nothing_is_lent(ring: Ring) -> bool:
    """Whether no slot of any page can be borrowed, in any of the generations there can have been."""
    first, page_bytes = ring.region.first_page, ring.region.page_bytes
    names = [(first + page * page_bytes, generation) for page in range(ring.region.pages) for generation in range(99)]
    return not any(ring.region.is_lent(SlotRef(ring.region.id, offset, 1, made)) for offset, made in names)


async def test_a_caller_that_is_cancelled_again_while_it_leaves_leaves_nothing_lent(
    connect: Connect, ring: Ring
) -> None:
    stub = await connect(Decoder())
    for steps in range(8):
        entered = asyncio.Event()

        async def hold(entered: asyncio.Event = entered) -> None:
            async with pull(stub, Lane(ring), pages=1) as frames:
                await anext(aiter(frames))
                entered.set()
                await asyncio.Event().wait()

        holding = asyncio.create_task(hold())
        await asyncio.wait_for(entered.wait(), 5)
        holding.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        holding.cancel()
        await asyncio.wait({holding}, timeout=5)
        assert holding.done()
        assert nothing_is_lent(ring)


async def test_a_caller_that_is_cancelled_leaves_nothing_lent(connect: Connect, ring: Ring) -> None:
    started = asyncio.Event()
    stub = await connect(Decoder())

    async def consume() -> None:
        async with pull(stub, Lane(ring), pages=2) as frames:
            async for _ in frames:
                started.set()

    task = asyncio.create_task(consume())
    await asyncio.wait_for(started.wait(), 5)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nothing_is_lent(ring)


def change(**fields: Any) -> Spoil:
    def spoil(answer: pb.DecodedFrame) -> list[pb.DecodedFrame]:
        if answer.index == 7:
            answer.MergeFrom(pb.DecodedFrame(**fields))
        return [answer]

    return spoil


def edit(action: Callable[[pb.DecodedFrame], Any]) -> Spoil:
    def spoil(answer: pb.DecodedFrame) -> list[pb.DecodedFrame]:
        if answer.index == 7:
            action(answer)
        return [answer]

    return spoil


SPOILED: dict[str, tuple[Spoil, type[Exception]]] = {
    "leaves one out": (lambda a: [] if a.index == 7 else [a], AnswerMismatch),
    "gives one twice": (lambda a: [a, a] if a.index == 7 else [a], AnswerMismatch),
    "gives one too many": (lambda a: [a, a] if a.index == 9 else [a], AnswerMismatch),
    "ends too early": (lambda a: [a] if a.index < 7 else [], AnswerMismatch),
    "names another frame": (change(index=99), AnswerMismatch),
    "leaves a view out": (edit(lambda a: a.views.pop()), AnswerMismatch),
    "gives a view twice": (edit(lambda a: a.views.append(a.views[0])), AnswerMismatch),
    "gives a view not asked": (edit(lambda a: setattr(a.views[0], "view", 3)), AnswerMismatch),
    "gives another size": (edit(lambda a: setattr(a.views[0].images[0], "width", 30)), AnswerMismatch),
    "gives an impossible size": (edit(lambda a: setattr(a.views[0].images[0], "width", 31)), FrameBatchInvalid),
    "gives no colour": (edit(lambda a: a.views[0].ClearField("colour")), AnswerMismatch),
    "gives a colour unresolved": (edit(lambda a: setattr(a.views[0].colour, "matrix", 2)), FrameBatchInvalid),
    "points beyond its payload": (edit(lambda a: setattr(a.views[0].images[0], "offset", 1 << 40)), FrameBatchInvalid),
    "gives no bytes": (edit(lambda a: a.ClearField("payload")), FrameBatchInvalid),
    "names another slot": (edit(lambda a: setattr(a.payload.slot, "generation", 77)), AnswerMismatch),
}


@pytest.mark.parametrize("how", SPOILED)
async def test_a_peer_is_not_believed_when_it(connect: Connect, ring: Ring, how: str) -> None:
    spoil, error = SPOILED[how]
    with pytest.raises(error):
        await drain(pull(await connect(Decoder(spoil)), Lane(ring), last=10))
    assert nothing_is_lent(ring)


@pytest.mark.parametrize("at", [5, 6, 12, 18])
async def test_a_peer_that_fails_is_heard_whatever_we_are_saying(connect: Connect, ring: Ring, at: int) -> None:
    """gRPC puts an error of its own in place of the peer's when a write meets the end of the stream."""

    class Failing(Decoder):
        async def Decode(
            self, requests: AsyncIterator[pb.DecodeRequest], context: Any
        ) -> AsyncIterator[pb.DecodeResponse]:
            try:
                async for answer in super().Decode(requests, context):
                    yield answer
            except CorruptMedia as error:
                # What the interceptor of every server does.
                await context.abort_with_status(to_grpc_status(error))

        async def decode(self, requests: AsyncIterator[pb.DecodeRequest]) -> AsyncGenerator[pb.DecodeResponse, None]:
            async for answer in super().decode(requests):
                if answer.frames[0].index == at:
                    raise CorruptMedia(at=f"frame {at}")
                yield answer

    stub = await connect(Failing())
    with pytest.raises(CorruptMedia):
        await drain(pull(stub, Lane(ring), pages=16))


async def test_a_peer_that_lets_nobody_in_is_heard(connect: Connect, ring: Ring) -> None:
    class Closed(Decoder):
        async def Decode(
            self, requests: AsyncIterator[pb.DecodeRequest], context: Any
        ) -> AsyncIterator[pb.DecodeResponse]:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            yield pb.DecodeResponse()

    stub = await connect(Closed())
    for _ in range(20):
        with pytest.raises(Overloaded):
            await drain(pull(stub, Lane(ring)))


async def test_a_frame_larger_than_the_ring_is_an_error_with_a_name(connect: Connect, ring: Ring) -> None:
    large = RgbWanted(1000, 1000)
    with pytest.raises(RingFull):
        await drain(pull(await connect(Decoder()), Lane(ring), views=[large]))


async def test_a_pull_is_entered_before_it_is_iterated() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await anext(aiter(pull(None, Lane(None))))


async def test_frames_of_which_only_the_pts_is_wanted_come_too(connect: Connect, ring: Ring) -> None:
    indices: list[int] = []
    await drain(pull(await connect(Decoder()), Lane(ring), views=[]), lambda frame: indices.append(frame.index))
    assert indices == list(range(5, 20))
