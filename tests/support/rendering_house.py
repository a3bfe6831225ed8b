"""A compositor with its peers on one real server: ingest as it is, models that are drawn instead of learned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from masquerade.timeline import Person, Shard, ShardRef, Timeline, Track, encode_points, write_shard, write_timeline
from masquerade.v1 import compositor_pb2 as pb
from masquerade.v1 import (
    compositor_pb2_grpc,
    lane_pb2_grpc,
    media_pb2,
    segmenter_pb2,
    segmenter_pb2_grpc,
    swapper_pb2,
    swapper_pb2_grpc,
)
from services.common.channels import build_channel
from services.common.deps import Registration, ServiceDeps
from services.common.lanes.handshake import LaneServicer
from services.common.lanes.payload import borrow_frames, borrow_pictures, place_frames, place_pictures
from services.common.lanes.pictures import Frames
from services.common.media.index import MediaIndex, write_index
from services.common.pool import Pool
from services.common.server import build_server
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.compositor import app as compositor_app
from services.compositor.settings import CompositorSettings
from services.ingest import app as ingest_app
from services.ingest.indexing import index_video
from services.ingest.limits import MediaLimits
from services.ingest.settings import IngestSettings


class DrawnMattes(segmenter_pb2_grpc.SegmenterServiceServicer):
    """Bright is foreground."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.delay_s = 0.0

    async def ListModels(self, request: Any, context: Any) -> segmenter_pb2.ListModelsResponse:
        model = segmenter_pb2.MattingModelInfo(name="drawn", width=64, height=36)
        return segmenter_pb2.ListModelsResponse(models=[model])

    async def Segment(self, request: segmenter_pb2.SegmentRequest, context: Any) -> segmenter_pb2.SegmentResponse:
        await asyncio.sleep(self.delay_s)
        with borrow_frames(request.frames) as frames:
            grey = frames.pixels.mean(axis=3)
            mattes = np.clip((grey - 100) * 6, 0, 255).astype(np.uint8)
            self.frames += range(frames.first_index, frames.first_index + len(frames))
            made = Frames.of(mattes, first_index=frames.first_index, pts=frames.pts)
        return segmenter_pb2.SegmentResponse(mattes=place_frames(made, request.answer_slot))


