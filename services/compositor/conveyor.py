"""Frames of one run from the decoder, past the models, through blending, to whoever takes them: in order, bounded.

Three stages run at once. Reading groups decoded frames into batches and starts their analysis (mattes and patches of a
batch are asked for at the same time); blending waits until a frame and its neighbours in time are analysed; delivering
hands finished frames on in order. Frames that are ready at once are blended, and then delivered, together: each way to
the pool and back wakes two threads. What is in flight is bounded by the memory lent to the decoder: a frame keeps its
memory until it is delivered.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from services.common.errors import AnswerMismatch
from services.compositor import matte
from services.compositor.peers import Call, Pull
from services.compositor.scenery import compose
from services.compositor.timetable import Range

if TYPE_CHECKING:
    from services.common.arrays import Alpha8
    from services.common.lanes.frame import DecodedFrame
    from services.common.planes import Planes
    from services.common.pool import Pool
    from services.compositor.backdrop import Held
    from services.compositor.blending import Patch
    from services.compositor.faces import Cast, Placed
    from services.compositor.peers import Peers
    from services.compositor.scenery import Scenery

Deliver = Callable[[Sequence["DecodedFrame"]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is in flight at once."""

    frames_bytes: int
    """Lent to the decoder of the source."""

    batch_frames: int
    calls: int
    """Batches that are analysed at the same time."""

    swap_bytes: int
    """Most bytes of crops in one call to the swapper; a single larger face goes alone."""

    together: int = 1
    """Most frames that are blended in one call of the pool."""


