"""A matte as tiles: most of a frame is plainly foreground or plainly background, and only the rest is work.

At 720p the soft edge of one person touches a tenth of the tiles. Their rows are gathered into one array, worked on
together and put back: tile by tile it was three hundred small calls a frame, each of which gives up the GIL and asks
for it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from services.common.arrays import Plane

TILE_PX = 32
"""Side of a tile. Smaller ones follow the edge closer but have more rows to gather."""

Scalar = TypeVar("Scalar", np.uint8, np.int16, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Tiles of one width, gathered from all over a plane as rows of samples, one tile's below the other's.

    Tiles that reach beyond the plane's last row repeat it, and what is computed of that is not put back.

    Attributes:
        tops, lefts: (n,) pixels, where each tile begins.
        width, height: of a tile.
        rows, columns: (n * height,) where each of their rows begins.
        is_inside: (n * height,) whether the plane has that row.
    """

    tops: NDArray[np.intp]
    lefts: NDArray[np.intp]
    width: int
    height: int
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    is_inside: NDArray[np.bool_]

    @classmethod
    def at(
        cls, tops: NDArray[np.intp], lefts: NDArray[np.intp], *, width: int, height: int, plane_height: int
    ) -> Cells:
        """The tiles that begin at some places of a plane of so many rows."""
        rows = (tops[:, None] + np.arange(height)).ravel()
        inside = rows < plane_height
        return cls(tops, lefts, width, height, np.minimum(rows, plane_height - 1), np.repeat(lefts, height), inside)

    def of(self, plane: NDArray[Scalar]) -> NDArray[Scalar]:
        """A copy of the tiles' samples, (n * height, width)."""
        return _windows(plane, 1, self.width)[self.rows, self.columns]

    def put(self, plane: NDArray[Scalar], samples: NDArray[Scalar]) -> None:
        """Write (n * height, width) samples to where they were gathered."""
        rows, columns = self.rows, self.columns
        if not self.is_inside.all():
            rows, columns, samples = rows[self.is_inside], columns[self.is_inside], samples[self.is_inside]
        _windows(plane, 1, self.width)[rows, columns] = samples

    def enlarged(self, small: NDArray[Scalar], factor: int) -> NDArray[Scalar]:
        """What `of` would give of the whole enlarged bilinearly; the rest is not computed.

        Args:
            small: (h, w), what `shrink` gives.
            factor: the same as there; the tiles begin at multiples of it.
        """
        if factor == 1:
            return self.of(small)
        # Bilinear interpolation reaches one neighbour; at the border it has none, and repeats.
        down, across = self.height // factor + 2, -(-self.width // factor) + 2
        padded = np.asarray(cv2.copyMakeBorder(small, 1, down, 1, across, cv2.BORDER_REPLICATE), small.dtype)
        patches = _windows(padded, down, across)[self.tops // factor, self.lefts // factor]
        size = (across * factor, len(self.tops) * down * factor)
        large = np.asarray(cv2.resize(patches.reshape(-1, across), size, interpolation=cv2.INTER_LINEAR), small.dtype)
        tiles = large.reshape(len(self.tops), down * factor, -1)[:, factor:-factor, factor : factor + self.width]
        # In one piece: over rows that lie apart OpenCV takes half as long again.
        return tiles.reshape(-1, self.width)

    def moved(self, right: int, down: int) -> Cells:
        """The same places, counted from another corner."""
        tops, lefts, rows, columns = self.tops + down, self.lefts + right, self.rows + down, self.columns + right
        return Cells(tops, lefts, self.width, self.height, rows, columns, self.is_inside)

    def halved(self) -> Cells:
        """The same places in a plane of half the size; of even tiles in an even plane."""
        rows, columns, inside = self.rows[::2] // 2, self.columns[::2] // 2, self.is_inside[::2]
        return Cells(self.tops // 2, self.lefts // 2, self.width // 2, self.height // 2, rows, columns, inside)


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """A plane cut into squares, and what is in each.

    Attributes:
        kinds: (bands, tiles in a band) int16, the value of all pixels of a tile, or -1 where they differ.
        tile_px: side of a tile; those at the right and at the bottom may be smaller.
        width, height: of the plane.
    """

    kinds: NDArray[np.int16]
    tile_px: int
    width: int
    height: int

    @classmethod
    def of(cls, plane: Plane, *, tile_px: int = TILE_PX) -> Tiles:
        """Cut up a (h, w) uint8 plane."""
        height, width = plane.shape
        starts = np.arange(0, width, tile_px)
        whole = height // tile_px * tile_px
        # All whole bands at once: band by band it was half as dear again.
        parts = [plane[:whole].reshape(-1, tile_px, width)] if whole else []
        if whole < height:
            parts.append(plane[None, whole:])
        least = np.concatenate([np.minimum.reduceat(part.min(axis=1), starts, axis=1) for part in parts])
        most = np.concatenate([np.maximum.reduceat(part.max(axis=1), starts, axis=1) for part in parts])
        return cls(np.where(least == most, least, np.int16(-1)), tile_px, width, height)

    def painted(self, *, scale: int, size: tuple[int, int]) -> Plane:
        """A plane of this size, (width, height), with the value of each tile that has one, and any value elsewhere."""
        side = self.tile_px * scale
        whole = self.kinds.astype(np.uint8).repeat(side, axis=1).repeat(side, axis=0)
        return np.ascontiguousarray(whole[: size[1], : size[0]])

    def mixed(self, *, scale: int = 1, size: tuple[int, int] | None = None) -> list[Cells]:
        """The tiles that are neither 0 nor 255 throughout, those of one width together: at most two groups.

        Args:
            scale: how much larger the plane is that they are gathered from.
            size: width and height of that plane; the enlarged tiles may reach beyond it.
        """
        width, height = size or (self.width, self.height)
        side = self.tile_px * scale
        bands, tiles = np.nonzero((self.kinds != 0) & (self.kinds != 255))
        widths = np.minimum(side, width - tiles * side)
        groups = []
        for one in np.unique(widths).tolist():
            here = widths == one
            groups.append(Cells.at(bands[here] * side, tiles[here] * side, width=one, height=side, plane_height=height))
        return groups


def reach(groups: Sequence[Cells], factor: int, margin: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The rectangle of a small plane that all tiles lie in, and some pixels around it.

    Args:
        groups: tiles of the plane that is `factor` times as large.
        factor: a divisor of where they begin.
        margin: small pixels on each side, as far as there are any.
        shape: of the small plane.

    Returns:
        x0, y0, x1, y1, half-open.
    """
    x0 = min(int(cells.lefts.min()) for cells in groups) // factor
    y0 = min(int(cells.tops.min()) for cells in groups) // factor
    x1 = max(-(-(int(cells.lefts.max()) + cells.width) // factor) for cells in groups)
    y1 = max(-(-(int(cells.tops.max()) + cells.height) // factor) for cells in groups)
    return max(x0 - margin, 0), max(y0 - margin, 0), min(x1 + margin, shape[1]), min(y1 + margin, shape[0])


def _windows(plane: NDArray[Scalar], rows: int, columns: int) -> NDArray[Scalar]:
    """A view of the rectangle that begins at each place, (h - rows + 1, w - columns + 1, rows, columns).

    Of a single row there is no axis.
    """
    (height, width), (down, right) = plane.shape, plane.strides
    if rows == 1:
        return as_strided(plane, (height, width - columns + 1, columns), (down, right, right))
    shape = (height - rows + 1, width - columns + 1, rows, columns)
    return as_strided(plane, shape, (down, right, down, right))
