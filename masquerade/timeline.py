"""The Timeline: all that analysis knows about a video, as a small index plus one columnar shard per segment.

The index is JSON: how the video is divided, its cuts, tracks and people. A shard holds one row for each face in each
frame of its segment, ordered by frame and then by track, so that rendering reads a video of any length in a stream.
Geometry is pixels of the upright source with centres at +0.5. All bytes are a function of the contents alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
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

_FORMAT = "masquerade-timeline"
_VERSION = 1
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
    low, high = points[:, :, :2].min(axis=1), points[:, :, :2].max(axis=1)
    fits = (high - low + 1) * SUBPIXELS < _INT16.max
    corner = np.floor(np.where(fits, low, (low + high) / 2)).astype(np.int32)
    relative = points.astype(np.float64)
    relative[:, :, :2] -= corner[:, None]
    return corner, np.clip(np.rint(relative * SUBPIXELS), _INT16.min, _INT16.max).astype(np.int16)


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


@dataclass(frozen=True, slots=True)
class ShardRef:
    """Where the faces of frames [first, last) lie."""

    number: int
    first: int
    last: int
    key: str
    digest: str
    rows: int


@dataclass(frozen=True, slots=True)
class Track:
    """One face through time, never across a cut.

    Attributes:
        number: from 0, in order of first frame and then from left to right.
        person: the person's number.
        first: first frame with a row.
        last: one past the last frame with a row.
        rows: frames in which it has a row; bridged gaps included.
        observed: frames in which it was seen.
        max_width_px: widest face box.
        has_texture: the texture file holds statistics for it.
    """

    number: int
    person: int
    first: int
    last: int
    rows: int
    observed: int
    max_width_px: float
    has_texture: bool


@dataclass(frozen=True, slots=True)
class Person:
    """Tracks that are the same human, as far as place and texture tell.

    Attributes:
        number: from 0, in order of first sight and then from left to right.
        first: first frame in which the person is seen.
        frames: rows over all the person's tracks.
        box: x0, y0, x1, y1 in pixels, where the face is in `example`.
        example: a frame that shows the person well: large, frontal, sharp.
    """

    number: int
    first: int
    frames: int
    box: tuple[float, float, float, float]
    example: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """The index of a Timeline.

    Attributes:
        width: of the upright source in pixels.
        height: of the upright source in pixels.
        frames: decodable frames of the source.
        segments: shards in order, without gaps, from frame 0.
        tracks: by number.
        people: by number.
        cuts: frames that begin a scene, ascending, without 0.
        textures_key: object key of the texture statistics; empty where no track was learned.
        textures_digest: digest of that object.
        made_by: what a report says of the analysis: runtime, model digests, stage revision.
        notes: what to know when judging it, for the report.
    """

    width: int
    height: int
    frames: int
    segments: tuple[ShardRef, ...]
    tracks: tuple[Track, ...]
    people: tuple[Person, ...]
    cuts: tuple[int, ...]
    textures_key: str = ""
    textures_digest: str = ""
    made_by: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def segment_of(self, frame: int) -> ShardRef:
        """The shard that covers a frame.

        Raises:
            IndexError: the video has no such frame.
        """
        for segment in self.segments:
            if segment.first <= frame < segment.last:
                return segment
        raise IndexError(f"frame {frame} of {self.frames}")

    def segments_over(self, first: int, last: int) -> tuple[ShardRef, ...]:
        """The shards that cover any of the frames [first, last), in order."""
        return tuple(segment for segment in self.segments if segment.first < last and segment.last > first)

    def tracks_of(self, person: int) -> tuple[Track, ...]:
        """A person's tracks, in order."""
        return tuple(track for track in self.tracks if track.person == person)