@dataclass(slots=True)
class Tally:
    """What was done, for the report."""

    faces: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By part, added up over work that ran at the same time."""

    def spent(self, part: str, since: float) -> None:
        """Add the time from `since` (of `perf_counter`) until now."""
        self.seconds[part] += time.perf_counter() - since


@dataclass(frozen=True, slots=True)
class _Ready:
    """A frame, and all that is blended into it."""

    frame: DecodedFrame
    patches: list[tuple[Placed, Patch]]
    mattes: list[Alpha8] | None
    centre: int
    """Which of the mattes is its own."""

    held: Held | None
    """What is seen behind the person."""


class Conveyor:
    """One run of frames, used once."""

    def __init__(
        self,
        *,
        run: Range,
        scenery: Scenery,
        peers: Peers,
        pool: Pool,
        bounds: Bounds,
        tally: Tally,
    ) -> None:
        self._run, self._scenery, self._peers = run, scenery, peers
        self._pool = pool
        self._bounds, self._tally = bounds, tally
        self._order = scenery.order
        self._read_frames: asyncio.Queue[DecodedFrame | None] = asyncio.Queue()
        # One more than can be blended at once: the encoder never waits for frames that could be ready.
        self._blended: asyncio.Queue[tuple[list[DecodedFrame], asyncio.Task[None]] | None] = asyncio.Queue(pool.workers)
        self._all_delivered = asyncio.Event()
        self._calls = asyncio.Semaphore(bounds.calls)
        self._patches: dict[int, asyncio.Future[list[tuple[Placed, Patch]]]] = {}
        self._mattes: dict[int, asyncio.Future[Alpha8]] = {}
        self._passed = -1
        """The last frame whose matte nobody will ask for again."""

    async def carry(self, deliver: Deliver) -> None:
        """Render all frames of the run and deliver them in order; the frame's memory goes back afterwards."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(group))
                group.create_task(self._blend(group))
                group.create_task(self._deliver(deliver))
        except BaseExceptionGroup as several:
            raise _first(several) from several

    # Reading.

    async def _read(self, group: asyncio.TaskGroup) -> None:
        wanted = self._pull()
        batch: list[DecodedFrame] = []
        async with self._peers.pull(wanted, max_bytes=self._bounds.frames_bytes) as frames:
            since = time.perf_counter()
            async for frame in frames:
                self._tally.spent("decode", since)
                batch.append(frame)
                if len(batch) == self._bounds.batch_frames:
                    self._begin(group, batch)
                    batch = []
                since = time.perf_counter()
            if batch:
                self._begin(group, batch)
            self._read_frames.put_nowait(None)
            # Leaving takes back the memory of frames that are still at work: wait until all were delivered.
            await self._all_delivered.wait()

    def _pull(self) -> Pull:
        scenery, run = self._scenery, self._run
        lead = 0 if scenery.matting is None else matte.RADIUS_FRAMES
        decoded = Range(max(0, run.first - lead), min(scenery.frames, run.last + lead))
        order = self._order
        return Pull(
            asset_key=order.asset_key,
            index_key=order.index_key,
            frames=decoded,
            planes=run,
            width=scenery.width,
            height=scenery.height,
            small=scenery.matting,
        )

    def _begin(self, group: asyncio.TaskGroup, batch: list[DecodedFrame]) -> None:
        loop = asyncio.get_running_loop()
        for frame in batch:
            if self._is_rendered(frame.index):
                self._patches[frame.index] = loop.create_future()
        group.create_task(self._analyse(batch))
        for frame in batch:
            if self._is_rendered(frame.index):
                self._read_frames.put_nowait(frame)

    def _is_rendered(self, index: int) -> bool:
        return self._run.first <= index < self._run.last

    # Analysis.

    async def _analyse(self, batch: list[DecodedFrame]) -> None:
        async with self._calls:
            await asyncio.gather(self._find_mattes(batch), self._find_patches(batch))
        for frame in batch:
            if not self._is_rendered(frame.index):
                frame.release()

    def _matte_is_wanted(self, index: int) -> bool:
        scenery, radius = self._scenery, matte.RADIUS_FRAMES
        near = range(max(self._run.first, index - radius), min(self._run.last, index + radius + 1))
        return any(scenery.needs_matte(frame) and index in scenery.neighbours(frame) for frame in near)

    async def _find_mattes(self, batch: Sequence[DecodedFrame]) -> None:
        wanted = [frame for frame in batch if self._matte_is_wanted(frame.index)]
        # A batch of the segmenter names its first frame and goes on without a gap.
        for _, group in groupby(enumerate(wanted), lambda pair: pair[1].index - pair[0]):
            frames = [frame for _, frame in group]
            since = time.perf_counter()
            mattes = await self._peers.segment(frames, self._order.background.model)
            self._tally.spent("segment", since)
            _check_count(frames, mattes, "segmenter")
            for frame, found in zip(frames, mattes, strict=True):
                if frame.index > self._passed:
                    self._matte(frame.index).set_result(found)

    async def _find_patches(self, batch: Sequence[DecodedFrame]) -> None:
        placed: list[Placed] = []
        cast = self._scenery.cast
        if cast is not None:
            acted_on = [frame for frame in batch if self._order.acts_on(frame.index)]
            shown = [(frame.planes, frame.index) for frame in acted_on if frame.planes is not None]
            # One way to the pool and back for all: half a millisecond of cutting a frame is not worth its own.
            placed = await self._pool.run_gil_bound(_cut, cast, shown)
        rendered = [frame.index for frame in batch if self._is_rendered(frame.index)]
        found: dict[int, list[tuple[Placed, Patch]]] = {index: [] for index in rendered}
        for share in _shares(placed, self._bounds.swap_bytes):
            since = time.perf_counter()
            patches = await self._peers.swap([one.face for one in share], self._call(share[0].identity_key))
            self._tally.spent("swap", since)
            _check_count(share, patches, "swapper")
            for one, patch in zip(share, patches, strict=True):
                if patch is not None:
                    found[one.face.frame].append((one, patch))
                    self._tally.faces += 1
        for index, patched in found.items():
            # In the order of tracks, whatever calls they came from: where two faces overlap the order shows.
            patched.sort(key=lambda pair: pair[0].face.track)
            self._patches[index].set_result(patched)

    def _call(self, identity_key: str) -> Call:
        swap, cast = self._order.swap, self._scenery.cast
        textures_key = "" if cast is None else cast.textures_key
        return Call(identity_key, swap.engine, swap.options, textures_key)

    # Blending.

    async def _blend(self, group: asyncio.TaskGroup) -> None:
        ready: list[_Ready] = []
        while (frame := await self._read_frames.get()) is not None:
            ready.append(await self._ready(frame))
            # Nothing waits for company: the frame that would come next may need the memory of these.
            if len(ready) == self._bounds.together or not self._is_ready(frame.index + 1):
                task = group.create_task(self._blend_all(ready))
                await self._blended.put(([one.frame for one in ready], task))
                ready = []
        await self._blended.put(None)

    def _is_ready(self, index: int) -> bool:
        """Whether all that a frame waits for is there."""
        wanted: list[asyncio.Future[Any] | None] = [self._patches.get(index)]
        if self._scenery.needs_matte(index):
            wanted += [self._mattes.get(near) for near in self._scenery.neighbours(index)]
        return all(one is not None and one.done() for one in wanted)

    async def _ready(self, frame: DecodedFrame) -> _Ready:
        patches = await self._patches[frame.index]
        del self._patches[frame.index]
        mattes, centre = await self._mattes_around(frame.index)
        held = None
        if mattes is not None and self._scenery.backdrop is not None:
            held = await self._scenery.backdrop.at(frame.index)
        return _Ready(frame, patches, mattes, centre, held)

    async def _mattes_around(self, index: int) -> tuple[list[Alpha8] | None, int]:
        """The mattes that a frame's own takes in, and which of them is its own."""
        found: list[Alpha8] | None = None
        centre = 0
        if self._scenery.needs_matte(index):
            neighbours = self._scenery.neighbours(index)
            found = [await self._matte(near) for near in neighbours]
            centre = index - neighbours.start
        # The next frame reaches back so far and no further.
        self._passed = index - matte.RADIUS_FRAMES
        for past in [known for known in self._mattes if known <= self._passed]:
            del self._mattes[past]
        return found, centre

    def _matte(self, index: int) -> asyncio.Future[Alpha8]:
        """A frame's matte, which may be waited for before the frame has been read."""
        if index not in self._mattes:
            self._mattes[index] = asyncio.get_running_loop().create_future()
        return self._mattes[index]

    async def _blend_all(self, ready: Sequence[_Ready]) -> None:
        label, blur = self._scenery.label, self._order.background.blur
        calls = []
        try:
            for one in ready:
                planes = one.frame.planes
                if planes is None:
                    raise AnswerMismatch(asked=f"planes of frame {one.frame.index}", answered="none", peer="ingest")
                if one.patches or one.mattes is not None or label is not None:
                    behind = None if one.held is None else one.held.planes
                    calls.append(partial(compose, planes, one.patches, one.mattes, one.centre, behind, blur, label))
            if calls:
                since = time.perf_counter()
                await self._pool.run_gil_bound(_do_all, calls)
                self._tally.spent("blend", since)
        finally:
            for one in ready:
                if one.held is not None:
                    one.held.release()

    # Delivering.

    async def _deliver(self, deliver: Deliver) -> None:
        while (item := await self._blended.get()) is not None:
            frames, task = item
            await task
            since = time.perf_counter()
            await deliver(frames)
            self._tally.spent("encode", since)
            for frame in frames:
                frame.release()
        self._all_delivered.set()


def _do_all(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()


def _cut(cast: Cast, shown: Sequence[tuple[Planes, int]]) -> list[Placed]:
    return [one for planes, index in shown for one in cast.faces(planes, index)]


def _shares(placed: Sequence[Placed], most_bytes: int) -> list[list[Placed]]:
    """Faces in calls of one identity each, and of at most so many bytes unless one face alone has more."""
    shares: list[list[Placed]] = []
    for _, group in groupby(sorted(placed, key=lambda one: one.identity_key), lambda one: one.identity_key):
        share: list[Placed] = []
        filled = 0
        for one in group:
            if share and filled + one.face.rgb.nbytes > most_bytes:
                shares.append(share)
                share, filled = [], 0
            share.append(one)
            filled += one.face.rgb.nbytes
        shares.append(share)
    return shares


def _check_count(asked: Sequence[object], answered: Sequence[object], peer: str) -> None:
    if len(asked) != len(answered):
        raise AnswerMismatch(asked=f"{len(asked)}", answered=f"{len(answered)}", peer=peer)


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the others: the one that was raised first."""
    error: BaseException = several
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
