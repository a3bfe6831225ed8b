"""The conductor of AnalyseSegment: pulls a segment's frames once, several groups in flight, and joins what they saw.

Groups are closed, so they run side by side: while one waits for the model, another cuts its crops, and what waits for
the model goes there as one batch. Frames are held by the groups that look at them (a group's first frame by two) and
are given back to the decoder as soon as nobody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from masquerade.facemesh import TexelGrid
from services.common.errors import AnswerMismatch
from services.common.metrics import frames_passed
from services.common.planes import Planes, planes_nbytes
from services.common.pool import Pool
from services.detector.cuts import is_cut, thumbnail
from services.detector.groups import GROUP, Sighting, analyse_group
from services.detector.looking import Looker
from services.detector.observations import GroupColumns, GroupResult, Observations, columns_of, joined
from services.detector.sights import Sight
from services.detector.textures import Texture, is_sampled, texture_of

MOST_GROUPS = 4
"""Groups in flight at most: enough that the model and the crops never wait for each other, for any number of cores that
one segment is worth."""


class Frame(Protocol):
    """A decoded frame that is lent to us."""

    @property
    def index(self) -> int:
        """Presentation index."""
        ...

    @property
    def planes(self) -> Planes | None:
        """Its planes, until it is released."""
        ...

    def release(self) -> None:
        """Give its memory back."""
        ...


class Frames(Protocol):
    """Lent frames, in order."""

    def __aiter__(self) -> AsyncIterator[Frame]:
        """Each frame once."""
        ...


@dataclass(frozen=True, slots=True)
class Room:
    """How much memory a segment may hold, as frames.

    Attributes:
        groups: groups in flight.
        frames: frames held at once: those of the groups, of the one that is being filled, and one on its way.
        nbytes: the same in bytes: what is lent to the decoder.
    """

    groups: int
    frames: int
    nbytes: int


def room_for(width: int, height: int, *, budget_bytes: int) -> Room:
    """As many groups as the budget allows: at least one, even where a single one needs more than that."""
    nbytes = planes_nbytes(width, height)
    groups = max(1, min(MOST_GROUPS, budget_bytes // (GROUP * nbytes) - 1))
    frames = (groups + 1) * GROUP + 2
    return Room(groups, frames, frames * nbytes)


async def analyse_segment(
    frames: Frames,
    *,
    first: int,
    last: int,
    goes_on: bool,
    room: Room,
    looker: Looker,
    pool: Pool,
    most_faces: int = 0,
    grid: TexelGrid | None = None,
) -> Observations:
    """Everything that is seen in frames [first, last).

    Args:
        frames: frames first .. last - 1, and `last` where the video goes on, in order.
        first: a multiple of 8.
        last: one past the segment's last frame; a multiple of 8 but at the video's end.
        goes_on: whether the video has a frame `last`.
        room: how many groups may be in flight.
        looker: finds and follows faces.
        pool: for crops and thumbnails.
        most_faces: found in one frame at most; 0 means the looker's own.
        grid: for tests, of another topology than the model repository's.
    """
    if first % GROUP or (last % GROUP and goes_on):
        raise ValueError(f"segment {first}..{last} is not on the grid of {GROUP}")
    free = asyncio.Semaphore(room.groups)
    tasks: list[asyncio.Task[GroupColumns]] = []
    sizes: set[tuple[int, int]] = set()
    try:
        async with asyncio.TaskGroup() as running:
            async for start, held in _grouped(frames, first, last, goes_on):
                sizes.add((held[0].planes.width, held[0].planes.height))
                await free.acquire()
                group = _Group(start, min(start + GROUP, last), held, looker, pool, most_faces, grid)
                task = running.create_task(group.run(), name=f"group {start}")
                task.add_done_callback(lambda _: free.release())
                tasks.append(task)
    except ExceptionGroup as failed:
        # One fault stops all groups, and that one is what the caller is told.
        raise _first(failed) from failed
    if len(sizes) != 1:
        raise AnswerMismatch(asked="frames of one size", answered=str(sorted(sizes)), peer="ingest")
    ((width, height),) = sizes
    parts = [task.result() for task in tasks]
    return await pool.run(joined, parts, first=first, last=last, width=width, height=height)


@dataclass(slots=True, eq=False)
class _Held:
    """A frame and how many groups still look at it."""

    frame: Frame
    planes: Planes
    users: int
    found: asyncio.Future[list[Sight]] | None = field(default=None)

    def done(self) -> None:
        self.users -= 1
        if self.users == 0:
            self.frame.release()


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _grouped(frames: Frames, first: int, last: int, goes_on: bool) -> AsyncIterable[tuple[int, list[_Held]]]:
    """Frames by group, each group with the next one's first frame."""
    waiting: list[_Held] = []
    expected = first
    async for frame in frames:
        planes = frame.planes
        if frame.index != expected or planes is None:
            raise AnswerMismatch(asked=f"frame {expected}", answered=f"frame {frame.index}", peer="ingest")
        expected += 1
        is_shared = frame.index % GROUP == 0 and first < frame.index < last
        waiting.append(_Held(frame, planes, users=2 if is_shared else 1))
        if frame.index % GROUP == 0 and frame.index > first:
            yield waiting[0].frame.index, waiting
            waiting = waiting[-1:]
    if expected != last + goes_on:
        raise AnswerMismatch(asked=f"frames to {last + goes_on}", answered=f"frames to {expected}", peer="ingest")
    if waiting and waiting[0].frame.index < last:
        yield waiting[0].frame.index, waiting