def write_timeline(timeline: Timeline) -> bytes:
    """The index as UTF-8 JSON; equal Timelines give equal bytes."""
    _check_timeline(timeline)
    fields = {name: value for name, value in asdict(timeline).items() if name != "made_by"}
    document = {"format": _FORMAT, "version": _VERSION, "made_by": dict(timeline.made_by), **fields}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def read_timeline(data: bytes) -> Timeline:
    """Read an index, trusting nothing in it.

    Raises:
        TimelineFormatError: it is not JSON, not this format or version, or contradicts itself.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TimelineFormatError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
        raise TimelineFormatError("not a Timeline index")
    if document.pop("version", None) != _VERSION:
        raise TimelineFormatError("a Timeline of another version")
    try:
        timeline = Timeline(
            **document
            | {
                "segments": tuple(ShardRef(**entry) for entry in document["segments"]),
                "tracks": tuple(Track(**entry) for entry in document["tracks"]),
                "people": tuple(
                    Person(**entry | {"box": tuple(float(edge) for edge in entry["box"])})
                    for entry in document["people"]
                ),
                "cuts": tuple(document["cuts"]),
                "notes": tuple(document["notes"]),
            }
        )
        _check_timeline(timeline)
    except (KeyError, TypeError, ValueError) as error:
        raise TimelineFormatError(f"not a Timeline index: {error}") from error
    return timeline


def _check_timeline(timeline: Timeline) -> None:
    for name in ("width", "height", "frames"):
        _whole(getattr(timeline, name), name, at_least=1)
    if not isinstance(timeline.made_by, Mapping):
        raise TimelineFormatError("made_by is not a mapping")
    made_by = timeline.made_by
    texts = (timeline.textures_key, timeline.textures_digest, *made_by, *made_by.values(), *timeline.notes)
    if not all(isinstance(text, str) for text in texts):
        raise TimelineFormatError("a key, digest or maker that is not text")
    _check_segments(timeline.segments, timeline.frames)
    _ascending(timeline.cuts, "cuts", at_least=1, below=timeline.frames)
    people = [person.number for person in timeline.people]
    if people != list(range(len(people))) or [t.number for t in timeline.tracks] != list(range(len(timeline.tracks))):
        raise TimelineFormatError("people or tracks are not numbered from 0")
    for person in timeline.people:
        _whole(person.first, "first", at_least=0)
        _whole(person.frames, "frames", at_least=1)
        _whole(person.example, "example", at_least=0)
        if len(person.box) != 4 or not all(np.isfinite(edge) for edge in person.box):
            raise TimelineFormatError(f"box of person {person.number}")
    for track in timeline.tracks:
        _whole(track.first, "first", at_least=0)
        _whole(track.last, "last", at_least=track.first + 1)
        _whole(track.observed, "observed", at_least=1)
        _whole(track.rows, "rows", at_least=track.observed)
        is_known = track.person in range(len(people)) and track.last <= timeline.frames
        if not is_known or not np.isfinite(track.max_width_px):
            raise TimelineFormatError(f"track {track.number} names person {track.person}, frames to {track.last}")


def _check_segments(segments: Iterable[ShardRef], frames: int) -> None:
    expected = 0
    for number, segment in enumerate(segments):
        _whole(segment.rows, "rows", at_least=0)
        _whole(segment.last, "last", at_least=segment.first + 1)
        if segment.number != number or segment.first != expected:
            raise TimelineFormatError(f"segment {segment.number} begins at {segment.first}, expected {expected}")
        if not (isinstance(segment.key, str) and isinstance(segment.digest, str)):
            raise TimelineFormatError(f"segment {number} has no key")
        expected = segment.last
    if expected != frames:
        raise TimelineFormatError(f"segments end at frame {expected} of {frames}")


def _whole(value: object, name: str, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise TimelineFormatError(f"{name} is {value!r}, expected a whole number from {at_least}")


def _ascending(values: tuple[int, ...], name: str, *, at_least: int, below: int) -> None:
    for value in values:
        _whole(value, name, at_least=at_least)
        at_least = value + 1
    if values and values[-1] >= below:
        raise TimelineFormatError(f"{name} reach {values[-1]}, expected below {below}")
