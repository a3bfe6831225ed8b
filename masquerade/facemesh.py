"""The face mesh: what its 478 landmarks are called, and a flat space in which every face lies in the same place.

*Mesh space* is the face laid out flat: frontal, symmetric, x and y in [0, 1], y down. A face unwrapped into it can be
compared with itself over time and with other faces texel by texel, however the head was turned. Its layout was made
once, from the landmarks of a public-domain portrait: made symmetric, turned to the front and unrolled on a cylinder,
so that no triangle is flipped or too thin to carry a texture.

Sides are the person's own: `RIGHT_EYE` is at the left of a picture that is not mirrored.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MESH_POINTS = 468
"""Landmarks of the mesh proper; five of each iris follow."""

# Rings run from one corner over the upper lid (or lip) to the other corner and back below, so that index i and
# len - i face each other.
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
RIGHT_LIDS = (130, 247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25)
"""Round the right eye, one ring outside `RIGHT_EYE`, index for index: the lids lie between the two."""
LEFT_LIDS = (359, 467, 260, 259, 257, 258, 286, 414, 463, 341, 256, 252, 253, 254, 339, 255)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
FOREHEAD = (
    *(162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389),
    *(383, 300, 293, 334, 296, 336, 9, 107, 66, 105, 63, 70, 156),
)
"""Temple to temple along the rim and back along the brows: where hair falls."""
CHEEKS_AND_NOSE = (
    (50, 101, 36, 205, 187, 123),
    (280, 330, 266, 425, 411, 352),
    (6, 197, 195, 5, 4, 45, 51, 122),
    (151, 108, 107, 9, 336, 337),
)
"""Patches that show bare skin on nearly every face: both cheeks, the nose's bridge, between the brows."""
FACE_WIDTH = (234, 454)
"""The two ends of the face's width, by the ears."""

# Where the attributes of Topology come from; `models pull` writes it.
_TOPOLOGY_FILE = Path("facemesh") / "topology.json"
_REPOSITORY_VARIABLE = "MASQUERADE_MODEL_REPOSITORY"
_repository: list[Path] = []


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """How the landmarks are joined to a surface.

    Attributes:
        triangles: (852, 3) int32, all of one winding; the eyes and the mouth are open.
        oval: (36,) int32, the rim from the forehead's top, in order.
    """

    triangles: NDArray[np.int32]
    oval: NDArray[np.int32]

    def closed(self) -> NDArray[np.int32]:
        """(n, 3) int32: the triangles with the eyes and the mouth closed, so that a map over the face has no hole."""
        lids = [_strip(ring) for ring in (RIGHT_EYE, LEFT_EYE, INNER_LIPS)]
        return _one_winding(np.concatenate([self.triangles, *lids]), mesh_space())


def load_topology(path: Path) -> Topology:
    """Read `topology.json` as the model repository has it.

    Raises:
        FileNotFoundError: the models were not pulled.
        ValueError: the file holds something else.
    """
    document = json.loads(path.read_text())
    triangles = np.asarray(document["triangles"], np.int32)
    oval = np.asarray(document["oval"], np.int32)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or oval.ndim != 1:
        raise ValueError(f"{path} holds no triangles or no oval")
    if min(triangles.min(), oval.min()) < 0 or max(triangles.max(), oval.max()) >= MESH_POINTS:
        raise ValueError(f"{path} names a landmark that the mesh does not have")
    return Topology(triangles=_one_winding(triangles, mesh_space()), oval=oval)


def use_repository(repository: Path) -> None:
    """Say where the model repository is, before the first use: services know it from their settings."""
    if _repository != [repository]:
        _repository[:] = [repository]
        topology.cache_clear()
        texel_grid.cache_clear()


