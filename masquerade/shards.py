"""The rows of a Timeline: a shard of faces per segment, and what each track's face looks like.

Uncompressed columnar files (`masquerade.columns`) whose bytes are a function of the contents alone, checked to the last
value when read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from masquerade.columns import ColumnsError, Shape, read_columns, write_columns

POINTS = 478
"""Landmarks of a face: 468 of the mesh, then five of each iris."""

SUBPIXELS = 16
"""Steps of a stored coordinate in one pixel."""

TEXTURE_SIZE = 64
"""Side of a texture sample in mesh space."""

_INT16 = np.iinfo(np.int16)

Bytes: TypeAlias = "bytes | IO[bytes]"


class TimelineFormatError(ValueError):
    """The bytes are not a Timeline index, shard or texture file of this version."""


_SHARD_SHAPES = {
    "frame": Shape("int32", ("n",)),
    "track": Shape("int32", ("n",)),
    "corner": Shape("int32", ("n", 2)),
    "points": Shape("int16", ("n", POINTS, 3)),
    "score": Shape("float32", ("n",)),
    "pose": Shape("float32", ("n", 3)),
    "weight": Shape("float32", ("n",)),
}

_TEXTURE_SHAPES = {
    "track": Shape("int32", ("t",)),
    "mean": Shape("float32", ("t", TEXTURE_SIZE, TEXTURE_SIZE, 3)),
    "var": Shape("float32", ("t", TEXTURE_SIZE, TEXTURE_SIZE, 3)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The faces of one segment, a row each, ordered by frame and then by track.

    Attributes:
        frame: (n,) int32, frame number on the source's grid of decodable frames.
        track: (n,) int32, the track's number.
        corner: (n, 2) int32, pixels; the origin of the row's points.
        points: (n, 478, 3) int16 in 1/16 px, x and y relative to `corner`, z in the same unit, smaller is nearer.
        score: (n,) float32 in [0, 1], how sure the landmark model was.
        pose: (n, 3) float32, yaw, pitch, roll in degrees.
        weight: (n,) float32 in [0, 1], how much of the swap to show: fades on profiles and in bridged gaps.
    """

    frame: NDArray[np.int32]
    track: NDArray[np.int32]
    corner: NDArray[np.int32]
    points: NDArray[np.int16]
    score: NDArray[np.float32]
    pose: NDArray[np.float32]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frame)

    def rows_of(self, frame: int) -> range:
        """The rows of one frame, left to right in track number; empty where it shows no face."""
        first, last = np.searchsorted(self.frame, (frame, frame + 1))
        return range(int(first), int(last))

    def points_px(self, row: int) -> NDArray[np.float32]:
        """(478, 3) float32: one row's landmarks in pixels of the frame."""
        points: NDArray[np.float32] = self.points[row].astype(np.float32)
        points /= SUBPIXELS
        points[:, :2] += self.corner[row].astype(np.float32)
        return points


def encode_points(points: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """Landmarks as a shard stores them.

    Args:
        points: (n, 478, 3) float, pixels of the frame.

    Returns:
        Corner (n, 2) int32 and points (n, 478, 3) int16. A face wider than int16 reaches from its corner (2047 px) is
        stored from its centre, which reaches 4094 px; what lies beyond even that, or behind, is held at the edge.
    """
    if len(points) == 0:
        return np.zeros((0, 2), np.int32), np.zeros((0, points.shape[1], 3), np.int16)
    # The axis that is searched lies together, and nothing is copied twice: six times faster than as it reads easiest.
    plane = np.ascontiguousarray(points[:, :, :2].transpose(0, 2, 1))
    low, high = plane.min(axis=2), plane.max(axis=2)
    fits = (high - low + 1) * SUBPIXELS < _INT16.max
    corner = np.floor(np.where(fits, low, (low + high) / 2)).astype(np.int32)
    origin = np.zeros((len(points), 1, points.shape[2]))
    origin[:, 0, :2] = corner
    relative = points - origin
    relative *= SUBPIXELS
    np.clip(np.rint(relative, out=relative), _INT16.min, _INT16.max, out=relative)
    return corner, relative.astype(np.int16)


def write_shard(shard: Shard) -> bytes:
    """A shard's bytes; equal shards give equal bytes."""
    _check_shard(shard)
    return write_columns({name: getattr(shard, name) for name in _SHARD_SHAPES})


def read_shard(source: Bytes) -> Shard:
    """Read a shard, trusting nothing in it.

    Raises:
        TimelineFormatError: a column is absent, of another type, out of range or out of order.
    """
    shard = Shard(**_columns(source, _SHARD_SHAPES))
    _check_shard(shard)
    return shard


def _check_shard(shard: Shard) -> None:
    for name in ("score", "weight"):
        values = getattr(shard, name)
        # Written so that a NaN fails as well.
        if not bool(np.all((values >= 0) & (values <= 1))):
            raise TimelineFormatError(f"{name} outside [0, 1]")
    if not bool(np.all(np.abs(shard.pose) <= 360)):
        raise TimelineFormatError("pose outside [-360, 360] degrees")
    if len(shard) and int(min(shard.frame.min(), shard.track.min())) < 0:
        raise TimelineFormatError("negative frame or track number")
    order = shard.frame.astype(np.int64) << 32 | shard.track
    if not bool(np.all(np.diff(order) > 0)):
        raise TimelineFormatError("rows are not in order of frame and track, or name one twice")


@dataclass(frozen=True, slots=True, eq=False)
class TrackTextures:
    """What each track's face looks like when nothing is in front of it; biometric data, erased with the job.

    Attributes:
        track: (t,) int32, ascending. A track seen too rarely to be learned has no row.
        mean: (t, 64, 64, 3) float32, 8-bit LAB units of OpenCV, mesh space.
        var: (t, 64, 64, 3) float32, squared units of `mean`.
    """

    track: NDArray[np.int32]
    mean: NDArray[np.float32]
    var: NDArray[np.float32]

    def of(self, track: int) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Mean and variance of one track, or None where it was not learned."""
        row = int(np.searchsorted(self.track, track))
        if row == len(self.track) or int(self.track[row]) != track:
            return None
        return self.mean[row], self.var[row]


def write_textures(textures: TrackTextures, out: IO[bytes] | None = None) -> bytes:
    """The textures' bytes, or written into `out`."""
    _check_textures(textures)
    return write_columns({name: getattr(textures, name) for name in _TEXTURE_SHAPES}, out)


def read_textures(source: Bytes) -> TrackTextures:
    """Read texture statistics, trusting nothing in them.

    Raises:
        TimelineFormatError: a column is absent, of another type or out of range.
    """
    textures = TrackTextures(**_columns(source, _TEXTURE_SHAPES))
    _check_textures(textures)
    return textures


def _check_textures(textures: TrackTextures) -> None:
    if not bool(np.all(np.diff(textures.track) > 0)) or (len(textures.track) and int(textures.track[0]) < 0):
        raise TimelineFormatError("tracks of the textures are not ascending")
    for row in range(len(textures.track)):  # row by row: a comparison of all would double the memory of a long video
        mean, var = textures.mean[row], textures.var[row]
        if not bool(np.all((mean >= 0) & (mean <= 255))) or not bool(np.all((var >= 0) & (var <= 65025))):
            raise TimelineFormatError(f"texture of track {int(textures.track[row])} out of range")


def _columns(source: Bytes, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    try:
        return read_columns(source, shapes)
    except ColumnsError as error:
        raise TimelineFormatError(str(error)) from error
