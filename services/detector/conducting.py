"""The detector's work with objects: a segment into observations, observations into a Timeline, portraits into an
identity. Keys in, keys out; frames come from ingest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from masquerade.identity import write_identity
from services.common.arrays import Points, Rgb, RgbBatch
from services.common.errors import ImageLimitExceeded, InvalidSpec, ObjectMissing
from services.common.heap import give_back
from services.common.inference.local import LocalModels
from services.common.inference.models import without_weights
from services.common.inference.runtime import Runtime
from services.common.media.index import MediaIndex, Segment, read_index
from services.common.metrics import segment_done
from services.common.pool import Pool
from services.common.store.objects import ObjectInfo, ObjectStore
from services.detector.analysing import Frames, analyse_segment, room_for
from services.detector.detectors import Detector, detector
from services.detector.enrolling import Kind, Portrait, PortraitQuality, enroll, planes_of
from services.detector.groups import GROUP
from services.detector.imaging import ImageLimits, open_picture
from services.detector.linking import Linked, SegmentSeen, link
from services.detector.looking import Looker
from services.detector.observations import read_observations, write_observations
from services.detector.sights import Sight

REVISION = "1"
"""Of the analysis' method: raised when the same frames give other observations."""


@dataclass(frozen=True, slots=True)
class FramesWanted:
    """What is pulled from ingest for a segment.

    Attributes:
        asset_key: of the video.
        index_key: of its index.
        first: frame.
        last: one past the last frame.
        width: of the upright planes in pixels.
        height: of the upright planes in pixels.
        most_frames: that are held at once.
    """

    asset_key: str
    index_key: str
    first: int
    last: int
    width: int
    height: int
    most_frames: int


class FrameSource(Protocol):
    """Where frames come from: ingest."""

    def pull(self, wanted: FramesWanted) -> AbstractAsyncContextManager[Frames]:
        """The frames' planes, in order, each lent until it is released."""
        ...


@dataclass(frozen=True, slots=True)
class SegmentOrder:
    """One segment to analyse."""

    asset_key: str
    index_key: str
    segment: Segment
    output_key: str
    detector: str
    most_faces: int


@dataclass(frozen=True, slots=True)
class SegmentAnalysed:
    """Where a segment's observations are."""

    stored: ObjectInfo
    frames: int
    faces: int
    is_reused: bool


@dataclass(frozen=True, slots=True, eq=False)
class PortraitOrder:
    """One portrait to enrol, by its object."""

    key: str
    name: str
    kind: Kind
    points: Points | None