@lru_cache(maxsize=1)
def topology() -> Topology:
    """The topology of the model repository in use: the one that was said, else the environment's or the checkout's.

    Raises:
        FileNotFoundError: the models were not pulled.
    """
    default = os.environ.get(_REPOSITORY_VARIABLE) or Path(__file__).resolve().parent.parent / "model_repository"
    return load_topology(Path(_repository[0] if _repository else default) / _TOPOLOGY_FILE)


@lru_cache(maxsize=1)
def mesh_space() -> NDArray[np.float32]:
    """(468, 2) float32 in [0, 1]: where each landmark lies in mesh space. Not to be written to."""
    text = files("masquerade").joinpath("data/mesh_space.csv").read_text()
    layout = np.array([line.split(",") for line in text.split()], np.float32)
    layout.setflags(write=False)
    return layout


@dataclass(frozen=True, slots=True, eq=False)
class TexelGrid:
    """Mesh space as size x size texels, each tied to the triangle that it lies in.

    Attributes:
        corners: (size, size, 3) int32, the triangle's landmarks. Texels outside the face take the nearest triangle.
        weights: (size, size, 3) float32, barycentric; they add up to 1.
        inside: (size, size) bool, whether the texel's centre lies on the face; eyes and mouth do.
    """

    corners: NDArray[np.int32]
    weights: NDArray[np.float32]
    inside: NDArray[np.bool_]


@lru_cache(maxsize=8)
def texel_grid(size: int) -> TexelGrid:
    """The grid of `topology()`; made once per size."""
    return make_texel_grid(topology(), size)


def make_texel_grid(topology: Topology, size: int) -> TexelGrid:
    """Find for each texel of mesh space the triangle that it lies in.

    Texels outside the face get the barycentric weights of the nearest texel inside: a map made of them goes on flat
    beyond the rim, and interpolation at the rim takes in nothing foreign.
    """
    triangles = topology.closed()
    layout = mesh_space().astype(np.float64)[triangles] * size
    # Every texel that may lie in a triangle with that triangle, all pairs at once: triangle by triangle the three grids
    # that a command waits for took 0.20 s.
    owner, rows, columns = _texels_near(layout, size)
    a, b, c = (layout[owner, corner].T for corner in range(3))
    xs, ys = columns + 0.5, rows + 0.5
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    second = ((xs - a[0]) * (c[1] - a[1]) - (ys - a[1]) * (c[0] - a[0])) / area
    third = ((b[0] - a[0]) * (ys - a[1]) - (b[1] - a[1]) * (xs - a[0])) / area
    shares = np.stack([1 - second - third, second, third], axis=-1)
    # How far inside its triangle a texel lies; a texel on an edge shared by two goes to the better one.
    margin = shares.min(axis=-1)
    hits = np.flatnonzero(margin >= -1e-9)
    texels = rows[hits] * size + columns[hits]
    ranked = np.lexsort((-margin[hits], texels))
    ranked = ranked[np.diff(texels[ranked], prepend=-1) > 0]
    best, texels = hits[ranked], texels[ranked]
    corners = np.zeros((size, size, 3), np.int32)
    weights = np.zeros((size, size, 3), np.float32)
    inside = np.zeros((size, size), bool)
    corners.reshape(-1, 3)[texels] = triangles[owner[best]]
    weights.reshape(-1, 3)[texels] = shares[best]
    inside.reshape(-1)[texels] = True
    nearest = _nearest_inside(inside)
    return TexelGrid(corners=corners[nearest], weights=weights[nearest], inside=inside)


def unwrap_map(
    points: NDArray[np.floating[Any]], size: int = 64, *, grid: TexelGrid | None = None
) -> NDArray[np.float32]:
    """Where each texel of mesh space lies in a picture, ready for `cv2.remap`.

    Args:
        points: (468 or 478, 2 or 3) float, landmarks in pixels with centres at +0.5.
        size: texels on a side.
        grid: made from another topology than the model repository's.

    Returns:
        (size, size, 2) float32, x and y with pixel centres at integers, as `cv2.remap` counts.
    """
    grid = grid or texel_grid(size)
    plane = np.ascontiguousarray(points[:MESH_POINTS, :2], np.float32)
    found: NDArray[np.float32] = np.einsum("yxkc,yxk->yxc", plane[grid.corners], grid.weights, dtype=np.float32)
    return found - np.float32(0.5)


