"""Lanes over real channels: the proof of shared memory, batches both ways, and what a peer cannot get away with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio
from hypothesis import given, settings
from hypothesis import strategies as st

from masquerade.v1 import lane_pb2, lane_pb2_grpc, segmenter_pb2_grpc
from masquerade.v1 import segmenter_pb2 as pb
from services.common.channels import build_channel
from services.common.errors import AnswerMismatch, FrameBatchInvalid, LaneRefused, LeaseExpired
from services.common.lanes import payload as wire
from services.common.lanes.handshake import Lanes, LaneServicer
from services.common.lanes.lane import Lane, check_answered
from services.common.lanes.pictures import Frames
from services.common.lanes.region import PAGE_BYTES
from services.common.lanes.registry import REGIONS, Registry
from services.common.lanes.ring import Ring

Connect = Callable[..., Awaitable[aio.Channel]]


class Inverter(segmenter_pb2_grpc.SegmenterServiceServicer):
    """A peer whose matte is the red channel upside down in brightness; `spoil` changes its answers."""

    def __init__(self, regions: Registry = REGIONS) -> None:
        self.regions = regions
        self.places: list[str | None] = []
        self.spoil: Callable[[pb.SegmentResponse], object] = lambda response: None

    async def Segment(self, request: pb.SegmentRequest, context: Any) -> pb.SegmentResponse:
        self.places.append(request.frames.payload.WhichOneof("place"))
        with wire.borrow_frames(request.frames, regions=self.regions) as frames:
            mattes = Frames.of(255 - frames.pixels[..., 0], first_index=frames.first_index, pts=frames.pts)
        lease = request.answer_slot if request.HasField("answer_slot") else None
        response = pb.SegmentResponse(mattes=wire.place_frames(mattes, lease, regions=self.regions))
        self.spoil(response)
        return response

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Starts a server with an Inverter and, if wished, a LaneService; gives a channel to it."""
    async with AsyncExitStack() as stack:

        async def start(inverter: Inverter, lanes: LaneServicer | None = None, *, typed: bool = True) -> aio.Channel:
            server = aio.server()
            segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(inverter, server)
            if lanes is not None:
                lane_pb2_grpc.add_LaneServiceServicer_to_server(lanes, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
            channel = build_channel(f"127.0.0.1:{port}") if typed else aio.insecure_channel(f"127.0.0.1:{port}")
            return await stack.enter_async_context(channel)

        yield start


def batch(count: int, *, first_index: int = 0, side: int = 8) -> Frames:
    pixels = np.empty((count, side, side, 3), np.uint8)
    pixels[:] = (first_index + np.arange(count))[:, None, None, None] % 256
    return Frames.of(pixels, first_index=first_index, pts=range(first_index * 3, (first_index + count) * 3, 3))


async def segment(channel: aio.Channel, lane: Lane, frames: Frames) -> Frames:
    """What a conductor does: offer, reserve, call, check; the answer is copied out of the block."""
    stub = segmenter_pb2_grpc.SegmenterServiceStub(channel)
    async with lane.offer_frames(frames) as message, lane.reserve(frames.nbytes // 3) as answer:
        request = pb.SegmentRequest(frames=message, answer_slot=answer.lease)
        response = await stub.Segment(request, timeout=10)
        mattes = answer.frames(response.mattes)
        check_answered(frames, mattes, peer="segmenter")
        return Frames.of(mattes.pixels.copy(), first_index=mattes.first_index, pts=mattes.pts)


async def test_a_peer_in_this_process_is_given_slots(connect: Connect) -> None:
    inverter, ring = Inverter(), Ring(16 * PAGE_BYTES)
    channel = await connect(inverter, LaneServicer())
    lane = await Lanes(ring).to(channel)
    mattes = await segment(channel, lane, batch(3, first_index=8))
    np.testing.assert_array_equal(mattes.pixels[:, 0, 0], 255 - np.arange(8, 11))
    assert inverter.places == ["slot"]
    assert ring.used_bytes == 0
    ring.close()


async def test_a_peer_that_shares_a_folder_is_given_slots_and_survives_its_own_restart(
    connect: Connect, tmp_path: Path
) -> None:
    ring, elsewhere = Ring(16 * PAGE_BYTES, folder=tmp_path), Registry(tmp_path)
    inverter = Inverter(elsewhere)
    channel = await connect(inverter, LaneServicer(elsewhere))
    lane = await Lanes(ring).to(channel)
    assert lane.ring is ring
    elsewhere.close()
    await segment(channel, lane, batch(2))
    assert inverter.places == ["slot"]
    ring.close()
    elsewhere.close()


async def test_a_peer_that_sees_another_folder_or_another_file_is_served_inline(
    connect: Connect, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    ring, inverter = Ring(16 * PAGE_BYTES, folder=ours), Inverter()
    blind = await connect(inverter, LaneServicer(Registry(theirs)))
    assert (await Lanes(ring).to(blind)).ring is None
    # The same name and size on another machine: only the number that was written tells the difference.
    (theirs / ring.region.id).write_bytes((ours / ring.region.id).read_bytes())
    deceived = await connect(inverter, LaneServicer(Registry(theirs)))
    lane = await Lanes(ring).to(deceived)
    assert lane.ring is None
    await segment(deceived, lane, batch(4))
    assert inverter.places == ["inline"]
    ring.close()


@pytest.mark.parametrize("typed", [True, False])
async def test_a_peer_without_the_service_is_served_inline(connect: Connect, typed: bool) -> None:
    ring = Ring(PAGE_BYTES)
    assert (await Lanes(ring).to(await connect(Inverter(), typed=typed))).ring is None
    ring.close()


async def test_the_proof_is_asked_once_for_a_channel(connect: Connect) -> None:
    class Counting(LaneServicer):
        calls = 0

        async def Open(self, request: lane_pb2.OpenRequest, context: Any) -> lane_pb2.OpenResponse:
            Counting.calls += 1
            return await super().Open(request, context)

    ring = Ring(PAGE_BYTES)
    channel, lanes = await connect(Inverter(), Counting()), Lanes(ring)
    first = await asyncio.gather(*(lanes.to(channel) for _ in range(5)))
    assert len(set(map(id, first))) == 1
    assert Counting.calls == 1
    ring.close()


async def test_the_handshake_shows_nothing_but_its_number(connect: Connect) -> None:
    """A region's id must not be a key to the pixels in it."""
    ring = Ring(4 * PAGE_BYTES)
    slot = await ring.acquire(100)
    slot.buffer[:] = b"secret" * 16 + b"rets"
    stub = lane_pb2_grpc.LaneServiceStub(await connect(Inverter(), LaneServicer()))
    for offset in (slot.ref.offset, slot.ref.offset + 16, 0, 64, (1 << 64) - 1):
        answer = await stub.Open(
            lane_pb2.OpenRequest(region=ring.region.id, size_bytes=ring.region.nbytes, nonce_offset=offset)
        )
        assert (answer.mapped, answer.nonce) == (False, b"")
    ring.close()


async def test_another_replica_that_does_not_see_the_memory_says_so(connect: Connect, tmp_path: Path) -> None:
    """Behind one name another pod may answer the next call: refused with a reason, then inline."""
    ring, stranger = Ring(16 * PAGE_BYTES), Inverter(Registry(tmp_path))
    with pytest.raises(LaneRefused):
        async with Lane(ring).offer_frames(batch(1)) as message:
            await stranger.Segment(pb.SegmentRequest(frames=message), None)
    lane = Lane(ring)
    lane.go_inline()
    async with lane.offer_frames(batch(1)) as message:
        assert (await stranger.Segment(pb.SegmentRequest(frames=message), None)).mattes.pts == [0]
    ring.close()


@pytest.mark.parametrize("shared", [True, False])
async def test_an_answer_about_other_frames_is_refused(connect: Connect, shared: bool) -> None:
    inverter, ring = Inverter(), Ring(16 * PAGE_BYTES)
    channel, lane = await connect(inverter), Lane(ring if shared else None)
    spoils: list[tuple[Callable[[pb.SegmentResponse], object], type[Exception]]] = [
        (lambda r: setattr(r.mattes, "first_index", 9), AnswerMismatch),
        (lambda r: r.mattes.pts.reverse(), AnswerMismatch),
        (lambda r: r.mattes.pts.append(7), FrameBatchInvalid),
        (lambda r: r.mattes.pts.pop(), AnswerMismatch),
        (lambda r: setattr(r.mattes, "width", 4000), FrameBatchInvalid),
    ]
    for spoil, error in spoils:
        inverter.spoil = spoil
        with pytest.raises(error):
            await segment(channel, lane, batch(3))
    ring.close()


@pytest.mark.parametrize("change", ["offset", "generation", "region"])
async def test_an_answer_in_memory_that_was_not_lent_for_it_is_refused(connect: Connect, change: str) -> None:
    """A peer names a slot that is really lent, but for something else."""
    inverter, ring = Inverter(), Ring(16 * PAGE_BYTES)
    other = await ring.acquire(1000)
    changed: dict[str, Any] = {"offset": other.ref.offset, "generation": 1 << 40, "region": "0" * 32}

    def point_elsewhere(response: pb.SegmentResponse) -> None:
        setattr(response.mattes.payload.slot, change, changed[change])

    inverter.spoil = point_elsewhere
    channel = await connect(inverter)
    with pytest.raises(AnswerMismatch):
        await segment(channel, Lane(ring), batch(1))
    # The peer had memory to write into when the call failed: it rests, and only it.
    assert ring.used_bytes == 2 * PAGE_BYTES
    ring.close()


async def test_a_peer_that_is_cancelled_in_the_middle_can_write_into_nothing(connect: Connect) -> None:
    """Its lease is over at once, its memory rests until its copy must have ended."""
    leases: list[Any] = []
    hanging = asyncio.Event()

    class Hanging(Inverter):
        async def Segment(self, request: pb.SegmentRequest, context: Any) -> pb.SegmentResponse:
            leases.append(request.answer_slot)
            hanging.set()
            await asyncio.sleep(30)
            return pb.SegmentResponse()

    ring = Ring(16 * PAGE_BYTES)
    call = asyncio.create_task(segment(await connect(Hanging()), Lane(ring), batch(1)))
    await asyncio.wait_for(hanging.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(LeaseExpired):
        wire.place_frames(Frames.of(np.zeros((1, 8, 8), np.uint8), first_index=0, pts=[0]), leases[0])
    assert ring.used_bytes == PAGE_BYTES
    ring.close()


async def test_a_full_ring_sends_small_batches_inline(connect: Connect) -> None:
    """Waiting for memory that only this call's answer would free would be waiting for ever."""
    inverter, ring = Inverter(), Ring(2 * PAGE_BYTES)
    held = await ring.acquire(2 * PAGE_BYTES)
    await asyncio.wait_for(segment(await connect(inverter), Lane(ring), batch(2)), 5)
    assert inverter.places == ["inline"]
    held.release()
    ring.close()


async def test_a_peer_that_is_gone_is_an_error_and_not_a_lane() -> None:
    ring = Ring(PAGE_BYTES)
    async with aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(aio.AioRpcError) as refused:
            await Lanes(ring, timeout_s=2).to(channel)
    assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert ring.used_bytes == 0
    ring.close()


@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(1, 32), min_size=1, max_size=4), shared=st.booleans())
def test_any_split_into_batches_answers_each_frame_once(counts: list[int], shared: bool) -> None:
    """The same frames through one peer, however cut and on whichever lane, give the same mattes."""

    async def run() -> None:
        ring, inverter = Ring(64 * PAGE_BYTES), Inverter()
        lane, answered, at = Lane(ring if shared else None), list[int](), 0
        for count in counts:
            frames = batch(count, first_index=at)
            async with lane.offer_frames(frames) as message, lane.reserve(frames.nbytes // 3) as answer:
                request = pb.SegmentRequest(frames=message, answer_slot=answer.lease)
                mattes = answer.frames((await inverter.Segment(request, None)).mattes)
                check_answered(frames, mattes, peer="segmenter")
                answered += (255 - mattes.pixels[:, 0, 0].astype(int)).tolist()
                del mattes
            at += count
        assert answered == list(range(at))
        assert ring.used_bytes == 0
        ring.close()

    asyncio.run(run())