class _Group:
    """One group in flight: the eyes of `analyse_group`."""

    def __init__(
        self,
        first: int,
        last: int,
        held: Sequence[_Held],
        looker: Looker,
        pool: Pool,
        most_faces: int,
        grid: TexelGrid | None,
    ) -> None:
        self._first = first
        self._last = last
        self._held = held
        self._looker = looker
        self._pool = pool
        self._most_faces = most_faces
        self._grid = grid

    async def run(self) -> GroupColumns:
        """What is seen in the group, as columns."""
        planes = [held.planes for held in self._held]
        goes_on = len(planes) > self._last - self._first
        cuts = await self._pool.run(_cuts_in, planes, self._first)
        sightings = await analyse_group(self._first, self._last, goes_on=goes_on, cuts=cuts, eyes=self)
        columns = await self._pool.run(_finished, planes, self._first, cuts, sightings, self._grid)
        for held in self._held:
            held.done()
        frames_passed("analyse", self._last - self._first)
        return columns

    async def find(self, frame: int) -> Sequence[Sight]:
        """The faces of a frame; two groups share what was found in the frame that they share."""
        held = self._held[frame - self._first]
        if held.found is None:
            held.found = asyncio.ensure_future(self._looker.find(held.planes, most=self._most_faces))
        return await held.found

    async def follow(self, frame: int, known: Sequence[Sight]) -> Sequence[Sight | None]:
        """Known faces in a neighbouring frame."""
        return await self._looker.follow(self._held[frame - self._first].planes, known)


def _cuts_in(planes: Sequence[Planes], first: int) -> list[int]:
    """Frames that begin a scene, of all but the first."""
    small = [thumbnail(frame) for frame in planes]
    return [first + after for after in range(1, len(small)) if is_cut(small[after - 1], small[after])]


def _finished(
    planes: Sequence[Planes], first: int, cuts: Sequence[int], rows: Sequence[Sighting], grid: TexelGrid | None
) -> GroupColumns:
    """A group's rows with their texture samples, as columns."""
    textures: list[tuple[int, Texture]] = []
    for number, row in enumerate(rows):
        if is_sampled(row.frame):
            texture = texture_of(planes[row.frame - first], row.sight.points, grid=grid)
            if texture is not None:
                textures.append((number, texture))
    return columns_of(GroupResult(tuple(cuts), tuple(rows), tuple(textures)))
