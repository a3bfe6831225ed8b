"""The detector over its contract: videos of orange faces through ingest, by the wire, to a Timeline."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from masquerade import facemesh
from masquerade.identity import read_identity
from masquerade.timeline import Shard, Timeline, read_shard, read_timeline
from masquerade.v1 import detector_pb2 as pb
from masquerade.v1 import ingest_pb2, media_pb2
from masquerade.v1.detector_pb2_grpc import DetectorServiceStub
from masquerade.v1.ingest_pb2_grpc import IngestServiceStub
from masquerade.v1.lane_pb2_grpc import add_LaneServiceServicer_to_server
from services.common import child
from services.common.channels import build_channel
from services.common.deps import Registration, ServiceDeps
from services.common.errors import (
    FrameBatchInvalid,
    InvalidSpec,
    MasqueradeError,
    NoFaceInPortrait,
    NotAnImage,
    ObjectMissing,
    UnknownModel,
)
from services.common.lanes.handshake import LaneServicer
from services.common.lanes.payload import place_frames
from services.common.lanes.pictures import Frames
from services.common.pool import Pool
from services.common.server import build_server
from services.common.store.folder import FolderStore
from services.detector import app
from services.detector.settings import DetectorSettings
from services.ingest import app as ingest_app
from services.ingest.settings import IngestSettings
from tests.support.faces import face_points
from tests.support.orange_faces import HEIGHT, WIDTH, Face, OrangeRuntime, coarse_grid, picture

ASSET, INDEX = "t/assets/clip", "t/jobs/j/index"
FRAMES, CUT = 61, 27


def film(path: Path) -> Path:
    """One face that moves, then after a cut two others."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "12", "preset": "ultrafast", "g": "12"}
        stream.codec_context.thread_count = 1
        for t in range(FRAMES):
            before = [Face(80 + 0.7 * t, 90)]
            after = [Face(230 - 0.5 * t, 80, 52), Face(60, 100, 40, tone=60)]
            rgb = picture(before if t < CUT else after, scene=int(t >= CUT))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@dataclass
class House:
    """Ingest and the detector on servers of their own, and their store."""

    store: FolderStore
    ingest: IngestServiceStub
    stub: DetectorServiceStub

    async def analysed(
        self, bounds: Sequence[int], name: str
    ) -> tuple[list[media_pb2.Segment], list[pb.AnalyseSegmentResponse]]:
        spans = list(pairwise(bounds))
        segments = [
            media_pb2.Segment(number=n, frames=media_pb2.FrameRange(first=a, last=b)) for n, (a, b) in enumerate(spans)
        ]
        answers = await asyncio.gather(*(self.stub.AnalyseSegment(order(segment, name)) for segment in segments))
        return segments, list(answers)

    async def linked(self, bounds: Sequence[int], name: str) -> tuple[pb.LinkResponse, Timeline, list[Shard]]:
        segments, answers = await self.analysed(bounds, name)
        response = await self.stub.Link(
            pb.LinkRequest(
                index_key=INDEX,
                segments=segments,
                observations=[answer.observations for answer in answers],
                output_key=f"t/jobs/j/{name}/timeline",
            )
        )
        timeline = read_timeline(await self.store.get_bytes(response.timeline.key))
        shards = [read_shard(await self.store.get_bytes(ref.key)) for ref in timeline.segments]
        return response, timeline, shards


def order(segment: media_pb2.Segment, name: str = "one") -> pb.AnalyseSegmentRequest:
    return pb.AnalyseSegmentRequest(
        asset_key=ASSET,
        index_key=INDEX,
        segment=segment,
        output_key=f"t/jobs/j/{name}/seen-{segment.number}",
    )


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    # The mesh's topology comes with the weights, which this test does without.
    grid = coarse_grid()
    monkeypatch.setattr(facemesh, "texel_grid", lambda size: grid)
    store, pool = FolderStore(tmp_path / "objects"), Pool(2)
    lanes = Registration(
        service="masquerade.v1.LaneService",
        add=lambda server: add_LaneServiceServicer_to_server(LaneServicer(), server),
    )
    ingest_settings = IngestSettings(listen="127.0.0.1:0", data=tmp_path)
    deps = ServiceDeps(store=store, pool=pool, channels={}, scratch=tmp_path / "scratch")
    ingest = build_server([*await ingest_app.build(deps, ingest_settings), lanes], ingest_settings)
    await ingest.start()
    await ingest.warmed()
    channel = build_channel(ingest.target, peer="ingest")
    settings = DetectorSettings(listen="127.0.0.1:0", data=tmp_path, ring_bytes="32MiB")
    detector_deps = ServiceDeps(
        store=store, pool=pool, channels={"ingest": channel}, scratch=tmp_path / "scratch", runtime=OrangeRuntime()
    )
    detector = build_server([*await app.build(detector_deps, settings), lanes], settings)
    await detector.start()
    await detector.warmed()
    own = build_channel(detector.target, peer="detector")
    yield House(store, IngestServiceStub(channel), DetectorServiceStub(own))
    await own.close()
    await detector.stop(drain_s=1)
    await channel.close()
    await ingest.stop(drain_s=1)
    await pool.close()
    await store.close()
    child.close_nursery()


