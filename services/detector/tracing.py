"""Link's first pass: chains of all groups become tracks, seen in a stream.

A track is one face through time and never crosses a cut. Only a few numbers a track are kept when it has ended, so a
long video costs a few bytes a group.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.common.errors import ObjectCorrupt
from services.detector.learning import Learned, Samples, learn
from services.detector.observations import Observations
from services.detector.sights import Box, iou

MOST_GAP = 12
"""Frames without a sight that are bridged: a hand that passes, a blink of the net; half a second at 25 frames."""

SAME_PLACE_IOU = 0.2
"""Overlap from which a chain goes on where a track ended."""

GAP_PRICE = 0.02
"""Overlap that a candidate loses per frame of gap, so that the track that was seen last goes first."""

FEWEST_SIGHTS = 6
"""A track that is shorter, with room before or behind it in its scene, is a false alarm."""

LEAST_SCORE = 0.6
"""Mean presence below which a track is a false alarm."""

LEAST_SAMPLE_SCORE = 0.8
MOST_SAMPLE_YAW = 45.0
"""Samples of covered or turned faces teach the wrong thing."""

MOST_LEARNED = 256
"""Tracks whose textures are kept, the longest first: 200 KB each."""


@dataclass(slots=True, eq=False)
class Trace:
    """A track as the first pass knows it.

    Attributes:
        order: in which it was opened.
        first: its first frame.
        last: one past its last frame.
        observed: frames in which it was seen.
        start: box at first sight.
        end: box at last sight.
        width_px: widest box.
        score_sum: of its sights.
        example: how well, in which frame and where it is seen best.
        samples: of its texture, until it has ended.
        learned: of its texture, once it has ended.
        number: in the Timeline; -1 for a false alarm.
    """

    order: int
    first: int
    last: int
    observed: int
    start: Box
    end: Box
    width_px: float
    score_sum: float
    example: tuple[float, int, Box]
    samples: Samples = field(default_factory=Samples)
    learned: Learned | None = None
    number: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Tracing:
    """What the first pass found.

    Attributes:
        tracks: those that stay, by number.
        cuts: frames that begin a scene.
        frames: of the video.
        width: pixels.
        height: pixels.
        removed: false alarms.
        chains: (c,) int32, ascending.
        numbers: (c,) int32, the track of each chain, -1 for a false alarm.
    """

    tracks: tuple[Trace, ...]
    cuts: tuple[int, ...]
    frames: int
    width: int
    height: int
    removed: int
    chains: NDArray[np.int32]
    numbers: NDArray[np.int32]

    def numbers_of(self, chains: NDArray[np.int32]) -> NDArray[np.int32]:
        """(n,) int32: the track of each row's chain."""
        if not len(chains):
            return np.zeros(0, np.int32)
        return self.numbers[np.searchsorted(self.chains, chains)]


