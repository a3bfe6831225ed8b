"""The background of each frame: one picture for all of them, or the frames of a second video by their times."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from fractions import Fraction
from typing import TYPE_CHECKING

from services.common.errors import AnswerMismatch
from services.compositor.timetable import Range

if TYPE_CHECKING:
    from services.common.lanes.frame import DecodedFrame
    from services.common.media.index import MediaIndex
    from services.common.planes import Planes
    from services.compositor.peers import Covering, Peers


class Held:
    """Planes that several frames look at; their memory goes back when the last of them has looked."""

    def __init__(self, planes: Planes, frame: DecodedFrame | None = None) -> None:
        self.planes = planes
        self._frame = frame
        self._users = 1
        self._seen = asyncio.Event()

    def share(self) -> Held:
        """One more user."""
        self._users += 1
        return self

    def release(self) -> None:
        """One user less."""
        self._users -= 1
        if self._users:
            return
        if self._frame is not None:
            self._frame.release()
        self._seen.set()

    @property
    def is_released(self) -> bool:
        """Whether the last user has looked."""
        return not self._users

    async def released(self) -> None:
        """Wait until the last user has looked."""
        await self._seen.wait()


class Still:
    """The same background for every frame."""

    def __init__(self, planes: Planes) -> None:
        self._held = Held(planes)

    async def prepare(self, run: Range) -> None:
        """Nothing to set out for."""

    async def at(self, frame: int) -> Held:
        """The background of a frame; the caller releases it."""
        return self._held.share()

    async def close(self) -> None:
        """Nothing is open."""


class Moving:
    """A video behind the foreground, at its own rate, from its beginning again when it ends.

    Its clock runs with the source's, from the source's first displayed frame: which background a frame gets depends
    neither on how the video was split nor on what is kept.
    """

    def __init__(self, peers: Peers, how: Covering, *, source: MediaIndex, video: MediaIndex, max_bytes: int) -> None:
        self._peers, self._how, self._max_bytes = peers, how, max_bytes
        self._source, self._video = source, video
        self._numbers: list[int] = []
        self._first = 0
        self._open = AsyncExitStack()
        self._stream: AsyncIterator[DecodedFrame] | None = None
        self._current: Held | None = None
        self._current_number = -1
        self._shown: list[Held] = []

    def number(self, frame: int) -> int:
        """The background's frame that is shown behind a frame of the source."""
        elapsed = (int(self._source.pts[frame]) - int(self._source.pts[0])) * self._source.time_base
        within = elapsed % self._video.duration
        ticks = within / self._video.time_base + int(self._video.pts[0])
        return max(0, bisect_right(self._video.pts, _floor(ticks)) - 1)

    async def prepare(self, run: Range) -> None:
        """Set out for a run of frames, of which `at` will be asked in order."""
        await self.close()
        self._first = run.first
        self._numbers = [self.number(frame) for frame in range(run.first, run.last)]

    async def at(self, frame: int) -> Held:
        """The background of a frame; the caller releases it."""
        wanted = self._numbers[frame - self._first]
        if self._stream is None or wanted < self._current_number:
            await self._begin(frame)
        while self._current is None or self._current_number < wanted:
            await self._advance()
        return self._current.share()

    async def close(self) -> None:
        """End the decoding and let go of the frame that is held."""
        self._let_go()
        self._shown, self._stream = [], None
        await self._open.aclose()
        self._open = AsyncExitStack()

    def _let_go(self) -> None:
        if self._current is not None:
            self._current.release()
        self._current, self._current_number = None, -1

    async def _begin(self, frame: int) -> None:
        self._let_go()
        # Whoever leaves a stream gives all its memory back, and these are frames that are being blended yet.
        for held in self._shown:
            await held.released()
        await self.close()
        ahead = self._numbers[frame - self._first :]
        last = next((at for at in range(1, len(ahead)) if ahead[at] < ahead[at - 1]), len(ahead))
        stretch = Range(ahead[0], ahead[last - 1] + 1)
        opened = self._peers.cover(stretch, self._how, max_bytes=self._max_bytes)
        self._stream = aiter(await self._open.enter_async_context(opened))

    async def _advance(self) -> None:
        assert self._stream is not None
        frame = await anext(self._stream)
        self._let_go()
        if frame.cover is None:
            raise AnswerMismatch(asked=f"background frame {frame.index}", answered="no planes", peer="ingest")
        self._current, self._current_number = Held(frame.cover, frame), frame.index
        self._shown = [*(held for held in self._shown if not held.is_released), self._current]


def _floor(value: Fraction) -> int:
    return value.numerator // value.denominator
