"""TFLite's compressed weights, laid out in full.

A sparse tensor is a tree: one level for each axis (in traversal order) and one for each block axis. A dense level has
every child, a compressed one (CSR) names its children by segments and indices. Only leaves that exist are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SparseLevel:
    """One level of the tree."""

    size: int
    """Children of a dense level."""

    segments: NDArray[np.int64] | None = None
    """Where a compressed level's children begin: children of node `p` are `segments[p]` to `segments[p + 1]`."""

    indices: NDArray[np.int64] | None = None
    """Coordinate of each child of a compressed level."""


@dataclass(frozen=True, slots=True)
class SparseLayout:
    """How the stored leaves are spread over the full tensor."""

    shape: tuple[int, ...]
    """Of the full tensor."""

    order: tuple[int, ...]
    """Axis that each level walks; numbers from `len(shape)` on are block axes."""

    block_axes: tuple[int, ...]
    """Axis of the full tensor that each block axis subdivides."""

    levels: tuple[SparseLevel, ...]


def densify(stored: NDArray[Any], layout: SparseLayout) -> NDArray[Any]:
    """Lay the stored leaves out in full; what is not stored is 0.

    Args:
        stored: (n,) the leaves in the tree's order.
        layout: where they belong.

    Returns:
        An array of `layout.shape` and the leaves' dtype.
    """
    axes = len(layout.shape)
    block_size = {
        axis: layout.levels[layout.order.index(axes + number)].size for number, axis in enumerate(layout.block_axes)
    }
    full = np.zeros(layout.shape, stored.dtype)
    for leaf, walked in _leaves(layout.levels):
        coordinate = [0] * axes
        for axis, step in zip(layout.order, walked, strict=True):
            if axis < axes:
                coordinate[axis] += step * block_size.get(axis, 1)
            else:
                coordinate[layout.block_axes[axis - axes]] += step
        full[tuple(coordinate)] = stored[leaf]
    return full


def _leaves(
    levels: tuple[SparseLevel, ...], depth: int = 0, position: int = 0, walked: tuple[int, ...] = ()
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Every leaf's place in the store, with the coordinate on each level that leads to it."""
    if depth == len(levels):
        yield position, walked
        return
    level = levels[depth]
    if level.segments is None or level.indices is None:
        for child in range(level.size):
            yield from _leaves(levels, depth + 1, position * level.size + child, (*walked, child))
        return
    for child in range(int(level.segments[position]), int(level.segments[position + 1])):
        yield from _leaves(levels, depth + 1, child, (*walked, int(level.indices[child])))
