"""The Timeline: all that analysis knows about a video, as a small index plus one columnar shard per segment.

The index is JSON: how the video is divided, its cuts, tracks and people. A shard holds one row for each face in each
frame of its segment, ordered by frame and then by track, so that rendering reads a video of any length in a stream.
Geometry is pixels of the upright source with centres at +0.5. All bytes are a function of the contents alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from masquerade.shards import (
    POINTS,
    SUBPIXELS,
    TEXTURE_SIZE,
    Shard,
    TimelineFormatError,
    TrackTextures,
    encode_points,
    read_shard,
    read_textures,
    write_shard,
    write_textures,
)

__all__ = [
    "POINTS",
    "SUBPIXELS",
    "TEXTURE_SIZE",
    "Person",
    "Shard",
    "ShardRef",
    "Timeline",
    "TimelineFormatError",
    "Track",
    "TrackTextures",
    "encode_points",
    "read_shard",
    "read_textures",
    "read_timeline",
    "write_shard",
    "write_textures",
    "write_timeline",
]

_FORMAT = "masquerade-timeline"
_VERSION = 1


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
