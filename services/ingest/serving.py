"""What ingest is for, without a wire: videos by key in; indexes, plans and frames out.

A stranger's bytes are opened by this process and read by children only (`decode_child`); what comes back is an index,
or pixels in memory that a caller lent. No state is kept between calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field

from services.common.child import ChildLimits, child_stream, run_in_child
from services.common.errors import Overloaded, RangeOutsideVideo
from services.common.lanes.registry import REGIONS, Registry
from services.common.lanes.views import ViewWanted
from services.common.media.index import MediaIndex, Segment, read_index, write_index
from services.common.store.objects import ObjectInfo, ObjectStore
from services.ingest import decode_child
from services.ingest.limits import MediaLimits
from services.ingest.planning import Range, frames_of_times, plan_segments
from services.ingest.streaming import Credit, Given, give_frames, memory_for
from services.ingest.views import check_views


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one video may cost.

    Attributes:
        media: what is refused before work begins.
        memory_bytes: address space of a child beyond shared memory.
        probe_s, index_s: wall seconds of these calls.
        frame_s: wall seconds until the next frame; a range far behind its key frame needs some.
        cpu_s: CPU seconds of a child, and one more for each frame that it is to give.
        children: probes and indexes at once.
        streams: Decode streams at once.
    """

    media: MediaLimits = field(default_factory=MediaLimits)
    memory_bytes: int = 1536 << 20
    probe_s: float = 30.0
    index_s: float = 600.0
    frame_s: float = 60.0
    cpu_s: int = 600
    children: int = 2
    streams: int = 64

    def child(self, wall_s: float, *, frames: int = 0) -> ChildLimits:
        """The limits of one child; it may write no file at all."""
        return ChildLimits(memory_bytes=self.memory_bytes, cpu_s=self.cpu_s + frames, file_bytes=0, wall_s=wall_s)


@dataclass(frozen=True, slots=True)
class Plan:
    """The cut of a video: all segments, and the frames that stay and that are acted on; no ranges mean all."""

    segments: tuple[Segment, ...]
    keep: tuple[Range, ...]
    apply: tuple[Range, ...]


class Ingest:
    """Probes, indexes, plans and decodes what lies in a store."""

    def __init__(
        self,
        store: ObjectStore,
        bounds: Bounds | None = None,
        *,
        segment_frames: int = 256,
        regions: Registry = REGIONS,
    ) -> None:
        self._store = store
        self._bounds = bounds or Bounds()
        self._segment_frames = segment_frames
        self._regions = regions
        self._children = asyncio.Semaphore(self._bounds.children)
        self._streams = 0

    async def probe(self, asset_key: str) -> MediaIndex:
        """What the file says of itself, as an index that is good for looking at."""
        limits = self._bounds.child(self._bounds.probe_s)
        return read_index(await self._ask(decode_child.probe_file, asset_key, limits))

    async def index(self, asset_key: str, index_key: str) -> tuple[ObjectInfo, MediaIndex]:
        """List the displayed frames and store the list; a list that is stored already is not made again."""
        info = await self._store.stat(index_key)
        if info is None:
            limits = self._bounds.child(self._bounds.index_s)
            made = await self._ask(decode_child.index_file, asset_key, limits)
            info = await self._store.put_bytes(index_key, made)
        return info, await self.read(index_key)

    async def read(self, index_key: str) -> MediaIndex:
        """An index from the store."""
        return read_index(await self._store.get_bytes(index_key), key=index_key)

    async def plan(
        self,
        index_key: str,
        *,
        target: int = 0,
        count: int = 0,
        keep: Sequence[tuple[int, int | None]] = (),
        apply: Sequence[tuple[int, int | None]] = (),
    ) -> Plan:
        """Cut a video.

        Args:
            index_key: of its index.
            target: frames in a segment; 0 means the setting.
            count: exact number of segments; 0 means by length.
            keep, apply: ranges in milliseconds after the first frame; None is the end of the video.
        """
        index = await self.read(index_key)
        return Plan(
            segments=tuple(plan_segments(index, target=target or self._segment_frames, count=count)),
            keep=tuple(frames_of_times(index, keep)),
            apply=tuple(frames_of_times(index, apply)),
        )

    def check(self, index: MediaIndex, frames: range, views: Sequence[ViewWanted]) -> None:
        """Refuse what cannot be decoded of this video.

        Raises:
            RangeOutsideVideo, InvalidSpec.
        """
        if not 0 <= frames.start < frames.stop <= index.frames:
            raise RangeOutsideVideo(range=f"frames {frames.start}:{frames.stop}", duration=f"{index.frames} frames")
        check_views(views, index, most_pixels=self._bounds.media.pixels)

    async def decode(
        self,
        asset_key: str,
        index: MediaIndex,
        frames: range,
        views: Sequence[ViewWanted],
        grants: AsyncIterator[Sequence[Credit]],
    ) -> AsyncGenerator[list[Given], None]:
        """Give the frames of a range, each into the memory that the next credit names, those granted together together.

        Closing the iterator ends the child. Frames, views and index must have passed `check`.

        Raises:
            LaneRefused, LeaseExpired, FrameBatchInvalid: the memory is not, or no longer, ours to write into.
            CorruptMedia, TruncatedMedia, DecoderDied, DecodeTimeout: what the video did.
            Overloaded: too many streams.
        """
        first = await _first(grants)
        if not first:
            return
        with contextlib.ExitStack() as held:
            held.enter_context(self._counted())
            memory = memory_for(first, views, frames, self._regions)
            held.callback(memory.close)
            async with self._store.local_path(asset_key) as path:
                file = held.enter_context(path.open("rb"))
                name = _shown(asset_key)
                packed = [decode_child.packed_view(view) for view in views]
                async with (
                    child_stream(
                        decode_child.decode_views,
                        *(write_index(index), frames.start, frames.stop, packed, name),
                        fds=[file.fileno(), memory.fileno()],
                        limits=self._bounds.child(self._bounds.frame_s, frames=len(frames)),
                        about=name,
                    ) as child,
                    aclosing(
                        give_frames(child, memory, _chained(first, grants), index=index, views=views, frames=frames)
                    ) as given,
                ):
                    async for written in given:
                        yield written

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a stream. A full house refuses: who waited here while holding another stream could wait for ever."""
        if self._streams >= self._bounds.streams:
            raise Overloaded(limit="Decode streams", most=self._bounds.streams)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def _ask(self, function: Callable[..., bytes], asset_key: str, limits: ChildLimits) -> bytes:
        """Let a child read a stored file."""
        name = _shown(asset_key)
        async with self._children, self._store.local_path(asset_key) as path:
            with path.open("rb") as file:
                answer = await run_in_child(
                    function, asdict(self._bounds.media), name, fds=[file.fileno()], limits=limits, about=name
                )
        return bytes(answer)


async def _first(grants: AsyncIterator[Sequence[Credit]]) -> Sequence[Credit]:
    """The first grant that lends anything; nothing if there is none."""
    async for granted in grants:
        if granted:
            return granted
    return ()


async def _chained(first: Sequence[Credit], rest: AsyncIterator[Sequence[Credit]]) -> AsyncIterator[Sequence[Credit]]:
    yield first
    async for granted in rest:
        yield granted


def _shown(asset_key: str) -> str:
    """What an asset is called in errors: the last part of its key, never where it lies."""
    return asset_key.rsplit("/", 1)[-1]
