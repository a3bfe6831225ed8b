"""The whole mesh, driven by contract: what the orchestrator does for a job, without its bookkeeping.

    async with running_driver(tmp_path, workers=2, lane="ring") as driver:
        result = await driver.transform(clip, faces=[portrait], background=colour(0x00FF00), segments=3)

The services are the real ones with the real models, on sockets of their own; tests see what a job leaves behind: the
file, the digests of the planes that were encoded, the planes themselves, the Timeline.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from masquerade.timeline import Shard, Timeline, read_shard, read_timeline
from masquerade.v1 import compositor_pb2 as cp
from masquerade.v1 import compositor_pb2_grpc, detector_pb2_grpc, ingest_pb2_grpc, lane_pb2, lane_pb2_grpc, media_pb2
from masquerade.v1 import detector_pb2 as dt
from masquerade.v1 import ingest_pb2 as ig
from services.common.lanes.handshake import lane_service
from services.common.media.index import MediaIndex, read_index
from services.common.settings import ServiceSettings
from services.compositor.proofs import split_digests
from services.detector.observations import Observations, read_observations
from services.standalone import mesh as standalone
from services.standalone.data_folder import DataFolder
from tests.support.starter_models import require_weights

Answer = TypeVar("Answer")
LaneName = Literal["ring", "inline"]

SERVICES = ("ingest", "detector", "swapper", "segmenter", "compositor")
SEGMENTS_AT_ONCE = 4
"""Calls of one stage in flight, as a job has them; the services themselves work on two and let the others wait."""

QUICK = cp.EncodeSettings(preset="ultrafast")
CALL_S = 120.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A face that was drawn, with its landmarks: (478, 3) float32 in the picture's pixels."""

    picture: Path
    points: NDArray[np.float32]


Face = Path | Drawn


@dataclass(frozen=True, slots=True)
class Indexed:
    """A video in the store, and how it is cut."""

    path: Path
    asset_key: str
    index_key: str
    index: MediaIndex
    segments: tuple[media_pb2.Segment, ...]
    keep: tuple[media_pb2.FrameRange, ...]
    apply: tuple[media_pb2.FrameRange, ...]
    notes: tuple[str, ...]

    @property
    def kept(self) -> list[int]:
        """Frames that stay, in order."""
        ranges = self.keep or (media_pb2.FrameRange(first=0, last=self.index.frames),)
        return [frame for part in ranges for frame in range(part.first, part.last)]


@dataclass(frozen=True, slots=True)
class Seen:
    """All that analysis knows of a video.

    Attributes:
        observations: of each segment.
        timeline: the index of the Timeline.
        shards: of the Timeline, in order.
    """

    observations: tuple[Observations, ...]
    timeline: Timeline
    shards: tuple[Shard, ...]
    key: str

    def rows(self) -> dict[str, NDArray[Any]]:
        """All rows of all shards as columns: they do not show where a shard ends."""
        columns = ("frame", "track", "corner", "points", "score", "pose", "weight")
        return {name: np.concatenate([getattr(shard, name) for shard in self.shards]) for name in columns}

    def points_px(self) -> list[tuple[int, NDArray[np.float32]]]:
        """Frame and (478, 3) landmarks in pixels of each row, in order."""
        return [(int(shard.frame[row]), shard.points_px(row)) for shard in self.shards for row in range(len(shard))]


@dataclass(frozen=True, slots=True)
class Result:
    """A finished job.

    Attributes:
        file: the assembled and verified video.
        source: what it was made from.
        digests: of the planes of each encoded frame, in order, whatever segment they were in.
        planes: (frames, bytes of a frame) uint8, I420 packed, as they went into the encoder; None unless dumped.
        seen: what analysis found; None without faces.
        faces: patches that were blended, summed over frames.
        assembled: answer of Assemble.
        verified: answer of Verify.
    """

    file: Path
    source: Indexed
    digests: list[bytes]
    planes: NDArray[np.uint8] | None
    seen: Seen | None
    faces: int
    assembled: cp.AssembleResponse
    verified: cp.VerifyResponse


def colour(rgb: int) -> cp.RenderBackground:
    """One colour behind the foreground, as 0xRRGGBB."""
    return cp.RenderBackground(kind=cp.BACKGROUND_KIND_COLOUR, rgb=rgb)


BLUR = cp.RenderBackground(kind=cp.BACKGROUND_KIND_BLUR)


