"""When every frame of the output is shown, and when it must be decoded.

Time lives in the index alone. Segments number their frames; here the numbers get their source's times back, to the
tick, with the cuts taken out. The rules are integers and fractions: nothing is rounded before the muxer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Range:
    """Frames by presentation index, half-open."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last:
            raise ValueError(f"{self.first}:{self.last} is no range of frames")

    def __len__(self) -> int:
        return self.last - self.first

    def clipped(self, first: int, last: int) -> Range | None:
        """The part that lies in [first, last), None if there is none."""
        first, last = max(self.first, first), min(self.last, last)
        return Range(first, last) if first < last else None


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the source that stays, in ticks of the video: where it was, and where it begins now."""

    start: int
    end: int
    base: int
    is_cut_before: bool
    """Whether something was taken out before it, so that a join or a new beginning is heard there."""

    is_cut_after: bool

    @property
    def duration(self) -> int:
        """Length in ticks."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, eq=False)
class Timetable:
    """Every kept frame's time in ticks of `time_base`, ascending."""

    time_base: Fraction
    pts: NDArray[np.int64]
    end: int
    """Where the last frame's showing ends."""

    pieces: tuple[Piece, ...]
    """Empty if the whole video stays: then times are the source's own, sound and all."""

    @property
    def frames(self) -> int:
        """Number of frames in the output."""
        return len(self.pts)

    @property
    def start(self) -> Fraction:
        """Seconds of the first frame."""
        return int(self.pts[0]) * self.time_base

    def duration_of(self, frame: int) -> int:
        """Ticks for which a frame is shown."""
        following = int(self.pts[frame + 1]) if frame + 1 < self.frames else self.end
        return following - int(self.pts[frame])


def timetable(*, pts: NDArray[np.int64], end: int, time_base: Fraction, keep: Sequence[Range] = ()) -> Timetable:
    """Times of the frames that stay.

    Frames decide a range: it begins with the PTS of its first frame and ends with the PTS of the frame that follows.

    Args:
        pts: (n,) int64, the source's presented frames, ascending, in ticks.
        end: tick at which the last frame's showing ends.
        time_base: seconds a tick.
        keep: ascending ranges that do not overlap; none means all.
    """
    if len(pts) == 0 or end <= pts[-1] or bool(np.any(np.diff(pts) <= 0)):
        raise ValueError("an index holds ascending times of at least one frame, and ends after the last")
    whole = not keep or (len(keep) == 1 and (keep[0].first, keep[0].last) == (0, len(pts)))
    if whole:
        return Timetable(time_base, pts, end, ())
    _check(keep, len(pts))
    bounds = np.append(pts, end)
    pieces: list[Piece] = []
    kept: list[NDArray[np.int64]] = []
    base = 0
    ends = {part.last for part in keep}
    starts = {part.first for part in keep}
    for part in keep:
        piece = Piece(
            start=int(bounds[part.first]),
            end=int(bounds[part.last]),
            base=base,
            # Ranges that touch take nothing out between them.
            is_cut_before=part.first > 0 and part.first not in ends,
            is_cut_after=part.last < len(pts) and part.last not in starts,
        )
        kept.append(pts[part.first : part.last] - (piece.start - base))
        pieces.append(piece)
        base += piece.duration
    return Timetable(time_base, np.concatenate(kept), base, tuple(pieces))


def _check(keep: Sequence[Range], frames: int) -> None:
    reached = 0
    for part in keep:
        if part.first < reached or part.last > frames:
            raise ValueError(f"kept ranges ascend and lie in 0:{frames}, not {part.first}:{part.last}")
        reached = part.last


@dataclass(frozen=True, slots=True)
class DecodeOrder:
    """Decoding times for packets that are shown up to `delay` places later than they are decoded.

    Packet j of the output is decoded when frame j - delay is shown: steps that are positive and never later than the
    packet's own showing. The first `delay` packets lie before the first frame, by a lead such that all steps together
    last as long as the video is shown: readers take the smaller of the two, so a short sum cuts the end off.
    """

    table: Timetable
    delay: int

    @property
    def depth(self) -> int:
        """The delay that a video of so few frames can have: two frames cannot be three places out of order."""
        return min(self.delay, self.table.frames - 1)

    @property
    def lead(self) -> int:
        """Ticks from the first decoding to the first showing."""
        last = self.table.frames - 1
        behind = int(self.table.pts[last] - self.table.pts[last - self.depth])
        return max(self.depth, behind)

    def dts(self, packet: int) -> int:
        """Tick at which packet number `packet`, counted over the whole output, is decoded."""
        depth = self.depth
        if packet >= depth:
            return int(self.table.pts[packet - depth])
        # Rounded up away from the first frame, so that every step is at least one tick.
        before = -(-self.lead * (depth - packet) // depth)
        return int(self.table.pts[0]) - before

    def duration(self, packet: int, frame: int) -> int:
        """Ticks written with packet number `packet`, which shows `frame`.

        The last packet is given the last frame's: the muxer adds it to the last decoding time, and the sum is the
        length of the video.
        """
        is_last = packet == self.table.frames - 1
        return self.table.duration_of(self.table.frames - 1 if is_last else frame)
