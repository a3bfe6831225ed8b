"""The compositor's peers over the contract: frames from ingest, mattes from the segmenter, patches from the swapper."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np

from masquerade.v1 import ingest_pb2_grpc, segmenter_pb2, segmenter_pb2_grpc, swapper_pb2, swapper_pb2_grpc
from services.common.errors import AnswerMismatch, UnknownModel
from services.common.lanes.lane import check_answered
from services.common.lanes.pictures import ALIGNMENT, Frames
from services.common.lanes.pulling import FramePull
from services.common.lanes.views import CoverWanted, PlanesWanted, RgbWanted, ViewWanted
from services.compositor.blending import Patch

if TYPE_CHECKING:
    from grpc import aio

    from services.common.arrays import Alpha8
    from services.common.lanes.frame import DecodedFrame
    from services.common.lanes.handshake import Lanes
    from services.common.lanes.pictures import Picture
    from services.compositor.peers import Call, Covering, Face, Pull
    from services.compositor.timetable import Range

# Engines that restore faces answer this much for a face however small its crop is: 512x512, colour and alpha.
_RESTORED_BYTES = 512 * 512 * 4


class WireModels:
    """The segmenter's list of models."""

    def __init__(self, channels: Mapping[str, aio.Channel], *, call_s: float) -> None:
        self._channels, self._call_s = channels, call_s

    async def size(self, model: str) -> tuple[int, int]:
        """Width and height that a matting model takes; the first that is listed is the profile's."""
        stub = segmenter_pb2_grpc.SegmenterServiceStub(self._channels["segmenter"])
        listed = await stub.ListModels(segmenter_pb2.ListModelsRequest(), timeout=self._call_s)
        for known in listed.models:
            if model in ("", known.name):
                return known.width, known.height
        raise UnknownModel(model=model, known=", ".join(known.name for known in listed.models))


class WirePeers:
    """Peers over channels, with one render's memory."""

    def __init__(self, channels: Mapping[str, aio.Channel], lanes: Lanes, *, call_s: float) -> None:
        """Talk over these channels.

        Args:
            channels: by the short name of the service.
            lanes: over the memory of one render.
            call_s: most seconds that one batch may take.
        """
        self._channels, self._lanes, self._call_s = channels, lanes, call_s
        self._ingest = ingest_pb2_grpc.IngestServiceStub(channels["ingest"])

    @asynccontextmanager
    async def pull(self, wanted: Pull, *, max_bytes: int) -> AsyncIterator[FramePull]:
        """Frames of the source, in order."""
        views: list[ViewWanted] = [
            PlanesWanted(wanted.width, wanted.height, frames=(wanted.planes.first, wanted.planes.last))
        ]
        if wanted.small is not None:
            views.append(RgbWanted(*wanted.small))
        async with FramePull(
            self._ingest,
            await self._lanes.to(self._channels["ingest"]),
            asset_key=wanted.asset_key,
            index_key=wanted.index_key,
            frames=(wanted.frames.first, wanted.frames.last),
            views=views,
            max_bytes=max_bytes,
        ) as frames:
            yield frames

    @asynccontextmanager
    async def cover(self, frames: Range, how: Covering, *, max_bytes: int) -> AsyncIterator[FramePull]:
        """Frames of a background video at the target's size."""
        async with FramePull(
            self._ingest,
            await self._lanes.to(self._channels["ingest"]),
            asset_key=how.asset_key,
            index_key=how.index_key,
            frames=(frames.first, frames.last),
            views=[CoverWanted(how.width, how.height, how.colour)],
            max_bytes=max_bytes,
        ) as pulled:
            yield pulled

    async def segment(self, frames: Sequence[DecodedFrame], model: str) -> list[Alpha8]:
        """A matte for each frame's small view."""
        smalls = [frame.rgb for frame in frames]
        pixels = np.stack([small for small in smalls if small is not None])
        asked = Frames.of(pixels, first_index=frames[0].index, pts=[frame.pts for frame in frames])
        channel = self._channels["segmenter"]
        stub = segmenter_pb2_grpc.SegmenterServiceStub(channel)
        lane = await self._lanes.to(channel)
        async with lane.offer_frames(asked) as batch, lane.reserve(pixels.nbytes // 3) as answer:
            request = segmenter_pb2.SegmentRequest(frames=batch, model=model, answer_slot=answer.lease)
            mattes = answer.frames((await stub.Segment(request, timeout=self._call_s)).mattes)
            check_answered(asked, mattes, peer="segmenter")
            if mattes.pixels.ndim != 3:
                raise AnswerMismatch(asked="grey mattes", answered=mattes.shape.format.name, peer="segmenter")
            return list(mattes.pixels.copy())

    async def swap(self, faces: Sequence[Face], call: Call) -> list[Patch | None]:
        """A patch for each face, None where nothing is to change."""
        channel = self._channels["swapper"]
        stub = swapper_pb2_grpc.SwapperServiceStub(channel)
        lane = await self._lanes.to(channel)
        room = sum(max(face.rgb.nbytes * 4 // 3, _RESTORED_BYTES) + 2 * ALIGNMENT for face in faces)
        async with lane.offer_pictures([face.rgb for face in faces]) as crops, lane.reserve(room) as answer:
            request = swapper_pb2.SwapRequest(
                identity_key=call.identity_key,
                engine=call.engine,
                options=call.options,
                crops=crops,
                faces=[_face_message(face) for face in faces],
                textures_key=call.textures_key,
                answer_slot=answer.lease,
            )
            response = await stub.Swap(request, timeout=self._call_s)
            return _patches(faces, response, answer.pictures(response.pixels))


def _face_message(face: Face) -> swapper_pb2.SwapFace:
    yaw, pitch, roll = face.pose
    return swapper_pb2.SwapFace(
        index=face.frame,
        track=face.track,
        landmarks=face.points.astype("<f4").tobytes(),
        weight=face.weight,
        yaw_degrees=yaw,
        pitch_degrees=pitch,
        roll_degrees=roll,
    )


def _patches(
    faces: Sequence[Face], response: swapper_pb2.SwapResponse, pictures: Sequence[Picture]
) -> list[Patch | None]:
    """The answer as patches with memory of their own, after a look at whether it is about what was asked."""
    asked = [(face.frame, face.track) for face in faces]
    answered = [(patch.index, patch.track) for patch in response.patches]
    if asked != answered or len(pictures) != 2 * len(faces):
        raise AnswerMismatch(asked=f"{len(faces)} faces", answered=f"{len(answered)} patches", peer="swapper")
    patches: list[Patch | None] = []
    for number, message in enumerate(response.patches):
        if message.is_empty:
            patches.append(None)
            continue
        rgb, alpha = pictures[number], pictures[number + len(faces)]
        if (
            not isinstance(rgb, np.ndarray)
            or not isinstance(alpha, np.ndarray)
            or rgb.ndim != 3
            or alpha.shape != rgb.shape[:2]
            or len(message.affine) != 6
        ):
            raise AnswerMismatch(asked="colours and alphas of one size", answered="others", peer="swapper")
        affine = np.array(message.affine, np.float64).reshape(2, 3)
        if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:, :2])) < 1e-6:
            raise AnswerMismatch(asked="an affine map", answered="none that can be undone", peer="swapper")
        patches.append(Patch(rgb=rgb.copy(), alpha=alpha.copy(), affine=affine))
    return patches
