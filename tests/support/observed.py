"""Observations of videos that were never made: faces with known landmarks, noise and textures, by the segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from masquerade.timeline import encode_points
from services.detector.groups import GROUP, MOST_CHAINS
from services.detector.observations import Observations
from services.detector.pose import pose_of
from tests.support.faces import face_points

Motion = Callable[[int], NDArray[np.float32]]
"""(478, 3) landmarks by frame."""


@dataclass(frozen=True)
class Actor:
    """Somebody who is seen in some frames.

    Attributes:
        first, last: when there is a face.
        x: left edge of the face.
        width: of the face.
        look: seed of the face's texture.
        missed: frames in which it is not seen.
        motion: landmarks by frame; unset: still at x.
        score: presence.
    """

    first: int
    last: int
    x: float = 100.0
    width: float = 60.0
    look: int = 0
    missed: frozenset[int] = frozenset()
    motion: Motion | None = None
    score: float = 0.99

    def points(self, frame: int) -> NDArray[np.float32]:
        return self.motion(frame) if self.motion else face_points(self.width, at=(self.x, 60))


def look(seed: int) -> NDArray[np.uint8]:
    """(64, 64, 3) a face's texture in LAB."""
    few = np.random.default_rng(seed).integers(60, 200, (6, 6, 3), dtype=np.uint8)
    return np.repeat(np.repeat(few, 11, axis=0), 11, axis=1)[:64, :64]


def observe(actors: Sequence[Actor], first: int, last: int, *, cuts: Sequence[int] = ()) -> Observations:
    """Frames [first, last) as AnalyseSegment would describe them: chains end with groups, cuts and gaps."""
    rows: list[tuple[int, int, Actor]] = []
    numbers: dict[tuple[int, int, int], int] = {}
    for frame in range(first, last):
        group = frame // GROUP
        for place, actor in enumerate(actors):
            if actor.first <= frame < actor.last and frame not in actor.missed:
                scene = sum(cut <= frame for cut in cuts)
                gaps = sum(group * GROUP <= missed < frame for missed in actor.missed)
                key = (group, place, scene * 100 + gaps)
                in_group = [k for k in numbers if k[0] == group]
                chain = numbers.setdefault(key, group * MOST_CHAINS + len(in_group))
                rows.append((frame, chain, actor))
    rows.sort(key=lambda row: row[:2])
    points = np.stack([actor.points(frame) for frame, _, actor in rows]) if rows else np.zeros((0, 478, 3), np.float32)
    corner, encoded = encode_points(points)
    sampled = [n for n, (frame, _, _) in enumerate(rows) if frame % 4 == 0]
    mesh = points[:, :468, :2]
    low = mesh.min(axis=1) if rows else np.zeros((0, 2))
    high = mesh.max(axis=1) if rows else np.zeros((0, 2))
    return Observations(
        first=first,
        last=last,
        width=640,
        height=360,
        cuts=np.array([cut for cut in cuts if first < cut <= last], np.int32),
        frame=np.array([row[0] for row in rows], np.int32),
        chain=np.array([row[1] for row in rows], np.int32),
        seen=np.zeros(len(rows), np.uint8),
        box=np.concatenate([low, high], axis=1).astype(np.float32),
        score=np.array([row[2].score for row in rows], np.float32),
        sharpness=np.full(len(rows), 50, np.float32),
        pose=pose_of(points),
        corner=corner,
        points=encoded,
        texture_row=np.array(sampled, np.int32),
        texture=np.stack([look(rows[n][2].look) for n in sampled]) if sampled else np.zeros((0, 64, 64, 3), np.uint8),
    )


def split(actors: Sequence[Actor], frames: int, parts: int, *, cuts: Sequence[int] = ()) -> list[Observations]:
    """The video in so many segments, on the grid of 8."""
    groups = -(-frames // GROUP)
    bounds = [*sorted({round(n * groups / parts) * GROUP for n in range(parts)}), frames]
    return [observe(actors, a, b, cuts=cuts) for a, b in pairwise(bounds)]