class DrawnFaces(swapper_pb2_grpc.SwapperServiceServicer):
    """The negative of each face in an ellipse; the second face of a frame is left alone."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer_fewer = False

    async def Swap(self, request: swapper_pb2.SwapRequest, context: Any) -> swapper_pb2.SwapResponse:
        self.calls += 1
        with borrow_pictures(request.crops) as crops:
            colours = [np.asarray(255 - np.asarray(crop), np.uint8) for crop in crops]
        alphas = [_ellipse(*colour.shape[:2]) for colour in colours]
        patches = [
            swapper_pb2.Patch(index=face.index, track=face.track, affine=[1, 0, 0, 0, 1, 0]) for face in request.faces
        ]
        if self.answer_fewer:
            patches.pop()
        return swapper_pb2.SwapResponse(
            patches=patches, pixels=place_pictures([*colours, *alphas], request.answer_slot)
        )


def _ellipse(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    y, x = np.mgrid[:height, :width]
    inside = ((x + 0.5) / width * 2 - 1) ** 2 + ((y + 0.5) / height * 2 - 1) ** 2
    return np.clip((1 - inside) * 400, 0, 255).astype(np.uint8)


@dataclass
class House:
    """The running services, and what tests ask of them."""

    store: FolderStore
    compositor: Any
    mattes: DrawnMattes
    faces: DrawnFaces
    scratch: Path
    indexes: dict[str, MediaIndex] = field(default_factory=dict)

    async def add_video(self, key: str, path: Path) -> MediaIndex:
        """Store a video as t/assets/KEY and its index beside it."""
        index = index_video(path, MediaLimits())
        await self.store.put_file(f"t/assets/{key}", path)
        await self.store.put_bytes(f"t/assets/{key}.index", write_index(index))
        self.indexes[key] = index
        return index

    def order(self, key: str, output: str, first: int, last: int, **rest: Any) -> pb.RenderSegmentRequest:
        """A request for one segment of a stored video."""
        rest.setdefault("encode", pb.EncodeSettings(preset="ultrafast"))
        return pb.RenderSegmentRequest(
            asset_key=f"t/assets/{key}",
            index_key=f"t/assets/{key}.index",
            segment=media_pb2.Segment(number=0, frames=media_pb2.FrameRange(first=first, last=last)),
            output_key=f"t/jobs/{output}",
            plane_digests=True,
            **rest,
        )

    async def digests(self, key: str, output: str, bounds: Sequence[int], **rest: Any) -> list[bytes]:
        """Digests of all frames, rendered in the segments that the bounds make."""
        found = b""
        for number, (first, last) in enumerate(pairwise(bounds)):
            order = self.order(key, f"{output}/{number}", first, last, **rest)
            answer = await self.compositor.RenderSegment(order, timeout=50)
            found += await self.store.get_bytes(answer.plane_digests.key)
        return [found[at : at + 16] for at in range(0, len(found), 16)]

    async def planes(self, key: str, output: str, first: int, last: int, **rest: Any) -> np.ndarray[Any, Any]:
        """(n, bytes of a frame) uint8: the planes that were encoded."""
        order = self.order(key, output, first, last, dump_planes=True, **rest)
        await self.compositor.RenderSegment(order, timeout=50)
        index = self.indexes[key]
        data = await self.store.get_bytes(f"t/jobs/{output}.i420")
        return np.frombuffer(data, np.uint8).reshape(-1, index.width * index.height * 3 // 2)

    async def add_timeline(self, key: str, *, cut: int = 0, shards: int = 1) -> None:
        """A face that wanders to the right, one row a frame, person 0; a second one, person 1, below it."""
        index = self.indexes[key]
        bounds = [round(index.frames * n / shards) for n in range(shards + 1)]
        refs = []
        for number, (first, last) in enumerate(pairwise(bounds)):
            shard_key = f"t/timeline/{key}.{number}"
            shard = _shard(first, last)
            stored = await self.store.put_bytes(shard_key, write_shard(shard))
            refs.append(ShardRef(number, first, last, shard_key, stored.digest, len(shard)))
        timeline = Timeline(
            width=index.width,
            height=index.height,
            frames=index.frames,
            segments=tuple(refs),
            tracks=tuple(Track(n, n, 0, index.frames, index.frames, index.frames, 60.0, False) for n in (0, 1)),
            people=tuple(Person(n, 0, index.frames, (0.0, 0.0, 60.0, 60.0), 0) for n in (0, 1)),
            cuts=(cut,) if cut else (),
        )
        await self.store.put_bytes(f"t/timeline/{key}", write_timeline(timeline))


def _shard(first: int, last: int) -> Shard:
    frames = np.repeat(np.arange(first, last), 2)
    count = len(frames)
    ring = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    points = np.zeros((count, 478, 3), np.float32)
    lower = np.tile([0, 1], last - first)
    points[:, :, 0] = (60 + frames)[:, None] + 30 * np.cos(ring)
    points[:, :, 1] = (60 + 100 * lower)[:, None] + 30 * np.sin(ring)
    corner, packed = encode_points(points)
    return Shard(
        frame=frames.astype(np.int32),
        track=lower.astype(np.int32),
        corner=corner,
        points=packed,
        score=np.ones(count, np.float32),
        pose=np.zeros((count, 3), np.float32),
        weight=np.ones(count, np.float32),
    )


@asynccontextmanager
async def rendering_house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    """Start everything on one port; `settings` go to the compositor."""
    common = {"data": folder / "data", "listen": "127.0.0.1:0", "workers": 2}
    store = FolderStore(folder / "objects")
    pool = Pool(2)
    mattes, faces = DrawnMattes(), DrawnFaces()
    channels: dict[str, Any] = {}
    deps = ServiceDeps(store=store, pool=pool, channels=channels, scratch=folder / "scratch")
    registrations = [
        *await ingest_app.build(deps, IngestSettings(**common)),
        *await compositor_app.build(deps, CompositorSettings(**common, **settings)),
        Registration("lanes", lambda server: lane_pb2_grpc.add_LaneServiceServicer_to_server(LaneServicer(), server)),
        Registration(
            "mattes", lambda server: segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(mattes, server)
        ),
        Registration("faces", lambda server: swapper_pb2_grpc.add_SwapperServiceServicer_to_server(faces, server)),
    ]
    server = build_server(registrations, ServiceSettings(**common))
    await server.start()
    async with build_channel(server.target, peer="the house") as channel:
        channels.update(ingest=channel, segmenter=channel, swapper=channel)
        stub = compositor_pb2_grpc.CompositorServiceStub(channel)
        try:
            yield House(store, stub, mattes, faces, folder / "scratch")
        finally:
            await server.stop(drain_s=1)
            await pool.close()
            await store.close()