class Detection:
    """All that the detector does, for any number of calls at once."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        pool: Pool,
        runtime: Runtime,
        frames: FrameSource,
        frames_bytes: int,
        most_faces: int,
        image_limits: ImageLimits,
        local: LocalModels,
        default_detector: str = "",
        is_served_elsewhere: bool = False,
    ) -> None:
        """Args:
        store: where objects lie.
        pool: for CPU work.
        runtime: where models run.
        frames: ingest.
        frames_bytes: of decoded frames that one segment may hold; one group is held in any case.
        most_faces: found in a frame where a request does not say.
        image_limits: of portraits.
        local: models that a library runs by itself.
        default_detector: where a request names none; empty means the starter's.
        is_served_elsewhere: whether a server runs the models, from a repository of its own.
        """
        self._store = store
        self._pool = pool
        self._runtime = runtime
        self._frames = frames
        self._frames_bytes = frames_bytes
        self._most_faces = most_faces
        self._image_limits = image_limits
        self._local = local
        self._default_detector = default_detector
        self._is_served_elsewhere = is_served_elsewhere
        self._lookers: dict[str, Looker] = {}

    async def detect(self, pictures: RgbBatch, *, name: str) -> list[list[Sight]]:
        """The faces of each picture, each for itself, largest first."""
        looker = self._looker(self._detector(name))

        async def look(rgb: Rgb) -> list[Sight]:
            planes = await self._pool.run(planes_of, rgb)
            return await looker.find(planes, most=self._most_faces)

        found: list[list[Sight]] = []
        # A few at a time: 64 large pictures as planes beside each other would double the caller's memory.
        for start in range(0, len(pictures), GROUP):
            found += await asyncio.gather(*(look(rgb) for rgb in pictures[start : start + GROUP]))
        return found

    async def analyse(self, order: SegmentOrder) -> SegmentAnalysed:
        """Look at one segment, or find what an earlier call has seen."""
        chosen = self._detector(order.detector)
        span = order.segment
        stored = await self._store.stat(order.output_key)
        if stored is not None:
            content = await self._store.get_bytes(order.output_key)
            seen = await self._pool.run(read_observations, content, key=order.output_key, with_points=False)
            return SegmentAnalysed(stored, span.frames, len(seen.frame), is_reused=True)
        index = read_index(await self._store.get_bytes(order.index_key), key=order.index_key)
        _check_span(span, index)
        goes_on = span.last < index.frames
        room = room_for(index.width, index.height, budget_bytes=self._frames_bytes)
        wanted = FramesWanted(
            order.asset_key,
            order.index_key,
            span.first,
            span.last + goes_on,
            index.width,
            index.height,
            room.frames,
        )
        begin = time.perf_counter()
        async with self._frames.pull(wanted) as frames:
            seen = await analyse_segment(
                frames,
                first=span.first,
                last=span.last,
                goes_on=goes_on,
                room=room,
                looker=self._looker(chosen),
                pool=self._pool,
                most_faces=order.most_faces or self._most_faces,
            )
        content = await self._pool.run(write_observations, seen)
        stored = await self._store.put_bytes(order.output_key, content)
        segment_done("analyse", since=begin)
        await self._pool.run(give_back)
        return SegmentAnalysed(stored, span.frames, len(seen.frame), is_reused=False)

    async def link(self, seen: Sequence[SegmentSeen], *, index_key: str, output_key: str, detector: str = "") -> Linked:
        """All segments' observations into one Timeline; `detector` made them."""
        index = read_index(await self._store.get_bytes(index_key), key=index_key)
        digests = self._runtime.digests()
        made_by = {"runtime": self._runtime.name, "analysis": REVISION}
        chosen = self._detector(detector)
        made_by |= {model: digests[model] for model in chosen.models if model in digests}
        made_by |= {model: self._local.digest(model) for model in chosen.own_models}
        return await link(
            seen, frames=index.frames, output_key=output_key, store=self._store, pool=self._pool, made_by=made_by
        )

    async def enroll(
        self, portraits: Sequence[PortraitOrder], *, output_key: str, detector: str = ""
    ) -> tuple[ObjectInfo, list[PortraitQuality]]:
        """Portraits into an identity."""
        opened = [await self._open(portrait) for portrait in portraits]
        identity, quality = await enroll(opened, looker=self._looker(self._detector(detector)), pool=self._pool)
        content = await self._pool.run(write_identity, identity)
        return await self._store.put_bytes(output_key, content), quality

    def listed(self) -> tuple[str, int]:
        """Where a request says nothing: the detector, and the most faces in a frame."""
        return self._detector("").name, self._most_faces

    def missing(self, chosen: Detector) -> list[str]:
        """Which models of a detector have no weights here; of those in a server's own repository nothing is known."""
        ours = chosen.own_models if self._is_served_elsewhere else (*chosen.models, *chosen.own_models)
        return without_weights(self._local.repository, ours)

    async def warm(self) -> None:
        """Load the models of the profile's detector."""
        await self._runtime.ready(self._detector("").models)

    async def _open(self, order: PortraitOrder) -> Portrait:
        stored = await self._store.stat(order.key)
        if stored is None:
            raise ObjectMissing(key=order.key)
        most = self._image_limits.most_bytes
        if stored.bytes > most:
            raise ImageLimitExceeded(path=order.name, limit="bytes", value=stored.bytes, most=most)
        content = await self._store.get_bytes(order.key)
        rgb = await self._pool.run(open_picture, content, name=order.name, limits=self._image_limits)
        return Portrait(order.name, rgb, order.kind, order.points)

    def _detector(self, name: str) -> Detector:
        return detector(name or self._default_detector)

    def _looker(self, chosen: Detector) -> Looker:
        """One looker for all calls, so that what they ask of a model waits in one line and travels together."""
        if chosen.name not in self._lookers:
            self._lookers[chosen.name] = chosen.make(self._runtime, self._pool, self._local)
        return self._lookers[chosen.name]


def _check_span(span: Segment, index: MediaIndex) -> None:
    is_on_grid = span.first % GROUP == 0 and (span.last % GROUP == 0 or span.last == index.frames)
    if not (0 <= span.first < span.last <= index.frames and is_on_grid):
        problem = f"frames {span.first} to {span.last} of {index.frames} are not on the grid of {GROUP}"
        raise InvalidSpec(field="segment", problem=problem)


def landmarks_of(numbers: Sequence[float]) -> Points | None:
    """(478, 3) float32 of 1434 numbers; None of none.

    Raises:
        InvalidSpec: there are more or fewer.
    """
    if not numbers:
        return None
    if len(numbers) != 478 * 3:
        raise InvalidSpec(field="landmarks", problem=f"{len(numbers)} numbers, 1434 are needed")
    return np.array(numbers, np.float32).reshape(478, 3)