@pytest.fixture
async def indexed(house: House, tmp_path: Path) -> House:
    await house.store.put_file(ASSET, film(tmp_path / "film.mkv"))
    await house.ingest.Index(ingest_pb2.IndexRequest(asset_key=ASSET, index_key=INDEX))
    return house


async def test_a_video_becomes_a_timeline_however_it_is_split(indexed: House) -> None:
    made = []
    for name, bounds in (
        ("one", [0, FRAMES]),
        ("three", [0, 24, 40, FRAMES]),
        ("seven", [0, 8, 16, 24, 32, 48, 56, FRAMES]),
    ):
        response, timeline, shards = await indexed.linked(bounds, name)
        rows = [np.concatenate([getattr(shard, column) for shard in shards]) for column in Shard.__slots__]
        textures = await indexed.store.get_bytes(timeline.textures_key)
        made.append((timeline.tracks, timeline.people, timeline.cuts, textures, rows))
        assert list(response.summary.cuts) == [CUT]
        assert [(t.frames.first, t.frames.last) for t in response.summary.tracks] == [(0, 27), (27, 61), (27, 61)]
        assert all(track.observed_frames == track.frames.last - track.frames.first for track in response.summary.tracks)
        assert len(response.summary.people) >= 2
    for other in made[1:]:
        assert other[:4] == made[0][:4]
        assert all(np.array_equal(a, b) for a, b in zip(other[4], made[0][4], strict=True))
    frames = made[0][4][0]
    assert np.bincount(frames).tolist() == [1] * CUT + [2] * (FRAMES - CUT)


async def test_a_segment_that_was_looked_at_is_not_looked_at_again(indexed: House) -> None:
    _, (first,) = await indexed.analysed([0, FRAMES], "one")
    _, (second,) = await indexed.analysed([0, FRAMES], "one")
    assert (first.reused, second.reused) == (False, True)
    assert (first.frames, first.faces) == (second.frames, second.faces) == (61, 27 + 2 * 34)
    assert first.observations == second.observations


async def test_a_call_that_is_given_up_leaves_nothing_behind(indexed: House) -> None:
    segment = media_pb2.Segment(frames=media_pb2.FrameRange(first=0, last=FRAMES))
    for wait_s in (0.01, 0.05, 0.1):
        call = indexed.stub.AnalyseSegment(order(segment, "given-up"))
        await asyncio.sleep(wait_s)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    answer = await indexed.stub.AnalyseSegment(order(segment, "again"))
    assert answer.faces == 27 + 2 * 34


@pytest.mark.parametrize(
    ("first", "last", "index", "error"),
    [
        (3, 16, INDEX, InvalidSpec),
        (0, 13, INDEX, InvalidSpec),
        (0, 999, INDEX, InvalidSpec),
        (0, 0, INDEX, InvalidSpec),
        (0, 16, "t/jobs/j/no", ObjectMissing),
        (0, 16, "../../etc/passwd", InvalidSpec),
        (0, 16, "", InvalidSpec),
    ],
)
async def test_an_impossible_segment_is_a_typed_error(
    first: int, last: int, index: str, error: type[MasqueradeError], indexed: House
) -> None:
    segment = media_pb2.Segment(frames=media_pb2.FrameRange(first=first, last=last))
    request = order(segment)
    request.index_key = index
    with pytest.raises(error):
        await indexed.stub.AnalyseSegment(request)


