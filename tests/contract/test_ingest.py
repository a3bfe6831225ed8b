"""Ingest over the wire: what its callers see, with shared memory and without, and when something goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from masquerade.v1 import frames_pb2, ingest_pb2, media_pb2
from masquerade.v1.ingest_pb2_grpc import IngestServiceStub
from masquerade.v1.lane_pb2_grpc import add_LaneServiceServicer_to_server
from services.common import child, errors
from services.common.channels import build_channel
from services.common.colour import ColourTags
from services.common.deps import Registration, ServiceDeps
from services.common.lanes.ending import LAST_WORDS
from services.common.lanes.handshake import Lanes, LaneServicer
from services.common.lanes.pulling import FramePull
from services.common.lanes.ring import Ring
from services.common.lanes.views import CoverWanted, CropsWanted, PlanesWanted, RgbWanted, ViewWanted, frame_nbytes
from services.common.planes import digest, rgb_crop, rgb_view
from services.common.pool import Pool
from services.common.server import build_server
from services.common.store.folder import FolderStore
from services.ingest.app import build
from services.ingest.settings import IngestSettings
from tests.clips import Sound, frame_number, make_clip

ASSET, INDEX = "t/assets/clip", "t/jobs/j/index"


@dataclass
class House:
    """A server with ingest alone, its store, a channel to it, and memory to lend."""

    store: FolderStore
    channel: grpc.aio.Channel
    stub: IngestServiceStub
    ring: Ring

    async def give(self, path: Path, asset: str = ASSET) -> None:
        await self.store.put_file(asset, path)

    async def indexed(self, path: Path, asset: str = ASSET, index: str = INDEX) -> ingest_pb2.IndexResponse:
        await self.give(path, asset)
        return await self.stub.Index(ingest_pb2.IndexRequest(asset_key=asset, index_key=index))

    async def lane(self, *, shared: bool):  # type: ignore[no-untyped-def]
        return await Lanes(self.ring if shared else None).to(self.channel)

    async def pull(
        self, frames: tuple[int, int], views: list[ViewWanted], *, shared: bool = True, max_bytes: int = 4 << 20
    ) -> FramePull:
        lane = await self.lane(shared=shared)
        return FramePull(
            self.stub, lane, asset_key=ASSET, index_key=INDEX, frames=frames, views=views, max_bytes=max_bytes
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = FolderStore(tmp_path / "objects")
    pool = Pool(1)
    settings = IngestSettings(listen="127.0.0.1:0", data=tmp_path)
    deps = ServiceDeps(store=store, pool=pool, channels={}, scratch=tmp_path / "scratch")
    lanes = Registration(
        service="masquerade.v1.LaneService",
        add=lambda server: add_LaneServiceServicer_to_server(LaneServicer(), server),
    )
    server = build_server([*await build(deps, settings), lanes], settings)
    await server.start()
    await server.warmed()
    channel = build_channel(server.target, peer="ingest")
    ring = Ring(8 << 20)
    yield House(store, channel, IngestServiceStub(channel), ring)
    await channel.close()
    await server.stop(drain_s=1)
    ring.close()
    await pool.close()
    await store.close()
    child.close_nursery()


async def test_probe_and_index_say_what_the_video_is(house: House, tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "a.mp4",
        frames=30,
        rate=Fraction(30000, 1001),
        rotation=90,
        size=(240, 320),
        sar=Fraction(4, 3),
        bf=2,
        audio=[Sound(language="deu"), Sound("opus", language="eng")],
        subtitles=[(0.1, 0.5, "Ja")],
        chapters=[(0, 0.5, "eins")],
    )
    await house.give(clip)
    probed = (await house.stub.Probe(ingest_pb2.ProbeRequest(asset_key=ASSET))).info
    answer = await house.indexed(clip)
    info = answer.info
    assert (info.width, info.height, info.rotation_degrees) == (240, 320, 90)
    assert (info.sar_num, info.sar_den) == (3, 4)
    assert (info.frames, info.mean_rate_num, info.mean_rate_den, info.is_vfr) == (30, 30000, 1001, False)
    assert [(s.kind, s.codec, s.language) for s in info.others][:3] == [
        ("audio", "aac", "deu"),
        ("audio", "opus", "eng"),
        ("subtitle", "mov_text", "deu"),
    ]
    assert info.chapters == 1
    assert list(info.notes) == ["matrix assumed bt601"]
    assert (probed.frames, probed.width, probed.codec, probed.others[0]) == (30, 240, "h264", info.others[0])
    assert answer.index.key == INDEX
    assert len(answer.index.digest) == 64
    assert (answer.filled_pts, answer.moved_pts) == (0, 0)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "inline"])
async def test_decode_gives_the_same_frames_through_memory_and_inline(
    shared: bool, house: House, tmp_path: Path
) -> None:
    await house.indexed(make_clip(tmp_path / "a.mp4", frames=40, bf=2))
    boxes = {12: [(10, 20, 75, 61), (0, 0, 320, 240)], 14: [(100, 100, 101, 102)]}
    views: list[ViewWanted] = [
        RgbWanted(128, 96),
        PlanesWanted(320, 240),
        CropsWanted(boxes),
        RgbWanted(64, 64, frames=(13, 14)),
    ]
    seen = []
    async with await house.pull((11, 16), views, shared=shared) as frames:
        async for frame in frames:
            with frame:
                assert frame.planes is not None
                seen.append((frame.index, frame.pts, frame_number(frame.planes.y)))
                assert np.array_equal(frame.rgb, rgb_view(frame.planes, width=128, height=96))
                crops = [rgb_crop(frame.planes, box) for box in boxes.get(frame.index, [])]
                assert all(np.array_equal(a, b) for a, b in zip(frame.crops, crops, strict=True))
                assert len(frame.views[3]) == (1 if frame.index == 13 else 0)
                assert frame.top_field_first is None
    assert seen == [(n, n * 512, n) for n in range(11, 16)]
    assert house.ring.used_bytes == 0


async def test_views_do_not_depend_on_what_else_is_asked(house: House, tmp_path: Path) -> None:
    await house.indexed(make_clip(tmp_path / "a.mp4", frames=6, rotation=270, size=(241, 321), codec="libvpx-vp9"))
    small, crop, planes = RgbWanted(96, 128), CropsWanted({3: [(20, 30, 90, 95)]}), PlanesWanted(242, 322)

    async def one(*views: ViewWanted) -> list[list[bytes]]:
        async with await house.pull((3, 4), list(views)) as frames:
            async for frame in frames:
                return [[p.tobytes() if isinstance(p, np.ndarray) else digest(p) for p in v] for v in frame.views]
        raise AssertionError

    together = await one(planes, small, crop)
    assert [*await one(planes), *await one(small), *await one(crop)] == together


@pytest.mark.parametrize("rotation", [0, 90])
async def test_a_background_covers_the_target_in_the_targets_colour(
    rotation: int, house: House, tmp_path: Path
) -> None:
    def blue(_: int, width: int, height: int):  # type: ignore[no-untyped-def]
        # BT.601 limited 41, 240, 110 is pure blue; in BT.709 it is 32, 240, 118.
        half = ((height + 1) // 2, (width + 1) // 2)
        return np.full((height, width), 41, np.uint8), np.full(half, 240, np.uint8), np.full(half, 110, np.uint8)

    clip = make_clip(
        tmp_path / "b.mp4", frames=2, size=(200, 120), rotation=rotation, draw=blue, colour={"matrix": 6, "range": 1}
    )
    await house.indexed(clip)
    full = CoverWanted(322, 90, ColourTags(1, 2, 1, 1))
    limited = CoverWanted(64, 200, ColourTags(1, 1, 1, 1))
    async with await house.pull((0, 2), [full, limited]) as frames:
        async for frame in frames:
            (first,), (second,) = frame.views
            for got, size, expected in (
                (first, (322, 90), (18, 255, 116)),
                (second, (64, 200), (32, 240, 118)),
            ):
                assert (got.width, got.height) == size  # type: ignore[union-attr]
                for plane, value in zip((got.y, got.u, got.v), expected, strict=True):  # type: ignore[union-attr]
                    assert abs(plane.astype(int) - value).max() <= 2
            frame.release()


async def test_a_background_keeps_its_middle_and_its_way_up(house: House, tmp_path: Path) -> None:
    def cross(_: int, width: int, height: int):  # type: ignore[no-untyped-def]
        luma = np.full((height, width), 60, np.uint8)
        luma[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = 200
        luma[:10] = 120
        return (
            luma,
            np.full((height // 2, width // 2), 128, np.uint8),
            np.full((height // 2, width // 2), 128, np.uint8),
        )

    clip = make_clip(tmp_path / "c.mp4", frames=1, size=(120, 200), rotation=90, draw=cross, options={"qp": "0"})
    await house.indexed(clip)
    async with await house.pull((0, 1), [CoverWanted(200, 200, ColourTags(6, 1))]) as frames:
        async for frame in frames:
            cover = frame.cover
            assert cover is not None
            assert cover.y[100, 100] > 190
            assert cover.y[50, 50] < 70
            assert abs(cover.y[:, :].astype(int).mean() - 66) < 4
            frame.release()


async def test_a_caller_that_does_not_look_stops_the_decoder(house: House, tmp_path: Path) -> None:
    await house.indexed(make_clip(tmp_path / "a.mp4", frames=40))
    views: list[ViewWanted] = [PlanesWanted(320, 240)]
    frame_bytes = frame_nbytes(views, 0)
    async with await house.pull((0, 40), views, max_bytes=3 * frame_bytes) as frames:
        held = []
        async for frame in frames:
            held.append(frame)
            if len(held) == 3:
                break
        await asyncio.sleep(0.2)
        assert house.ring.used_bytes <= 3 * (-(-frame_bytes // 65536)) * 65536
        assert [frame.index for frame in held] == [0, 1, 2]
        for frame in held:
            frame.release()
    await _no_decoder_is_left()


async def test_plan_cuts_on_the_grid_and_turns_times_into_frames(house: House, tmp_path: Path) -> None:
    await house.indexed(make_clip(tmp_path / "a.mp4", frames=100, gop=22))
    plan = await house.stub.Plan(
        ingest_pb2.PlanRequest(
            index_key=INDEX,
            segment_frames=24,
            keep=[media_pb2.TimeRange(start_ms=2000), media_pb2.TimeRange(start_ms=400, end_ms=800)],
            apply=[media_pb2.TimeRange(start_ms=0, end_ms=1000), media_pb2.TimeRange(start_ms=900, end_ms=1200)],
        )
    )
    bounds = [(s.number, s.frames.first, s.frames.last) for s in plan.segments]
    assert bounds == [(0, 0, 24), (1, 24, 48), (2, 48, 72), (3, 72, 100)]
    assert [(r.first, r.last) for r in plan.keep] == [(10, 20), (50, 100)]
    assert [(r.first, r.last) for r in plan.apply] == [(0, 30)]
    exact = await house.stub.Plan(ingest_pb2.PlanRequest(index_key=INDEX, segments=5))
    assert len(exact.segments) == 5
    assert {s.frames.first % 8 for s in exact.segments} == {0}
    with pytest.raises(errors.RangeOutsideVideo):
        await house.stub.Plan(ingest_pb2.PlanRequest(index_key=INDEX, keep=[media_pb2.TimeRange(start_ms=4000)]))


async def test_fields_of_interlaced_video_are_named(house: House, tmp_path: Path) -> None:
    answer = await house.indexed(make_clip(tmp_path / "a.mp4", frames=8, interlaced=True))
    assert answer.info.is_interlaced
    async with await house.pull((2, 4), [PlanesWanted(320, 240)]) as frames:
        async for frame in frames:
            assert frame.top_field_first is True
            frame.release()


async def test_a_video_that_breaks_in_the_middle_gives_its_error_by_name(house: House, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=48, bf=2, gop=250)
    content = bytearray(source.read_bytes())
    place = len(content) * 3 // 5
    content[place : place + 2000] = bytes(2000)
    (tmp_path / "broken.mp4").write_bytes(content)
    await house.indexed(tmp_path / "broken.mp4")
    given: list[int] = []
    with pytest.raises(errors.CorruptMedia) as caught:
        await _pulled(await house.pull((0, 48), [PlanesWanted(320, 240)]), given.append)
    assert 0 < len(given) < 48
    assert caught.value.fields["at"].startswith("frame ")
    await _no_decoder_is_left()


async def test_a_killed_decoder_is_an_error_and_the_next_call_works(house: House, tmp_path: Path) -> None:
    await house.indexed(make_clip(tmp_path / "a.mp4", frames=48))

    def kill(_: int) -> None:
        for pid in _decoder_pids():
            # Several frames come at once: it may be dead by the second of them.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(errors.DecoderDied):
        await _pulled(await house.pull((0, 48), [PlanesWanted(320, 240)], max_bytes=1 << 18), kill)
    given: list[int] = []
    await _pulled(await house.pull((40, 48), [PlanesWanted(320, 240)]), given.append)
    assert given == list(range(40, 48))
    await _no_decoder_is_left()


async def test_wrong_orders_are_refused_by_field(house: House, tmp_path: Path) -> None:
    await house.indexed(make_clip(tmp_path / "a.mp4", frames=8))
    wrong: list[tuple[tuple[int, int], ViewWanted, type[errors.MasqueradeError]]] = [
        ((0, 9), PlanesWanted(320, 240), errors.RangeOutsideVideo),
        ((-1, 3), PlanesWanted(320, 240), errors.RangeOutsideVideo),
        ((0, 8), RgbWanted(0, 5), errors.InvalidSpec),
        ((0, 8), RgbWanted(30000, 30000), errors.InvalidSpec),
        ((0, 8), CropsWanted({0: [(1, 0, 5, 5)]}), errors.InvalidSpec),
        ((0, 8), CropsWanted({0: [(0, 0, 322, 5)]}), errors.InvalidSpec),
        ((0, 8), CoverWanted(33, 20, ColourTags(1, 1)), errors.InvalidSpec),
        ((0, 8), CoverWanted(32, 20, ColourTags(2, 0)), errors.FrameBatchInvalid),
    ]
    for frames, view, expected in wrong:
        call = house.stub.Decode()
        request = ingest_pb2.DecodeOpen(
            asset_key=ASSET, index_key=INDEX, frames=media_pb2.FrameRange(first=frames[0], last=frames[1])
        )
        request.views.append(_message(view))
        await call.write(ingest_pb2.DecodeRequest(open=request))
        with pytest.raises(expected):
            await _end_of(call)
    with pytest.raises(errors.InvalidSpec):
        await house.stub.Index(ingest_pb2.IndexRequest(index_key=INDEX))
    with pytest.raises(errors.ObjectMissing):
        await house.stub.Probe(ingest_pb2.ProbeRequest(asset_key="t/assets/none"))


async def test_slots_that_are_not_lent_are_not_written(house: House, tmp_path: Path) -> None:
    await house.indexed(make_clip(tmp_path / "a.mp4", frames=8))
    region = house.ring.region.id
    slot = await house.ring.acquire(200_000)
    ref = slot.ref
    wrong = [
        (
            frames_pb2.SlotLease(region="0" * 32, offset=ref.offset, size_bytes=200_000, generation=1),
            errors.LaneRefused,
        ),
        (
            frames_pb2.SlotLease(region=region, offset=ref.offset, size_bytes=200_000, generation=ref.generation + 1),
            errors.LeaseExpired,
        ),
        (
            frames_pb2.SlotLease(region=region, offset=ref.offset, size_bytes=1000, generation=ref.generation),
            errors.FrameBatchInvalid,
        ),
        (
            frames_pb2.SlotLease(region=region, offset=7, size_bytes=200_000, generation=ref.generation),
            errors.LeaseExpired,
        ),
    ]
    slot.buffer[:] = bytes(200_000)
    for lease, expected in wrong:
        call = house.stub.Decode()
        await call.write(ingest_pb2.DecodeRequest(open=_whole([PlanesWanted(320, 240)])))
        await call.write(ingest_pb2.DecodeRequest(grant=ingest_pb2.DecodeGrant(slots=[lease])))
        with pytest.raises(expected):
            await _end_of(call)
    assert bytes(slot.buffer) == bytes(200_000)
    slot.release()


async def _pulled(pull: FramePull, told: Callable[[int], None]) -> None:
    """Pull to the end and tell of each frame."""
    async with pull as frames:
        async for frame in frames:
            frame.release()
            told(frame.index)


async def _end_of(call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
    """Hear the last words, close our side, hear the error."""
    assert await call.read() == LAST_WORDS
    await call.done_writing()
    await call.read()


def _whole(views: list[ViewWanted]) -> ingest_pb2.DecodeOpen:
    return ingest_pb2.DecodeOpen(
        asset_key=ASSET,
        index_key=INDEX,
        frames=media_pb2.FrameRange(first=0, last=8),
        views=[_message(view) for view in views],
    )


def _message(view: ViewWanted) -> ingest_pb2.View:
    from services.common.lanes.pulling import _view_message

    return _view_message(view)


def _decoder_pids() -> list[int]:
    nursery = child._nursery._process
    assert nursery is not None
    return [int(pid) for pid in Path(f"/proc/{nursery.pid}/task/{nursery.pid}/children").read_text().split()]


async def _no_decoder_is_left() -> None:
    """The server hears of a caller that left a moment later."""
    async with asyncio.timeout(2):
        while _decoder_pids():  # noqa: ASYNC110  # another process ends, nothing here can tell
            await asyncio.sleep(0.02)
