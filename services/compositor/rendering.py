"""One segment, from keys to a stored file: the conductor of rendering.

It reads what the order names, sets the scene, lets each run of kept frames pass (`conveyor.py`) into one encoder, and
stores the result under the order's key. A retry finds the finished object there and answers it.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

from masquerade.timeline import Shard, TimelineFormatError, read_shard, read_timeline
from services.common.errors import EncoderFailed, InvalidSpec, ObjectCorrupt
from services.common.heap import give_back
from services.common.lanes.views import PlanesWanted, RgbWanted, ViewWanted, frame_nbytes
from services.common.media.index import MediaIndex, read_index
from services.common.metrics import frames_passed, segment_done
from services.compositor import backdrop, matte
from services.compositor.backgrounds import colour_background, picture_background, read_picture
from services.compositor.conveyor import Bounds, Conveyor, Tally
from services.compositor.encoding import count_frames, settings_for, shape_of
from services.compositor.faces import Cast
from services.compositor.label import Label
from services.compositor.orders import BackgroundKind, RenderOrder
from services.compositor.peers import Covering, MattingModels, Peers
from services.compositor.scenery import Scenery
from services.compositor.sinks import SegmentSink

if TYPE_CHECKING:
    from services.common.colour import ColourTags
    from services.common.lanes.frame import DecodedFrame
    from services.common.planes import Planes
    from services.common.pool import Pool
    from services.common.store.objects import ObjectInfo, ObjectStore
    from services.compositor.desks import Desks

Parsed = TypeVar("Parsed")

_log = logging.getLogger(__name__)

DIGESTS_SUFFIX = ".xxh3"
PLANES_SUFFIX = ".i420"

# Beyond a batch and the mattes' reach: one frame in the encoder, one that is blended, one that is being decoded.
_FRAMES_AT_WORK = matte.RADIUS_FRAMES + 3

# Frames in one call of the pool, which cannot be interrupted: a fifth of a second at 720p.
_TOGETHER, _TOGETHER_BYTES = 8, 16 << 20

# Background frames: the one shown, the one that follows, and what the frames that are being blended still look at.
_BACKGROUND_FRAMES = 4


@dataclass(frozen=True, slots=True)
class RenderLimits:
    """How much one render has in flight."""

    batch_frames: int = 8
    most_frames: int = 24
    """Most decoded frames held at once; more smooths nothing further."""

    frames_bytes: int = 96 << 20
    """Memory for them. Frames too large for it are held in as small a number as the mattes' reach allows."""

    calls: int = 2
    swap_bytes: int = 4 << 20


