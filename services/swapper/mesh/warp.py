"""Where each pixel of a target face lies in mesh space, and what of the face is seen.

The triangles are drawn once, as numbers, at half the size; the map that follows is enlarged. It is affine inside a
triangle and continuous across their edges, so enlarging it bilinearly is exact but for the edges themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import MESH_POINTS, mesh_space, topology
from services.swapper.mesh.triangles import draw_triangles

_SKIRT = 0.15
"""How far the map goes on beyond the rim, as a share of the distance from the face's middle."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceMap:
    """A face's surface as its crop shows it.

    Attributes:
        u: (h, w) float32, x in mesh space in [0, 1], for each pixel; beyond the skirt without meaning.
        v: (h, w) float32, y in mesh space.
        covered: (h, w) bool, where the front of the face is seen, eyes and mouth included.
    """

    u: NDArray[np.float32]
    v: NDArray[np.float32]
    covered: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """The closed mesh with a skirt round its rim.

    Attributes:
        triangles: (n, 3) int32, the skirt's first; landmarks, and beyond 467 the rim again, pushed outwards.
        skirt: how many of them are skirt.
        rim: (36,) int32 landmarks.
        layout: (468 + 36, 2) float64 in mesh space.
    """

    triangles: NDArray[np.int32]
    skirt: int
    rim: NDArray[np.int32]
    layout: NDArray[np.float64]


@lru_cache(maxsize=1)
def _surface() -> _Surface:
    rim = topology().oval
    outer = np.arange(MESH_POINTS, MESH_POINTS + len(rim), dtype=np.int32)
    following, outer_following = np.roll(rim, -1), np.roll(outer, -1)
    skirt = np.concatenate(
        [np.stack([rim, outer, following], axis=1), np.stack([following, outer, outer_following], axis=1)]
    )
    layout = mesh_space().astype(np.float64)
    # Beyond the rim the texture stays as it is at the rim.
    return _Surface(
        triangles=np.concatenate([skirt, topology().closed()]).astype(np.int32),
        skirt=len(skirt),
        rim=rim,
        layout=np.concatenate([layout, layout[rim]]),
    )


def face_map(points: NDArray[np.float32], *, width: int, height: int) -> FaceMap:
    """Draw the face's surface and find each pixel's place in mesh space.

    Triangles seen from behind are left out; where the face folds over itself (a turned nose) the nearer one wins.

    Args:
        points: (468 or more, 3) float32, landmarks in pixels of the map, centres at +0.5.
        width: of the map.
        height: of the map.
    """
    surface = _surface()
    flat = points[:MESH_POINTS, :2].astype(np.float64)
    rim = flat[surface.rim]
    flat = np.concatenate([flat, rim + _SKIRT * (rim - rim.mean(axis=0))])
    corners = flat[surface.triangles]
    edges = corners[:, 1:] - corners[:, :1]
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    numbers = _drawn(surface, corners, area > 1e-6, points, width, height)

    affines = _to_mesh_space(surface, corners, edges, area)
    x = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    found = []
    for row in (0, 1):
        coordinate = affines[row, 0].take(numbers)
        coordinate *= x
        coordinate += affines[row, 1].take(numbers) * y
        coordinate += affines[row, 2].take(numbers)
        found.append(coordinate)
    return FaceMap(u=found[0], v=found[1], covered=numbers >= surface.skirt)


def _drawn(
    surface: _Surface,
    corners: NDArray[np.float64],
    is_front: NDArray[np.bool_],
    points: NDArray[np.float32],
    width: int,
    height: int,
) -> NDArray[np.int32]:
    """(h, w) int32: the number of the triangle that each pixel shows; painter's algorithm, far ones first."""
    depth = points[:MESH_POINTS, 2][surface.triangles[surface.skirt :]].sum(axis=1)
    farthest_first = np.argsort(-depth, kind="stable") + surface.skirt
    order = np.concatenate([np.arange(surface.skirt), farthest_first[is_front[farthest_first]]])
    return draw_triangles(np.zeros((height, width), np.int32), corners[order], order)


def _to_mesh_space(
    surface: _Surface, corners: NDArray[np.float64], edges: NDArray[np.float64], area: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(2, 3, n) float32: for each triangle the affine map from the crop to mesh space."""
    safe = np.where(np.abs(area) < 1e-6, 1e-6, area)
    flat = surface.layout[surface.triangles]
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    # Columns of the inverse of [edge 1, edge 2], times the edges in mesh space.
    along_x = (first * edges[:, 1, 1, None] - second * edges[:, 0, 1, None]) / safe[:, None]
    along_y = (second * edges[:, 0, 0, None] - first * edges[:, 1, 0, None]) / safe[:, None]
    shift = flat[:, 0] - along_x * corners[:, 0, :1] - along_y * corners[:, 0, 1:]
    return np.stack([along_x, along_y, shift], axis=0).transpose(2, 0, 1).astype(np.float32)
