"""The index of a video: which frames are displayed, when, and what it takes to decode any of them.

Time lives here and nowhere else. Every later stage speaks of frames by their number in `MediaIndex.pts`; only
assembling turns numbers back into time. The file is a JSON head and raw little-endian integers behind it, the same
bytes for the same index on every machine.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.common.colour import ColourTags
from services.common.errors import ObjectCorrupt

_MAGIC: Final = b"MQINDEX1"
_HEAD_LENGTH: Final = struct.Struct("<I")

Ticks = NDArray[np.int64]
"""(n,) int64 times in a stream's time base."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One unit of work: frames `first` to `last` (not included), multiples of 8 but for the end of the video."""

    number: int
    first: int
    last: int

    @property
    def frames(self) -> int:
        """How many."""
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class OtherStream:
    """A stream that is not the video, as the source describes it.

    Attributes:
        kind: "audio", "subtitle", "attachment" or "data".
        codec: FFmpeg's name, empty if it knows none.
        language: tag, empty if unknown.
        sample_rate_hz, channels: 0 unless audio.
    """

    kind: str
    codec: str = ""
    language: str = ""
    sample_rate_hz: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What a display matrix asks for: first swap the axes, then mirror left-right, then top-bottom."""

    transpose: bool = False
    flip_h: bool = False
    flip_v: bool = False

    @property
    def degrees(self) -> int:
        """Clockwise degrees by which the stored picture is turned; mirrored pictures count as their turn."""
        if self.transpose:
            return 90 if self.flip_h else 270
        return 180 if self.flip_h and self.flip_v else 0


@dataclass(frozen=True, slots=True)
class Picture:
    """The upright picture that Decode gives, and what was stored.

    Attributes:
        width, height: of the upright planes, even.
        padded_from: width and height before padding to even; None if they were even.
        coded_width, coded_height: as stored, before turning.
        coded_format: pixel format as stored, by FFmpeg's name.
        colour: of the planes, resolved.
        sar: sample aspect ratio of the upright picture; None if unknown.
        turn: what is undone to make it upright.
        is_interlaced: whether the lines are two fields.
        top_field_first: which of them is the earlier.
    """

    width: int
    height: int
    coded_width: int
    coded_height: int
    coded_format: str
    colour: ColourTags
    padded_from: tuple[int, int] | None = None
    sar: Fraction | None = None
    turn: Turn = field(default_factory=Turn)
    is_interlaced: bool = False
    top_field_first: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class MediaIndex:
    """All that is known of a video.

    Attributes:
        container, codec: FFmpeg's names.
        stream: index of the video stream in the file.
        picture: what Decode gives.
        time_base: seconds a tick.
        pts: (n,) int64, one for each displayed frame, strictly ascending, the source's own values.
        end: first tick after the last frame.
        key_pts, key_dts: (k,) int64, key packets by ascending PTS; where decoding may start.
        filled: frames whose PTS was missing and was counted up.
        moved: frames whose PTS was repeated and was moved by a tick.
        others: the streams that are not the video.
        chapters: how many.
        notes: what is assumed or converted, for the report.
    """

    container: str
    codec: str
    stream: int
    picture: Picture
    time_base: Fraction
    pts: Ticks
    end: int
    key_pts: Ticks
    key_dts: Ticks
    filled: int = 0
    moved: int = 0
    others: tuple[OtherStream, ...] = ()
    chapters: int = 0
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Number of displayed frames."""
        return len(self.pts)

    @property
    def width(self) -> int:
        """Of the upright planes."""
        return self.picture.width

    @property
    def height(self) -> int:
        """Of the upright planes."""
        return self.picture.height

    @property
    def colour(self) -> ColourTags:
        """Of the planes."""
        return self.picture.colour

    @property
    def padded_from(self) -> tuple[int, int] | None:
        """Width and height before padding to even."""
        return self.picture.padded_from

    @property
    def sar(self) -> Fraction | None:
        """Sample aspect ratio of the upright picture."""
        return self.picture.sar

    @property
    def is_interlaced(self) -> bool:
        """Whether the lines are two fields."""
        return self.picture.is_interlaced

    @property
    def rotation(self) -> int:
        """Clockwise degrees that are undone."""
        return self.picture.turn.degrees

    @property
    def can_seek(self) -> bool:
        """Whether frames can be told apart by PTS; where we had to count, decoding starts at the first frame."""
        return not (self.filled or self.moved) and len(self.key_pts) > 0

    @property
    def is_vfr(self) -> bool:
        """Whether the distances of frames differ by more than the rounding to a tick."""
        steps = np.diff(self.pts)
        return bool(len(steps)) and int(steps.max() - steps.min()) > 1

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last."""
        return (self.end - int(self.pts[0])) * self.time_base

    @property
    def mean_rate(self) -> Fraction:
        """Frames a second over the whole video; the same for every segment's encoder."""
        return (self.frames / self.duration).limit_denominator(60060)

    def key_frame_numbers(self) -> list[int]:
        """Numbers of the displayed frames at which decoding may start."""
        at = np.searchsorted(self.pts, self.key_pts)
        inside = at < self.frames
        return [int(n) for n, pts in zip(at[inside], self.key_pts[inside], strict=True) if self.pts[n] == pts]


