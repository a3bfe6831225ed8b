"""Drawing many triangles as numbers at once.

One call of OpenCV for each triangle gives the interpreter's lock away and fetches it back each time, a thousand times a
face: beside other threads that costs more than the drawing. Here all rows of all triangles are one array.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OUTLINE = 0.5
"""Pixels by which a triangle is drawn larger on each side, so that no pixel between two neighbours stays empty."""

_FLAT = np.float32(1e-6)


def draw_triangles(
    canvas: NDArray[np.int32], corners: NDArray[np.float64], numbers: NDArray[np.integer]
) -> NDArray[np.int32]:
    """Write the number of each triangle into the pixels that it covers; of two the later one stays.

    Args:
        canvas: (h, w) int32, C-contiguous; written to.
        corners: (n, 3, 2) float64, x and y of the corners in pixels, centres at +0.5; may lie outside.
        numbers: (n,) int32, what is written.

    Returns:
        The canvas.
    """
    height, width = canvas.shape
    x, y = _by_height(corners)
    top = np.clip(np.ceil(y[0] - _OUTLINE), 0, height).astype(np.int32)
    bottom = np.clip(np.floor(y[2] + _OUTLINE) + 1, 0, height).astype(np.int32)
    rows = np.maximum(bottom - top, 0)
    row = _counted(rows, start=top)
    left, right = _ends_of_rows(x, y, rows, row)
    first = np.clip(np.ceil(left - _OUTLINE), 0, width).astype(np.int32)
    count = np.clip(np.floor(right + _OUTLINE) + 1, 0, width).astype(np.int32)
    count -= first
    np.maximum(count, 0, out=count)
    place = _counted(count, start=row * np.int32(width) + first)
    # Of several writes to one place NumPy keeps the last: the painter's order is that of the triangles.
    canvas.reshape(-1)[place] = np.repeat(np.repeat(numbers.astype(np.int32), rows), count)
    return canvas


def _by_height(corners: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, n) x and y of the corners from the highest to the lowest, as pixels whose centres lie at integers."""
    moved = corners.astype(np.float32) - np.float32(0.5)
    order = np.argsort(moved[..., 1], axis=1)
    x = np.take_along_axis(moved[..., 0], order, 1)
    y = np.take_along_axis(moved[..., 1], order, 1)
    return np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)


def _ends_of_rows(
    x: NDArray[np.float32], y: NDArray[np.float32], rows: NDArray[np.int32], row: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each row of each triangle begins and ends; both float32, one value for each row.

    The longest side spans all rows; the other two share them at the middle corner's height.
    """
    sides = []
    for begin, end in ((0, 2), (0, 1), (1, 2)):
        slope = (x[end] - x[begin]) / np.maximum(y[end] - y[begin], _FLAT)
        sides += [slope, x[begin] - slope * y[begin]]
    long_slope, long_shift, upper_slope, upper_shift, lower_slope, lower_shift, top, middle, bottom = np.repeat(
        np.stack([*sides, *y]), rows, axis=1
    )
    # Rows of the outline lie above and below: they end where the corner is.
    inside = np.clip(row.astype(np.float32), top, bottom)
    long = long_slope * inside + long_shift
    short = np.where(inside < middle, upper_slope * inside + upper_shift, lower_slope * inside + lower_shift)
    return np.minimum(long, short), np.maximum(long, short)


def _counted(counts: NDArray[np.int32], *, start: NDArray[np.int32]) -> NDArray[np.int32]:
    """For each entry `count` numbers from its `start` on, all in a row."""
    ends = np.cumsum(counts, dtype=np.int32)
    numbers = np.repeat(start - ends + counts, counts)
    numbers += np.arange(len(numbers), dtype=np.int32)
    return numbers