@dataclass
class Driver:
    """Gives work to a running mesh, so many segments at once. Every job has keys of its own: nothing is found again."""

    mesh: standalone.Mesh
    folder: Path
    at_once: int = SEGMENTS_AT_ONCE
    _names: itertools.count[int] = field(default_factory=itertools.count)

    def _stub(self, service: str, stub: Any) -> Any:
        return stub(self.mesh.channels[service])

    @property
    def ingest(self) -> Any:
        """Ingest's stub."""
        return self._stub("ingest", ingest_pb2_grpc.IngestServiceStub)

    @property
    def detector(self) -> Any:
        """The detector's stub."""
        return self._stub("detector", detector_pb2_grpc.DetectorServiceStub)

    @property
    def compositor(self) -> Any:
        """The compositor's stub."""
        return self._stub("compositor", compositor_pb2_grpc.CompositorServiceStub)

    async def transform(
        self,
        clip: Path,
        *,
        faces: Sequence[Face] = (),
        background: cp.RenderBackground | Path | None = None,
        segments: int = 0,
        segment_frames: int = 0,
        keep: Sequence[media_pb2.TimeRange] = (),
        apply: Sequence[media_pb2.TimeRange] = (),
        engine_options: dict[str, str] | None = None,
        encode: cp.EncodeSettings = QUICK,
        dump_planes: bool = False,
        reads_rows: bool = True,
    ) -> Result:
        """One job, from the file to the verified file.

        Args:
            clip: the video.
            faces: portraits; each goes on the person of its number.
            background: what is behind the foreground; a path is a picture's.
            segments: exact number of segments; 0 leaves it to `segment_frames` or to the service.
            segment_frames: wanted length of a segment.
            keep: ranges that stay; none means all.
            apply: ranges in which the effect acts; none means all.
            engine_options: of the swap engine.
            encode: how.
            dump_planes: whether `Result.planes` is wanted.
            reads_rows: whether the rows in `Result.seen` are wanted; they take 3 KB a frame of this process.
        """
        job = self._name("jobs")
        source = await self.add(clip, job=job, segments=segments, segment_frames=segment_frames, keep=keep, apply=apply)
        order = cp.RenderSegmentRequest(encode=encode, plane_digests=True, dump_planes=dump_planes)
        order.engine_options.update(engine_options or {})
        seen = None
        if faces:
            seen = await self.analyse(source, job=job, reads_rows=reads_rows)
            order.timeline_key = seen.key
            for person, face in zip(seen.timeline.people, faces, strict=False):
                identity = await self.enroll(face)
                order.cast.add(person=person.number, identity_key=identity.key, identity_digest=identity.digest)
        if isinstance(background, Path):
            background = cp.RenderBackground(kind=cp.BACKGROUND_KIND_IMAGE, asset_key=await self._asset(background))
        if background is not None:
            order.background.CopyFrom(background)
        return await self._finished(source, order, seen, job)

    async def add(
        self,
        clip: Path,
        *,
        job: str = "",
        segments: int = 0,
        segment_frames: int = 0,
        keep: Sequence[media_pb2.TimeRange] = (),
        apply: Sequence[media_pb2.TimeRange] = (),
    ) -> Indexed:
        """Store a video, index it, cut it."""
        asset_key, index_key = await self._asset(clip), f"{job or self._name('jobs')}/index"
        indexed = await self.ingest.Index(ig.IndexRequest(asset_key=asset_key, index_key=index_key), timeout=CALL_S)
        plan = await self.ingest.Plan(
            ig.PlanRequest(
                index_key=index_key, segments=segments, segment_frames=segment_frames, keep=keep, apply=apply
            ),
            timeout=CALL_S,
        )
        index = read_index(await self.mesh.store.get_bytes(index_key), key=index_key)
        return Indexed(
            clip,
            asset_key,
            index_key,
            index,
            tuple(plan.segments),
            tuple(plan.keep) if keep else (),
            tuple(plan.apply) if apply else (),
            tuple(indexed.info.notes),
        )

    async def analyse(self, source: Indexed, *, job: str = "", reads_rows: bool = True) -> Seen:
        """Look at every frame, and link what was seen."""
        job = job or self._name("jobs")
        calls = (
            self.detector.AnalyseSegment(
                dt.AnalyseSegmentRequest(
                    asset_key=source.asset_key,
                    index_key=source.index_key,
                    segment=segment,
                    output_key=f"{job}/analyse/{segment.number:06d}",
                ),
                timeout=CALL_S,
            )
            for segment in source.segments
        )
        answers = await _in_turn(calls, self.at_once)
        linked = await self.detector.Link(
            dt.LinkRequest(
                index_key=source.index_key,
                segments=source.segments,
                observations=[answer.observations for answer in answers],
                output_key=f"{job}/link",
            ),
            timeout=CALL_S,
        )
        store, key = self.mesh.store, linked.timeline.key
        timeline = read_timeline(await store.get_bytes(key))
        if not reads_rows:
            return Seen((), timeline, (), key)
        shards = [read_shard(await store.get_bytes(ref.key)) for ref in timeline.segments]
        observations = []
        for answer in answers:
            content = await store.get_bytes(answer.observations.key)
            observations.append(read_observations(content, key=answer.observations.key))
        return Seen(tuple(observations), timeline, tuple(shards), key)

    async def enroll(self, face: Face) -> media_pb2.ObjectRef:
        """A portrait as an identity."""
        picture = face.picture if isinstance(face, Drawn) else face
        portrait = dt.Portrait(asset_key=await self._asset(picture), name=picture.name, kind=dt.PORTRAIT_KIND_PHOTO)
        if isinstance(face, Drawn):
            portrait.kind = dt.PORTRAIT_KIND_DRAWN
            portrait.landmarks.extend(face.points.reshape(-1).tolist())
        request = dt.EnrollRequest(portraits=[portrait], output_key=f"{self._name('identities')}/identity")
        return (await self.detector.Enroll(request, timeout=CALL_S)).identity

    async def _finished(self, source: Indexed, order: cp.RenderSegmentRequest, seen: Seen | None, job: str) -> Result:
        order.asset_key, order.index_key = source.asset_key, source.index_key
        order.keep.extend(source.keep)
        order.apply.extend(source.apply)
        calls = (
            self.compositor.RenderSegment(_of_segment(order, segment, job), timeout=CALL_S)
            for segment in source.segments
            if _is_kept(segment, source.keep)
        )
        answers = await _in_turn(calls, self.at_once)
        assembled = await self.compositor.Assemble(
            cp.AssembleRequest(
                asset_key=source.asset_key,
                index_key=source.index_key,
                segments=[answer.segment for answer in answers],
                keep=source.keep,
                encode=order.encode,
                output_key=f"{job}/assemble/file",
            ),
            timeout=CALL_S,
        )
        verified = await self.compositor.Verify(
            cp.VerifyRequest(
                file_key=assembled.file.key,
                asset_key=source.asset_key,
                index_key=source.index_key,
                keep=source.keep,
                offset_num=assembled.offset_num,
                offset_den=assembled.offset_den,
            ),
            timeout=CALL_S,
        )
        store = self.mesh.store
        digests = [await store.get_bytes(answer.plane_digests.key) for answer in answers]
        planes = None
        if order.dump_planes:
            dumped = b"".join([await store.get_bytes(answer.segment.key + ".i420") for answer in answers])
            planes = np.frombuffer(dumped, np.uint8).reshape(sum(answer.frames for answer in answers), -1)
        file = self.folder / f"{Path(job).name}.{order.encode.container or 'mp4'}"
        async with store.local_path(assembled.file.key) as path:
            shutil.copy(path, file)
        faces = sum(answer.faces for answer in answers)
        return Result(file, source, split_digests(b"".join(digests)), planes, seen, faces, assembled, verified)

    async def _asset(self, path: Path) -> str:
        key = self._name("assets")
        await self.mesh.store.put_file(key, path)
        return key

    def _name(self, kind: str) -> str:
        return f"local/{kind}/{next(self._names):04d}"