def unwrap(
    rgb: NDArray[np.uint8], points: NDArray[np.floating[Any]], size: int = 64, *, grid: TexelGrid | None = None
) -> NDArray[np.uint8]:
    """A face laid out in mesh space; bilinear, the picture's border repeated.

    Args:
        rgb: (h, w, 3) uint8.
        points: landmarks in pixels of `rgb`, centres at +0.5.
        size: texels on a side.
        grid: made from another topology than the model repository's.

    Returns:
        (size, size, 3) uint8.
    """
    height, width = rgb.shape[:2]
    at = unwrap_map(points, size, grid=grid)
    # Own bilinear sampling: the client's wheel carries no OpenCV, and a few thousand texels take 0.3 ms.
    x = np.clip(at[..., 0], 0, width - 1)
    y = np.clip(at[..., 1], 0, height - 1)
    left = np.minimum(x.astype(np.int32), max(width - 2, 0))
    top = np.minimum(y.astype(np.int32), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[..., None], (y - top)[..., None]
    upper = rgb[top, left] * (1 - across) + rgb[top, right] * across
    lower = rgb[bottom, left] * (1 - across) + rgb[bottom, right] * across
    face: NDArray[np.uint8] = np.rint(upper * (1 - down) + lower * down).astype(np.uint8)
    return face


def _strip(ring: tuple[int, ...]) -> NDArray[np.int32]:
    """Triangles that close a ring, laid between the two sides that face each other: a closed eye folds none."""
    upper = ring[: len(ring) // 2 + 1]
    lower = (ring[0], *ring[: len(ring) // 2 - 1 : -1])
    triangles = []
    for i in range(len(upper) - 1):
        if i > 0:
            triangles.append((upper[i], upper[i + 1], lower[i]))
        if i < len(upper) - 2:
            triangles.append((upper[i + 1], lower[i + 1], lower[i]))
    return np.array(triangles, np.int32)


def _one_winding(triangles: NDArray[np.int32], layout: NDArray[np.float32]) -> NDArray[np.int32]:
    """The triangles, each turned so that its area in mesh space is positive."""
    a, b, c = (layout[triangles[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    turned = triangles.copy()
    turned[area < 0] = turned[area < 0][:, [0, 2, 1]]
    return turned


def _texels_near(layout: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The texels around each triangle, (n, 3, 2) in texels: the triangle's number, row and column of each."""
    low = np.maximum(np.floor(layout.min(axis=1) - 1).astype(np.intp), 0)
    extent = np.minimum(np.ceil(layout.max(axis=1) + 1).astype(np.intp), size) - low
    counts = extent.prod(axis=1)
    owner = np.repeat(np.arange(len(layout)), counts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    down, across = np.divmod(place, extent[owner, 0])
    return owner, low[owner, 1] + down, low[owner, 0] + across


def _nearest_inside(inside: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each texel the row and column of a nearest one inside, by growing the face a texel at a time."""
    size = len(inside)
    rows, columns = np.mgrid[0:size, 0:size]
    known = inside.copy()
    while not known.all():
        for step_y, step_x in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            shifted_known = np.roll(known, (step_y, step_x), (0, 1))
            # What rolls in from the far side is not a neighbour.
            if step_y:
                shifted_known[0 if step_y > 0 else -1] = False
            else:
                shifted_known[:, 0 if step_x > 0 else -1] = False
            new = shifted_known & ~known
            rows[new] = np.roll(rows, (step_y, step_x), (0, 1))[new]
            columns[new] = np.roll(columns, (step_y, step_x), (0, 1))[new]
            known |= new
    return rows, columns