class Tracer:
    """Takes the segments in order and gives the tracks of all."""

    def __init__(self) -> None:
        self._open: list[Trace] = []
        self._ended: list[Trace] = []
        self._cuts: list[int] = []
        self._chains: list[int] = []
        self._traces: list[Trace] = []
        self._frames = 0
        self._size: tuple[int, int] | None = None

    def add(self, seen: Observations) -> None:
        """The next segment; its points are not needed.

        Raises:
            ObjectCorrupt: it is not the next one, or is of another size.
        """
        size = (seen.width, seen.height)
        if seen.first != self._frames or size != (self._size or size):
            raise ObjectCorrupt(detail=f"observations from frame {seen.first}, expected {self._frames}")
        self._frames, self._size = seen.last, size
        # The cut across the segment's end is known here as well; the next segment begins behind it.
        self._cuts += [int(cut) for cut in seen.cuts]
        for chains in _chains_by_start(seen):
            self._join(seen, chains)
        self._end_before(seen.last)

    def finish(self) -> Tracing:
        """All tracks, numbered by first sight and then from left to right."""
        self._end_before(self._frames + MOST_GAP + 2)
        stay = [trace for trace in self._ended if self._is_real(trace)]
        stay.sort(key=lambda trace: (trace.first, *trace.start.tolist(), trace.order))
        for number, trace in enumerate(stay):
            trace.number = number
        width, height = self._size or (0, 0)
        return Tracing(
            tracks=tuple(stay),
            cuts=tuple(cut for cut in self._cuts if cut < self._frames),
            frames=self._frames,
            width=width,
            height=height,
            removed=len(self._ended) - len(stay),
            chains=np.array(self._chains, np.int32),
            numbers=np.array([trace.number for trace in self._traces], np.int32),
        )

    def _join(self, seen: Observations, chains: Sequence[NDArray[np.intp]]) -> None:
        """Chains that begin in one frame go on where tracks ended, or open new ones."""
        start = int(seen.frame[chains[0][0]])
        begun = self._scene_of(start)
        waiting = [t for t in self._open if t.last <= start <= t.last + MOST_GAP and t.last > begun]
        for rows, trace in zip(chains, self._matches(seen, chains, waiting, start), strict=True):
            if trace is None:
                trace = _opened(seen, rows[0], order=len(self._ended) + len(self._open))
                self._open.append(trace)
            _extend(trace, seen, rows)
            self._chains.append(int(seen.chain[rows[0]]))
            self._traces.append(trace)

    def _matches(
        self, seen: Observations, chains: Sequence[NDArray[np.intp]], waiting: Sequence[Trace], start: int
    ) -> list[Trace | None]:
        """The waiting track that each chain continues: best overlap first."""
        found: list[Trace | None] = [None] * len(chains)
        if not waiting:
            return found
        overlap = iou(np.stack([seen.box[rows[0]] for rows in chains]), np.stack([t.end for t in waiting]))
        gaps = np.array([start - trace.last for trace in waiting])
        worth = np.where(overlap >= SAME_PLACE_IOU, overlap - GAP_PRICE * gaps, -np.inf)
        for _ in range(min(worth.shape)):
            chain, track = np.unravel_index(int(np.argmax(worth)), worth.shape)
            if not np.isfinite(worth[chain, track]):
                break
            found[int(chain)] = waiting[int(track)]
            worth[chain, :] = worth[:, track] = -np.inf
        return found

    def _scene_of(self, frame: int) -> int:
        """The frame that begins the scene in which a frame lies."""
        place = bisect_right(self._cuts, frame)
        return self._cuts[place - 1] if place else 0

    def _end_before(self, frame: int) -> None:
        """Tracks that no chain of this or a later frame can continue have ended."""
        ended = [trace for trace in self._open if trace.last + MOST_GAP < frame]
        self._open = [trace for trace in self._open if trace.last + MOST_GAP >= frame]
        for trace in ended:
            trace.learned = learn(trace.samples)
            trace.samples = Samples()
        self._ended += ended
        learned = [trace for trace in self._ended if trace.learned is not None]
        for trace in sorted(learned, key=lambda t: (-t.observed, t.first, *t.start.tolist()))[MOST_LEARNED:]:
            trace.learned = None

    def _is_real(self, trace: Trace) -> bool:
        if trace.score_sum < LEAST_SCORE * trace.observed:
            return False
        # A face may be in a whole short scene, and no longer.
        begins = trace.first == self._scene_of(trace.first)
        ends = trace.last == self._frames or trace.last == self._scene_of(trace.last)
        return trace.observed >= FEWEST_SIGHTS or (begins and ends)


def _chains_by_start(seen: Observations) -> Iterator[list[NDArray[np.intp]]]:
    """The rows of each chain, frames ascending; chains that begin in one frame together, by number."""
    order = np.lexsort((seen.frame, seen.chain))
    places = np.flatnonzero(np.diff(seen.chain[order])) + 1
    chains = [rows for rows in np.split(order, places) if len(rows)]
    chains.sort(key=lambda rows: (int(seen.frame[rows[0]]), int(seen.chain[rows[0]])))
    together: list[NDArray[np.intp]] = []
    for rows in chains:
        if together and seen.frame[rows[0]] != seen.frame[together[0][0]]:
            yield together
            together = []
        together.append(rows)
    if together:
        yield together


def _opened(seen: Observations, row: int, *, order: int) -> Trace:
    frame, box = int(seen.frame[row]), seen.box[row].copy()
    return Trace(order, frame, frame, 0, box, box, 0.0, 0.0, (-1.0, frame, box))


def _extend(trace: Trace, seen: Observations, rows: NDArray[np.intp]) -> None:
    boxes = seen.box[rows]
    widths = boxes[:, 2] - boxes[:, 0]
    trace.last = int(seen.frame[rows[-1]]) + 1
    trace.observed += len(rows)
    trace.end = boxes[-1].copy()
    trace.width_px = max(trace.width_px, float(widths.max()))
    trace.score_sum += float(seen.score[rows].astype(np.float64).sum())
    # Large, frontal and sharp: what a person recognises somebody by.
    frontal = np.cos(np.radians(np.clip(seen.pose[rows, 0].astype(np.float64), -90, 90)))
    clear = widths * frontal * np.log1p(seen.sharpness[rows].astype(np.float64)) * seen.score[rows]
    best = int(np.argmax(clear))
    if float(clear[best]) > trace.example[0]:
        trace.example = (float(clear[best]), int(seen.frame[rows[best]]), boxes[best].copy())
    places = np.searchsorted(seen.texture_row, rows)
    for row, place in zip(rows, places, strict=True):
        has_sample = place < len(seen.texture_row) and seen.texture_row[place] == row
        is_good = seen.score[row] >= LEAST_SAMPLE_SCORE and abs(float(seen.pose[row, 0])) <= MOST_SAMPLE_YAW
        if has_sample and is_good:
            trace.samples.offer(int(seen.frame[row]), seen.texture[place])
