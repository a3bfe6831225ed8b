"""Many triangles drawn at once, against OpenCV drawing them one by one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.swapper.mesh.triangles import draw_triangles


def mesh(*, size: int, cells: int, seed: int) -> NDArray[np.float64]:
    """A grid of uneven triangles that covers a square and a little more."""
    random = np.random.default_rng(seed)
    beyond = size / cells
    line = np.linspace(-beyond, size + beyond, cells + 1)
    grid = np.stack(np.meshgrid(line, line), axis=-1)
    grid += random.uniform(-0.3, 0.3, grid.shape) * (line[1] - line[0])
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    return np.concatenate([np.stack([a, b, c], axis=2), np.stack([b, d, c], axis=2)]).reshape(-1, 3, 2)


def one_by_one(corners: NDArray[np.float64], size: int) -> NDArray[np.int32]:
    canvas = np.full((size, size), -1, np.int32)
    for number, triangle in enumerate(np.rint((corners - 0.5) * 16).astype(np.int32)):
        cv2.fillConvexPoly(canvas, triangle, number, 8, 4)
    return canvas


def inside(corners: NDArray[np.float64], size: int, *, margin: float) -> NDArray[np.int32]:
    """(size, size) int32: the triangle in which a pixel's centre lies deeper than a margin; -1 near any edge."""
    y, x = np.mgrid[:size, :size] + 0.5
    found = np.full((size, size), -1, np.int32)
    for number, triangle in enumerate(corners):
        begin, end = triangle, np.roll(triangle, -1, axis=0)
        along = end - begin
        turn = np.sign(along[0, 0] * along[1, 1] - along[0, 1] * along[1, 0])
        depth = [
            turn * (along[i, 0] * (y - begin[i, 1]) - along[i, 1] * (x - begin[i, 0])) / np.hypot(*along[i])
            for i in range(3)
        ]
        found[np.minimum.reduce(depth) > margin] = number
    return found


@pytest.mark.parametrize("seed", range(5))
def test_pixels_that_lie_inside_get_the_number_of_their_triangle(seed: int) -> None:
    corners = mesh(size=96, cells=12, seed=seed)
    drawn = draw_triangles(np.full((96, 96), -1, np.int32), corners, np.arange(len(corners)))
    sure = inside(corners, 96, margin=0.75)
    assert (sure >= 0).mean() > 0.4
    np.testing.assert_array_equal(drawn[sure >= 0], sure[sure >= 0])


@pytest.mark.parametrize("cells", [6, 24, 60])
def test_no_pixel_of_a_closed_mesh_stays_empty(cells: int) -> None:
    corners = mesh(size=96, cells=cells, seed=1)
    assert (draw_triangles(np.full((96, 96), -1, np.int32), corners, np.arange(len(corners))) >= 0).all()


def test_the_outline_is_opencvs_to_half_a_pixel() -> None:
    triangle = np.array([[[20.3, 11.7], [70.9, 30.2], [33.4, 81.6]]])
    ours = draw_triangles(np.full((96, 96), -1, np.int32), triangle, np.array([0])) == 0
    theirs = one_by_one(triangle, 96) == 0
    around = np.ones((3, 3), np.uint8)
    assert not (ours & (cv2.dilate(theirs.astype(np.uint8), around) == 0)).any()
    assert not ((cv2.erode(theirs.astype(np.uint8), around) == 1) & ~ours).any()
    assert abs(int(ours.sum()) - int(theirs.sum())) < 0.03 * theirs.sum()


def test_the_later_of_two_triangles_stays() -> None:
    triangle = np.array([[10.0, 10.0], [50.0, 12.0], [30.0, 50.0]])
    both = np.stack([triangle, triangle + 5])
    canvas = np.full((64, 64), -1, np.int32)
    assert draw_triangles(canvas, both, np.array([7, 8]))[25, 30] == 8
    assert draw_triangles(canvas, both[::-1], np.array([8, 7]))[25, 30] == 7


@pytest.mark.parametrize(
    "triangle",
    [
        [[-50.0, -50.0], [-10.0, -40.0], [-30.0, -5.0]],
        [[200.0, 10.0], [300.0, 10.0], [250.0, 50.0]],
        [[10.0, 200.0], [20.0, 200.0], [15.0, 260.0]],
    ],
)
def test_what_lies_outside_is_not_drawn(triangle: list[list[float]]) -> None:
    canvas = np.full((64, 64), -1, np.int32)
    assert (draw_triangles(canvas, np.array([triangle]), np.array([1])) == -1).all()


def test_triangles_without_area_and_no_triangles_at_all_are_borne() -> None:
    canvas = np.full((64, 64), -1, np.int32)
    flat = np.array([[[10.0, 10.0], [20.0, 10.0], [15.0, 10.0]], [[30.0, 30.0], [30.0, 30.0], [30.0, 30.0]]])
    drawn = draw_triangles(canvas, flat, np.array([1, 2]))
    assert set(np.unique(drawn)) <= {-1, 1, 2}
    assert (drawn >= 0).sum() < 40
    assert draw_triangles(np.full((4, 4), -1, np.int32), np.empty((0, 3, 2)), np.empty(0, int)).max() == -1
