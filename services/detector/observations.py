"""What was seen in one segment: the file between AnalyseSegment and Link.

One row for each face in each frame, ordered by frame and chain, and texture samples of some of the rows. Biometric data
of the job, erased with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from masquerade.columns import ColumnsError, Shape, read_columns, write_columns
from masquerade.timeline import POINTS, TEXTURE_SIZE, encode_points
from services.common.errors import ObjectCorrupt
from services.detector.groups import Sighting
from services.detector.pose import pose_of
from services.detector.textures import Texture

_SHAPES = {
    "span": Shape("int64", (4,)),
    "cuts": Shape("int32", ("c",)),
    "frame": Shape("int32", ("n",)),
    "chain": Shape("int32", ("n",)),
    "seen": Shape("uint8", ("n",)),
    "box": Shape("float32", ("n", 4)),
    "score": Shape("float32", ("n",)),
    "sharpness": Shape("float32", ("n",)),
    "pose": Shape("float32", ("n", 3)),
    "corner": Shape("int32", ("n", 2)),
    "points": Shape("int16", ("n", POINTS, 3)),
    "texture_row": Shape("int32", ("m",)),
    "texture": Shape("uint8", ("m", TEXTURE_SIZE, TEXTURE_SIZE, 3)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """The faces of frames [first, last).

    Attributes:
        first: first frame of the segment.
        last: one past its last frame.
        width: of the upright source in pixels.
        height: of the upright source in pixels.
        cuts: (c,) int32, frames in (first, last] that begin a scene; the pair across the segment's end is judged here.
        frame: (n,) int32.
        chain: (n,) int32: rows of one number are one face, followed inside one group.
        seen: (n,) uint8, `groups.Seen`.
        box: (n, 4) float32, pixels.
        score: (n,) float32, presence in [0, 1].
        sharpness: (n,) float32, variance of the Laplacian at 192 px.
        pose: (n, 3) float32, degrees.
        corner: (n, 2) int32, pixels, as in a shard.
        points: (n, 478, 3) int16 in 1/16 px, as in a shard.
        texture_row: (m,) int32, the row that a sample belongs to, ascending.
        texture: (m, 64, 64, 3) uint8, 8-bit LAB, mesh space.
    """

    first: int
    last: int
    width: int
    height: int
    cuts: NDArray[np.int32]
    frame: NDArray[np.int32]
    chain: NDArray[np.int32]
    seen: NDArray[np.uint8]
    box: NDArray[np.float32]
    score: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    pose: NDArray[np.float32]
    corner: NDArray[np.int32]
    points: NDArray[np.int16]
    texture_row: NDArray[np.int32]
    texture: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class GroupResult:
    """What was seen in one group: rows by frame and chain, and the samples taken of some of them.

    Attributes:
        cuts: frames in (first, last] of the group that begin a scene.
        sightings: by frame and chain.
        textures: index into `sightings` and the sample.
    """

    cuts: tuple[int, ...]
    sightings: tuple[Sighting, ...]
    textures: tuple[tuple[int, Texture], ...]


@dataclass(frozen=True, slots=True, eq=False)
class GroupColumns:
    """A group as columns: a twentieth of the objects, so that a long segment stays small while it grows."""

    columns: dict[str, NDArray[np.generic]]


def columns_of(group: GroupResult) -> GroupColumns:
    """Turn a group's rows into columns."""
    rows = group.sightings
    points = np.stack([row.sight.points for row in rows]) if rows else np.zeros((0, POINTS, 3), np.float32)
    corner, encoded = encode_points(points)
    boxes = np.stack([row.sight.box for row in rows]) if rows else np.zeros((0, 4), np.float32)
    samples = [sample for _, sample in group.textures]
    return GroupColumns(
        {
            "cuts": np.array(group.cuts, np.int32),
            "frame": np.array([row.frame for row in rows], np.int32),
            "chain": np.array([row.chain for row in rows], np.int32),
            "seen": np.array([row.seen for row in rows], np.uint8),
            "box": boxes.astype(np.float32),
            "score": np.clip(np.array([row.sight.score for row in rows], np.float32), 0, 1),
            "sharpness": np.array([row.sight.sharpness for row in rows], np.float32),
            "pose": pose_of(points),
            "corner": corner,
            "points": encoded,
            "texture_row": np.array([row for row, _ in group.textures], np.int32),
            "texture": np.stack(samples) if samples else np.zeros((0, TEXTURE_SIZE, TEXTURE_SIZE, 3), np.uint8),
        }
    )


def joined(groups: Sequence[GroupColumns], *, first: int, last: int, width: int, height: int) -> Observations:
    """The groups of a segment, in order, as one."""
    parts = [group.columns for group in groups]
    offset = 0
    for part in parts:
        part["texture_row"] = (part["texture_row"].astype(np.int64) + offset).astype(np.int32)
        offset += len(part["frame"])
    names = [name for name in _SHAPES if name != "span"]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return Observations(first=first, last=last, width=width, height=height, **columns)


def write_observations(seen: Observations, out: IO[bytes] | None = None) -> bytes:
    """The segment's bytes, or written into `out`; equal observations give equal bytes."""
    columns = {name: getattr(seen, name) for name in _SHAPES if name != "span"}
    span = np.array([seen.first, seen.last, seen.width, seen.height], np.int64)
    return write_columns({"span": span, **columns}, out)


def read_observations(source: bytes | IO[bytes], *, key: str, with_points: bool = True) -> Observations:
    """Read a segment's observations.

    Args:
        source: the object.
        key: its key, for the error.
        with_points: without, `points` are not read and are empty: three quarters of the file.

    Raises:
        ObjectCorrupt: it is not what AnalyseSegment writes.
    """
    try:
        without = () if with_points else ("points",)
        columns = read_columns(source, _SHAPES, without=without)
    except ColumnsError as error:
        raise ObjectCorrupt(key=key, detail=str(error)) from error
    first, last, width, height = (int(value) for value in columns.pop("span"))
    columns.setdefault("points", np.zeros((0, POINTS, 3), np.int16))
    seen = Observations(first=first, last=last, width=width, height=height, **columns)
    _check(seen, key)
    return seen


def _check(seen: Observations, key: str) -> None:
    order = seen.frame.astype(np.int64) << 32 | seen.chain
    in_span = len(seen.frame) == 0 or (seen.first <= int(seen.frame[0]) and int(seen.frame[-1]) < seen.last)
    rows = seen.texture_row
    numbers = (seen.box, seen.score, seen.sharpness, seen.pose)
    checks = {
        "its span is empty": 0 <= seen.first < seen.last and seen.width > 0 and seen.height > 0,
        "rows out of order": bool(np.all(np.diff(order) > 0)) and in_span,
        "cuts out of order": bool(np.all(np.diff(seen.cuts) > 0)),
        "cuts outside": len(seen.cuts) == 0 or (seen.first < int(seen.cuts[0]) and int(seen.cuts[-1]) <= seen.last),
        "samples without a row": bool(np.all(np.diff(rows) > 0) and np.all((rows >= 0) & (rows < len(seen.frame)))),
        "numbers that are none": all(bool(np.isfinite(column).all()) for column in numbers),
    }
    for problem, is_well in checks.items():
        if not is_well:
            raise ObjectCorrupt(key=key, detail=problem)