def write_index(index: MediaIndex) -> bytes:
    """The index as a file's bytes; equal indexes give equal bytes."""
    arrays = (index.pts, index.key_pts, index.key_dts)
    head = {
        f.name: _plain(getattr(index, f.name)) for f in fields(index) if f.name not in ("pts", "key_pts", "key_dts")
    }
    head["counts"] = [len(array) for array in arrays]
    text = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    return b"".join([_MAGIC, _HEAD_LENGTH.pack(len(text)), text, *(array.astype("<i8").tobytes() for array in arrays)])


def read_index(stored: bytes, *, key: str | None = None) -> MediaIndex:
    """The index that these bytes hold.

    Raises:
        ObjectCorrupt: they are no index, or not all of one.
    """
    try:
        if stored[: len(_MAGIC)] != _MAGIC:
            raise ValueError("not an index")
        at = len(_MAGIC) + _HEAD_LENGTH.size
        (length,) = _HEAD_LENGTH.unpack(stored[len(_MAGIC) : at])
        head = json.loads(stored[at : at + length])
        counts = head.pop("counts")
        numbers = np.frombuffer(stored, "<i8", count=sum(counts), offset=at + length).astype(np.int64)
        if at + length + 8 * sum(counts) != len(stored) or counts[0] < 1:
            raise ValueError("not all of an index")
        numbers.setflags(write=False)
        pts, key_pts, key_dts = np.split(numbers, np.cumsum(counts)[:-1])
        return _from_plain(head, pts=pts, key_pts=key_pts, key_dts=key_dts)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise ObjectCorrupt(key=key, detail=str(error)) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return [value.numerator, value.denominator]
    if isinstance(value, (ColourTags, OtherStream, Turn, Picture)):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _from_plain(head: Mapping[str, Any], **arrays: Ticks) -> MediaIndex:
    bare = dict(head)
    return MediaIndex(
        **{
            **bare,
            **arrays,
            "time_base": Fraction(*bare["time_base"]),
            "picture": _picture(bare["picture"]),
            "others": tuple(OtherStream(**other) for other in bare["others"]),
            "notes": tuple(bare["notes"]),
        }
    )


def _picture(bare: Mapping[str, Any]) -> Picture:
    rest = {k: v for k, v in bare.items() if k not in ("colour", "padded_from", "sar", "turn")}
    return replace(
        Picture(**rest, colour=ColourTags(**bare["colour"])),
        padded_from=(bare["padded_from"][0], bare["padded_from"][1]) if bare["padded_from"] else None,
        sar=Fraction(*bare["sar"]) if bare["sar"] else None,
        turn=Turn(**bare["turn"]),
    )
