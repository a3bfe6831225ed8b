"""Batches of pictures as arrays, and where each lies in one run of bytes. No protobuf here."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.common.arrays import Plane, Rgb
from services.common.colour import ColourTags
from services.common.planes import Planes, copy_planes, planes_nbytes

ALIGNMENT: Final = 64
"""Every picture begins at a multiple of a cache line, so that no vector load straddles two."""

LONGEST_SIDE: Final = 1 << 15
"""Pixels; a product of two such sides and any count we allow stays far below 2**63."""


class PixelFormat(enum.IntEnum):
    """How the bytes of one picture are laid out; the numbers of the contract."""

    I420 = 1
    RGB24 = 2
    GRAY8 = 3


Picture: TypeAlias = Rgb | Plane | Planes
"""(h, w, 3) is RGB24, (h, w) is GRAY8, planes are I420."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Size and format of one picture; 0x0 is a picture that is not there."""

    width: int
    height: int
    format: PixelFormat

    @property
    def nbytes(self) -> int:
        """Bytes without padding."""
        if not self.width and not self.height:
            return 0
        if self.format is PixelFormat.I420:
            return planes_nbytes(self.width, self.height)
        return self.width * self.height * (3 if self.format is PixelFormat.RGB24 else 1)

    @classmethod
    def of(cls, picture: Picture) -> Shape:
        """What `picture` is."""
        if isinstance(picture, Planes):
            return cls(picture.width, picture.height, PixelFormat.I420)
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
            raise ValueError(f"no picture has shape {picture.shape} and type {picture.dtype}")
        height, width = picture.shape[:2]
        return cls(width, height, PixelFormat.RGB24 if picture.ndim == 3 else PixelFormat.GRAY8)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Frames of one size and format, named by index and PTS.

    Attributes:
        first_index: presentation index of the first; the others follow without a gap.
        pts: one for each frame, in the stream's time base.
        pixels: (n, h, w, 3) for RGB24, (n, h, w) for GRAY8, (n, bytes of a frame) for I420; uint8.
        shape: of each frame.
        colour: of planes; None for the other formats.
    """

    first_index: int
    pts: tuple[int, ...]
    pixels: NDArray[np.uint8]
    shape: Shape
    colour: ColourTags | None = None

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], *, first_index: int, pts: Sequence[int]) -> Frames:
        """Name a batch of RGB (n, h, w, 3) or grey (n, h, w) pictures."""
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or len(pixels) != len(pts) or not len(pts):
            raise ValueError(f"{len(pts)} frames cannot be {pixels.dtype} of shape {pixels.shape}")
        return cls(first_index, tuple(int(at) for at in pts), pixels, Shape.of(pixels[0]))

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return len(self.pts) * self.shape.nbytes

    def planes(self, number: int) -> Planes:
        """Frame `number` of an I420 batch, from 0."""
        if self.colour is None:
            raise ValueError("only planes have colour tags")
        return Planes.view(self.pixels[number], self.shape.width, self.shape.height, self.colour)


def lay_out(shapes: Sequence[Shape]) -> tuple[list[int], int]:
    """Where each picture begins when they lie one after the other, aligned, and the bytes of all."""
    offsets, end = [], 0
    for shape in shapes:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        offsets.append(start)
        end = start + shape.nbytes
    return offsets, end


def write_picture(picture: Picture, out: memoryview) -> None:
    """Copy a picture to the beginning of `out`, packed."""
    if isinstance(picture, Planes):
        copy_planes(picture, Planes.view(out, picture.width, picture.height, picture.colour))
    elif picture.size:
        np.copyto(np.frombuffer(out, np.uint8, count=picture.size).reshape(picture.shape), picture)


def read_picture(buffer: memoryview, shape: Shape, offset: int, colour: ColourTags | None = None) -> Picture:
    """A picture as a view on `buffer`, which must be long enough; planes need their colour."""
    if shape.format is PixelFormat.I420:
        if colour is None:
            raise ValueError("planes need colour tags")
        return Planes.view(buffer[offset : offset + shape.nbytes], shape.width, shape.height, colour)
    sides = (shape.height, shape.width, 3)[: 3 if shape.format is PixelFormat.RGB24 else 2]
    if not shape.nbytes:
        return np.empty(sides, np.uint8)
    return np.frombuffer(buffer, np.uint8, count=shape.nbytes, offset=offset).reshape(sides)