def _of_segment(order: cp.RenderSegmentRequest, segment: media_pb2.Segment, job: str) -> cp.RenderSegmentRequest:
    own = cp.RenderSegmentRequest()
    own.CopyFrom(order)
    own.segment.CopyFrom(segment)
    own.output_key = f"{job}/render/{segment.number:06d}"
    return own


def _is_kept(segment: media_pb2.Segment, keep: Sequence[media_pb2.FrameRange]) -> bool:
    frames = segment.frames
    return not keep or any(part.first < frames.last and frames.first < part.last for part in keep)


async def _in_turn(calls: Iterable[Awaitable[Answer]], at_once: int) -> list[Answer]:
    """Await calls in order, so many at once. A gRPC call begins when it is made: each in its turn."""
    waiting = iter(enumerate(calls))
    answers: dict[int, Answer] = {}

    async def work() -> None:
        for number, call in waiting:
            answers[number] = await call

    await asyncio.gather(*(work() for _ in range(at_once)))
    return [answers[number] for number in sorted(answers)]


class _Blind(lane_pb2_grpc.LaneServiceServicer):
    """A peer on another machine: it sees nobody's memory, and counts who asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def Open(self, request: lane_pb2.OpenRequest, context: object) -> lane_pb2.OpenResponse:
        self.asked += 1
        return lane_pb2.OpenResponse(mapped=False)


@asynccontextmanager
async def running_driver(
    folder: Path, *, workers: int = 2, batch_frames: int = 8, lane: LaneName = "ring", **flags: object
) -> AsyncIterator[Driver]:
    """Five services on a data folder of their own; skips where the models were not pulled.

    Args:
        folder: for data and results; a new one is made inside.
        workers: threads for CPU work.
        batch_frames: frames in one call to the models.
        lane: whether the services see each other's memory.
        flags: further settings, for all services that know them.
    """
    require_weights()
    home = Path(tempfile.mkdtemp(prefix="mesh-", dir=folder))
    logging.getLogger("masquerade").setLevel(logging.WARNING)
    given = {"data": str(home / "data"), "workers": workers, "drain_s": 2.0, **flags}
    blind = _Blind()
    lanes = lane_service if lane == "ring" else partial(lane_service, blind)
    environment = {"MASQUERADE_COMPOSITOR__BATCH_FRAMES": str(batch_frames)}
    with (
        mock.patch.object(standalone, "lane_service", lanes),
        mock.patch.dict("os.environ", environment),
        DataFolder(home / "data") as data,
    ):
        settings = ServiceSettings.load(given)
        async with standalone.running_mesh(data, settings, flags=given, services=SERVICES) as mesh:
            await mesh.warmed()
            yield Driver(mesh, home)
    # Whatever was rendered inline was rendered inline indeed.
    assert lane == "ring" or blind.asked > 0