async def test_detect_answers_each_frame_in_the_order_asked(house: House) -> None:
    pixels = np.stack([picture([Face(60 + 20 * n, 90)] * (n > 0)) for n in range(10)])
    asked = Frames.of(pixels, first_index=7, pts=list(range(10)))
    answer = await house.stub.Detect(pb.DetectRequest(frames=place_frames(asked)))
    assert [frame.index for frame in answer.frames] == list(range(7, 17))
    assert [len(frame.faces) for frame in answer.frames] == [0] + [1] * 9
    face = answer.frames[3].faces[0]
    assert (face.x0 + face.x1) / 2 == pytest.approx(120, abs=2)
    assert len(face.landmarks) == 478 * 3


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.DetectRequest(), FrameBatchInvalid),
        (
            pb.DetectRequest(frames=place_frames(Frames.of(np.zeros((1, 20, 20), np.uint8), first_index=0, pts=[0]))),
            FrameBatchInvalid,
        ),
        (
            pb.DetectRequest(
                frames=place_frames(Frames.of(np.zeros((1, 64, 64, 3), np.uint8), first_index=0, pts=[0])),
                detector="crystal ball",
            ),
            UnknownModel,
        ),
    ],
)
async def test_an_impossible_batch_is_a_typed_error(
    request_: pb.DetectRequest, error: type[MasqueradeError], house: House
) -> None:
    with pytest.raises(error):
        await house.stub.Detect(request_)


def png(*faces: Face) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(faces, width=800, height=600)).save(stream, "PNG")
    return stream.getvalue()


async def test_portraits_become_an_identity(house: House) -> None:
    await house.store.put_bytes("t/assets/a", png(Face(400, 300, 260)))
    answer = await house.stub.Enroll(
        pb.EnrollRequest(
            portraits=[pb.Portrait(asset_key="t/assets/a", name="anna.png")], output_key="t/identities/i/identity"
        )
    )
    identity = read_identity(await house.store.get_bytes(answer.identity.key))
    assert identity.kind == "photo"
    assert answer.quality[0].name == "anna.png"
    assert answer.quality[0].face_width_px == pytest.approx(260, abs=6)


async def test_a_timeline_names_the_models_of_the_detector_that_looked(indexed: House) -> None:
    segments, answers = await indexed.analysed([0, FRAMES], "named")
    linked = {}
    for name in ("", "blazeface", "scrfd"):
        request = pb.LinkRequest(
            index_key=INDEX,
            segments=segments,
            observations=[answer.observations for answer in answers],
            output_key=f"t/jobs/j/link/{name or 'unsaid'}",
            detector=name,
        )
        response = await indexed.stub.Link(request)
        linked[name] = read_timeline(await indexed.store.get_bytes(response.timeline.key)).made_by
    assert linked[""] == linked["blazeface"]
    assert "scrfd_10g" in linked["scrfd"]
    assert "scrfd_10g" not in linked[""]
    request.detector = "none such"
    with pytest.raises(UnknownModel):
        await indexed.stub.Link(request)


async def test_the_detectors_are_listed_with_what_is_done_where_nothing_is_said(house: House) -> None:
    listed = await house.stub.ListDetectors(pb.ListDetectorsRequest())
    assert [(each.name, each.is_default) for each in listed.detectors] == [("blazeface", True), ("scrfd", False)]
    assert listed.max_faces == DetectorSettings.model_fields["max_faces"].default


async def test_a_drawn_portrait_needs_no_detector(house: House) -> None:
    await house.store.put_bytes("t/assets/a", png())
    portrait = pb.Portrait(
        asset_key="t/assets/a",
        kind=pb.PORTRAIT_KIND_DRAWN,
        landmarks=face_points(200, at=(200, 200)).ravel().tolist(),
    )
    answer = await house.stub.Enroll(pb.EnrollRequest(portraits=[portrait], output_key="t/identities/i/identity"))
    assert read_identity(await house.store.get_bytes(answer.identity.key)).kind == "drawn"


@pytest.mark.parametrize(
    ("content", "error"),
    [(png(), NoFaceInPortrait), (b"GIF89a and so on", NotAnImage), (None, ObjectMissing)],
    ids=["no face", "no image", "no object"],
)
async def test_a_bad_portrait_is_a_typed_error_that_names_it(
    content: bytes | None, error: type[MasqueradeError], house: House
) -> None:
    if content is not None:
        await house.store.put_bytes("t/assets/a", content)
    request = pb.EnrollRequest(
        portraits=[pb.Portrait(asset_key="t/assets/a", name="bob.png")], output_key="t/identities/i/identity"
    )
    with pytest.raises(error) as caught:
        await house.stub.Enroll(request)
    if content is not None:
        assert "bob.png" in str(caught.value)
