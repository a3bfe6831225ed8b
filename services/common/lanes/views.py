"""What a caller of Decode wants of each frame, and how its bytes lie in the frame's slot. No protobuf here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from services.common.colour import ColourTags
from services.common.lanes.pictures import PixelFormat, Shape, lay_out

Box: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the upright frame, half-open."""

Span: TypeAlias = tuple[int, int]
"""First frame and the one after the last."""


@dataclass(frozen=True, slots=True)
class PlanesWanted:
    """The frame's own planes."""

    width: int
    height: int
    frames: Span | None = None

    def shapes(self, index: int) -> tuple[Shape, ...]:
        """The pictures of one frame."""
        return (Shape(self.width, self.height, PixelFormat.I420),) if wants(self.frames, index) else ()


@dataclass(frozen=True, slots=True)
class RgbWanted:
    """The whole frame stretched to a small size."""

    width: int
    height: int
    frames: Span | None = None

    def shapes(self, index: int) -> tuple[Shape, ...]:
        """The pictures of one frame."""
        return (Shape(self.width, self.height, PixelFormat.RGB24),) if wants(self.frames, index) else ()


@dataclass(frozen=True, slots=True)
class CoverWanted:
    """The frame cropped and scaled to cover a size, as planes of a colour: a background."""

    width: int
    height: int
    colour: ColourTags
    frames: Span | None = None

    def shapes(self, index: int) -> tuple[Shape, ...]:
        """The pictures of one frame."""
        return (Shape(self.width, self.height, PixelFormat.I420),) if wants(self.frames, index) else ()


@dataclass(frozen=True, slots=True)
class CropsWanted:
    """Rectangles at the frame's own scale; a frame that is not named has none."""

    boxes: Mapping[int, Sequence[Box]] = field(default_factory=dict)
    frames: Span | None = None

    def shapes(self, index: int) -> tuple[Shape, ...]:
        """The pictures of one frame."""
        if not wants(self.frames, index):
            return ()
        return tuple(Shape(x1 - x0, y1 - y0, PixelFormat.RGB24) for x0, y0, x1, y1 in self.boxes.get(index, ()))


ViewWanted: TypeAlias = PlanesWanted | RgbWanted | CoverWanted | CropsWanted


def wants(frames: Span | None, index: int) -> bool:
    """Whether a view is wanted of a frame."""
    return frames is None or frames[0] <= index < frames[1]


def frame_nbytes(views: Sequence[ViewWanted], index: int) -> int:
    """Bytes of all views of one frame, each picture aligned: how large its slot must be."""
    return lay_out([shape for view in views for shape in view.shapes(index)])[1]