@dataclass(frozen=True, slots=True)
class Rendered:
    """The stored segment."""

    segment: ObjectInfo
    frames: int
    digests: ObjectInfo | None
    is_reused: bool = False
    faces: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By part, added up over work that ran at the same time."""


class Renderer:
    """Renders segments, as many at once as there are desks."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        pool: Pool,
        desks: Desks,
        models: MattingModels,
        scratch: Path,
        limits: RenderLimits | None = None,
        digests: bool = False,
    ) -> None:
        """Take what rendering stands on.

        Args:
            store: of sources, Timelines and results.
            pool: for crops, blending and encoding.
            desks: memory and peers.
            models: what is known of matting models beforehand.
            scratch: folder for files that are being written.
            limits: what one render may hold.
            digests: write the planes' digests whether an order asks for them or not.
        """
        self._store, self._pool, self._desks, self._models, self._scratch = store, pool, desks, models, scratch
        self._limits = limits or RenderLimits()
        self._digests = digests

    async def render(self, order: RenderOrder) -> Rendered:
        """Render a segment, or find that it was rendered before.

        Raises:
            InvalidSpec: the order names frames that the video does not have, or none that stay.
        """
        order = replace(order, plane_digests=order.plane_digests or self._digests)
        frames = sum(len(run) for run in order.runs())
        if not frames:
            raise InvalidSpec(field="keep", problem="no frame of the segment stays")
        found = await self._found(order, frames)
        if found is not None:
            return found
        index = read_index(await self._store.get_bytes(order.index_key), key=order.index_key)
        if order.segment.last > index.frames:
            raise InvalidSpec(field="segment", problem=f"the video has {index.frames} frames")
        replaces = order.background.kind is not BackgroundKind.KEEP
        matting = await self._models.size(order.background.model) if replaces else None
        bounds, need = self._bounds(order, index, matting)
        begin = time.perf_counter()
        async with self._desks.desk(need) as peers:
            scenery = await self._scenery(order, index, peers, matting)
            rendered = await self._render(order, index, peers, bounds, scenery)
        segment_done("render", since=begin)
        await self._pool.run(give_back)
        return rendered

    async def _render(
        self, order: RenderOrder, index: MediaIndex, peers: Peers, bounds: Bounds, scenery: Scenery
    ) -> Rendered:
        tally = Tally()
        async with AsyncExitStack() as open_things:
            if scenery.backdrop is not None:
                open_things.push_async_callback(scenery.backdrop.close)
            folder = Path(open_things.enter_context(tempfile.TemporaryDirectory(dir=self._scratch, prefix="segment-")))
            sink = open_things.enter_context(self._sink(order, index, folder))

            async def deliver(frames: Sequence[DecodedFrame]) -> None:
                await self._pool.run(_take, sink, [frame.planes for frame in frames])
                frames_passed("render", len(frames))

            for run in order.runs():
                if scenery.backdrop is not None:
                    await scenery.backdrop.prepare(run)
                conveyor = Conveyor(
                    run=run,
                    scenery=scenery,
                    peers=peers,
                    pool=self._pool,
                    bounds=bounds,
                    tally=tally,
                )
                await conveyor.carry(deliver)
            await self._pool.run(sink.finish)
            rendered = await self._stored(order, sink, tally)
        parts = {f"{part}_s": round(spent, 3) for part, spent in rendered.seconds.items()}
        _log.info("segment rendered", extra={"frames": rendered.frames, "faces": rendered.faces, **parts})
        return rendered

    def _bounds(self, order: RenderOrder, index: MediaIndex, matting: tuple[int, int] | None) -> tuple[Bounds, int]:
        """What may be in flight, and the memory that it takes."""
        limits = self._limits
        views: list[ViewWanted] = [PlanesWanted(index.width, index.height)]
        if matting is not None:
            views.append(RgbWanted(*matting))
        frame_bytes = frame_nbytes(views, 0)
        most = min(limits.most_frames, limits.frames_bytes // frame_bytes)
        batch = max(1, min(limits.batch_frames, most - _FRAMES_AT_WORK))
        held = max(most, batch + _FRAMES_AT_WORK)
        has_video = order.background.kind is BackgroundKind.VIDEO
        # Of a video behind the person, few frames are held at once.
        together = 1 if has_video else max(1, min(_TOGETHER, _TOGETHER_BYTES // frame_bytes))
        bounds = Bounds(held * frame_bytes, batch, limits.calls, limits.swap_bytes, together)
        covers = _BACKGROUND_FRAMES * frame_bytes if has_video else 0
        # A call's crops, its patches with their alphas, and the small frames of a batch with their mattes.
        smalls = 0 if matting is None else 2 * batch * matting[0] * matting[1] * 3
        calls = limits.calls * (3 * limits.swap_bytes + smalls)
        return bounds, bounds.frames_bytes + covers + calls

    async def _scenery(
        self, order: RenderOrder, index: MediaIndex, peers: Peers, matting: tuple[int, int] | None
    ) -> Scenery:
        label = None
        if order.label:
            label = await self._pool.run(Label, order.label, width=index.width, height=index.height)
        return Scenery(
            order=order,
            frames=index.frames,
            width=index.width,
            height=index.height,
            cast=await self._cast(order),
            backdrop=await self._backdrop(order, index, peers),
            matting=matting,
            label=label,
        )

    async def _cast(self, order: RenderOrder) -> Cast | None:
        key = order.swap.timeline_key
        if not key:
            return None
        timeline = _parsed(read_timeline, await self._store.get_bytes(key), key)
        shards: list[Shard] = []
        if order.swap.is_wanted:
            for ref in timeline.segments_over(order.segment.first, order.segment.last):
                shards.append(_parsed(read_shard, await self._store.get_bytes(ref.key), ref.key))
        return Cast(timeline, shards, order.swap.cast)

    async def _backdrop(
        self, order: RenderOrder, index: MediaIndex, peers: Peers
    ) -> backdrop.Still | backdrop.Moving | None:
        wanted = order.background
        size = _Size(width=index.width, height=index.height, colour=index.colour)
        if wanted.kind is BackgroundKind.COLOUR:
            return backdrop.Still(await self._pool.run(colour_background, wanted.rgb, **size))
        if wanted.kind is BackgroundKind.IMAGE:
            rgb = await self._pool.run(read_picture, await self._store.get_bytes(wanted.asset_key))
            return backdrop.Still(await self._pool.run(picture_background, rgb, **size))
        if wanted.kind is BackgroundKind.VIDEO:
            video = read_index(await self._store.get_bytes(wanted.index_key), key=wanted.index_key)
            how = Covering(wanted.asset_key, wanted.index_key, index.width, index.height, index.colour)
            most = _BACKGROUND_FRAMES * frame_nbytes([PlanesWanted(index.width, index.height)], 0)
            return backdrop.Moving(peers, how, source=index, video=video, max_bytes=most)
        return None

    def _sink(self, order: RenderOrder, index: MediaIndex, folder: Path) -> SegmentSink:
        settings = settings_for(order.container.suffix, order.encode)
        return SegmentSink(folder, shape_of(index), settings, digests=order.plane_digests, dump=order.dump_planes)

    async def _stored(self, order: RenderOrder, sink: SegmentSink, tally: Tally) -> Rendered:
        """Check what was encoded and store it, the segment last: where it is, its proofs are."""
        frames = await self._pool.run(count_frames, sink.path)
        if frames != sink.frames:
            raise EncoderFailed(detail=f"{sink.frames} frames went in, {frames} came out")
        digests = None
        if sink.proof is not None and order.plane_digests:
            digests = await self._store.put_bytes(order.output_key + DIGESTS_SUFFIX, sink.proof.data())
        if sink.dump_path is not None:
            await self._store.put_file(order.output_key + PLANES_SUFFIX, sink.dump_path)
        segment = await self._store.put_file(order.output_key, sink.path)
        return Rendered(segment, frames, digests, faces=tally.faces, seconds=dict(tally.seconds))

    async def _found(self, order: RenderOrder, frames: int) -> Rendered | None:
        """The segment as an earlier attempt left it, if it is whole."""
        known = await self._store.stat(order.output_key)
        digests = await self._store.stat(order.output_key + DIGESTS_SUFFIX) if order.plane_digests else None
        if known is None or (order.plane_digests and digests is None):
            return None
        try:
            async with self._store.local_path(order.output_key) as path:
                is_whole = await self._pool.run(count_frames, path) == frames
        except ObjectCorrupt:
            # Rendered again below; putting replaces what is corrupt.
            return None
        return Rendered(known, frames, digests, is_reused=True) if is_whole else None


class _Size(TypedDict):
    """What a still background is made for."""

    width: int
    height: int
    colour: ColourTags


def _take(sink: SegmentSink, frames: Sequence[Planes | None]) -> None:
    for planes in frames:
        sink.take(planes)


def _parsed(read: Callable[[bytes], Parsed], content: bytes, key: str) -> Parsed:
    try:
        return read(content)
    except TimelineFormatError as error:
        raise ObjectCorrupt(key=key, detail=str(error)) from error
