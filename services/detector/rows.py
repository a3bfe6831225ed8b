"""Link's second pass: the rows of the Timeline's shards, made in a stream.

A frame's row depends on the sights at most REACH frames before and after it, so the segments are walked once more with
that much of the neighbours in hand, in blocks that bound the memory whatever the segments' length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from masquerade.timeline import POINTS, SUBPIXELS, Shard, encode_points
from services.detector.observations import Observations
from services.detector.pose import pose_of
from services.detector.smoothing import RADIUS, bridge, fade_in_gaps, smooth
from services.detector.tracing import MOST_GAP, Tracing

REACH = RADIUS + MOST_GAP + 1
"""Frames on each side that a row depends on: the filter's, and the far edge of a gap that begins there."""

BLOCK = 128
"""Frames made at once: a megabyte of landmarks a face, which stays in the cache of a core."""

GAP_FADE = 5
"""Frames over which a bridged gap fades: gaps of two or three frames stay mostly covered, longer ones show through."""

PROFILE_DEG = (55.0, 75.0)
"""Yaw between which a swap fades: beyond, the source's mesh has no texture for what is seen."""


class ShardMaker:
    """Takes the segments with their points in order and gives each segment's shard when enough of the next is known."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._held: deque[tuple[Observations, NDArray[np.int32]]] = deque()
        self._waiting: deque[tuple[int, int]] = deque()
        self._known_to = 0

    def add(self, seen: Observations) -> list[Shard]:
        """The next segment; gives the shards that are complete now, in order."""
        self._held.append((seen, self._tracing.numbers_of(seen.chain)))
        self._waiting.append((seen.first, seen.last))
        self._known_to = seen.last
        return list(self._complete(REACH))

    def finish(self) -> list[Shard]:
        """The shards that waited for what does not come."""
        return list(self._complete(0))

    def _complete(self, reach: int) -> Iterator[Shard]:
        while self._waiting and self._waiting[0][1] + reach <= self._known_to:
            first, last = self._waiting.popleft()
            yield self._shard(first, last)
            while self._held and self._held[0][0].last <= last - REACH:
                self._held.popleft()

    def _shard(self, first: int, last: int) -> Shard:
        blocks = [self._block(start, min(start + BLOCK, last)) for start in range(first, last, BLOCK)]
        return Shard(
            frame=np.concatenate([block.frame for block in blocks]),
            track=np.concatenate([block.track for block in blocks]),
            corner=np.concatenate([block.corner for block in blocks]),
            points=np.concatenate([block.points for block in blocks]),
            score=np.concatenate([block.score for block in blocks]),
            pose=np.concatenate([block.pose for block in blocks]),
            weight=np.concatenate([block.weight for block in blocks]),
        )

    def _block(self, first: int, last: int) -> Shard:
        """All tracks' rows of frames [first, last), by frame and track."""
        frame, track, score, points = self._sights(first - REACH, last + REACH)
        parts = [_EMPTY]
        for number in np.unique(track[track >= 0]).tolist():
            rows = track == number
            made = _track_rows(number, frame[rows], score[rows], points[rows], first, last)
            parts.append(made)
        names = ("frame", "track", "corner", "points", "score", "pose", "weight")
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        order = np.lexsort((columns["track"], columns["frame"]))
        return Shard(**{name: column[order] for name, column in columns.items()})

    def _sights(
        self, first: int, last: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Frame, track, score and points in pixels of all sights in [first, last) that are at hand."""
        frames, tracks, scores, points = [], [], [], [np.zeros((0, POINTS, 3), np.float32)]
        for seen, numbers in self._held:
            a, b = np.searchsorted(seen.frame, (first, last))
            frames.append(seen.frame[a:b])
            tracks.append(numbers[a:b])
            scores.append(seen.score[a:b])
            origin = np.zeros((b - a, 1, 3), np.float32)
            origin[:, 0, :2] = seen.corner[a:b]
            points.append(seen.points[a:b].astype(np.float32) / np.float32(SUBPIXELS) + origin)
        return np.concatenate(frames), np.concatenate(tracks), np.concatenate(scores), np.concatenate(points)


def _track_rows(
    number: int,
    frame: NDArray[np.int32],
    score: NDArray[np.float32],
    points: NDArray[np.float32],
    first: int,
    last: int,
) -> Shard:
    """One track's rows of frames [first, last), from its sights there and REACH frames around."""
    start = int(frame[0])
    length = int(frame[-1]) + 1 - start
    place = frame - start
    seen = np.zeros(length, np.bool_)
    seen[place] = True
    laid = np.zeros((length, POINTS, 3), np.float32)
    laid[place] = points
    known = bridge(laid, seen, most_gap=MOST_GAP)
    # A gap's score is that of its edges: there is no other.
    sure = np.interp(np.arange(length), place, score).astype(np.float32)
    weight = fade_in_gaps(seen, frames=GAP_FADE)
    smoothed = smooth(laid, known)
    frames = np.arange(start, start + length, dtype=np.int32)
    given = np.flatnonzero(known & (frames >= first) & (frames < last))
    pose = pose_of(smoothed[given])
    turned = (PROFILE_DEG[1] - np.abs(pose[:, 0])) / np.float32(PROFILE_DEG[1] - PROFILE_DEG[0])
    corner, encoded = encode_points(smoothed[given])
    return Shard(
        frame=frames[given],
        track=np.full(len(given), number, np.int32),
        corner=corner,
        points=encoded,
        score=np.clip(sure[given], 0, 1),
        pose=pose,
        weight=(weight[given] * np.clip(turned, 0, 1)).astype(np.float32),
    )


_EMPTY = Shard(
    frame=np.zeros(0, np.int32),
    track=np.zeros(0, np.int32),
    corner=np.zeros((0, 2), np.int32),
    points=np.zeros((0, POINTS, 3), np.int16),
    score=np.zeros(0, np.float32),
    pose=np.zeros((0, 3), np.float32),
    weight=np.zeros(0, np.float32),
)
