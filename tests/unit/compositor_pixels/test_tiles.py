"""Tiles of a matte: which are work, and what is gathered, enlarged and put back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.common.shrinking import shrink
from services.compositor.tiles import Cells, Tiles, reach


def patchy(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Blocks of 9 pixels of 0, 255 and, in between, 128."""
    values = np.array([0, 0, 0, 128, 255, 255], np.uint8)
    blocks = np.random.default_rng(seed).choice(values, (1 + height // 9, 1 + width // 9))
    return blocks.repeat(9, axis=0).repeat(9, axis=1)[:height, :width].copy()


def touched(groups: list[Cells], shape: tuple[int, ...]) -> NDArray[np.int16]:
    """How often each sample of a plane is among the cells."""
    seen = np.zeros(shape, np.int16)
    for cells in groups:
        before = cells.of(seen)
        cells.put(seen, before + np.int16(1))
    return seen


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 70), height=st.integers(1, 70), tile=st.integers(1, 80), seed=st.integers(0, 99))
def test_a_sample_is_in_a_tile_of_one_value_or_once_in_a_mixed_one(
    width: int, height: int, tile: int, seed: int
) -> None:
    plane = patchy(width, height, seed)
    tiles = Tiles.of(plane, tile_px=tile)
    seen = touched(tiles.mixed(), plane.shape)
    assert set(np.unique(seen)) <= {0, 1}
    painted = tiles.painted(scale=1, size=(width, height))
    assert np.array_equal(painted[seen == 0], plane[seen == 0])
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            part = plane[top : top + tile, left : left + tile]
            is_work = (part != 0).any() and (part != 255).any()
            assert (seen[top : top + tile, left : left + tile] == int(is_work)).all()


def test_what_is_put_lies_where_it_was_gathered_and_nowhere_else() -> None:
    plane = patchy(150, 100)
    changed = plane.copy()
    groups = Tiles.of(plane, tile_px=32).mixed()
    for cells in groups:
        cells.put(changed, cells.of(plane) // 2 + 7)
    inside = touched(groups, plane.shape) == 1
    assert np.array_equal(changed[inside], plane[inside] // 2 + 7)
    assert np.array_equal(changed[~inside], plane[~inside])


def test_planes_whose_rows_lie_apart_are_read_and_written_alike() -> None:
    wide = np.zeros((96, 200), np.uint8)
    plane = wide[:, 30:158]
    plane[:] = patchy(128, 96)
    for cells in Tiles.of(plane, tile_px=32).mixed():
        assert np.array_equal(cells.of(plane), cells.of(plane.copy()))
        cells.put(plane, np.full_like(cells.of(plane), 9))
    assert not wide[:, :30].any()
    assert not wide[:, 158:].any()


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(2, 90),
    height=st.integers(2, 90),
    factor=st.integers(1, 6),
    dtype=st.sampled_from([np.float32, np.int16]),
    seed=st.integers(0, 99),
)
def test_tiles_are_enlarged_as_the_whole_would_be(
    width: int, height: int, factor: int, dtype: type[np.float32] | type[np.int16], seed: int
) -> None:
    plane = patchy(width, height, seed)
    small = (shrink(plane, factor).astype(np.int16) * 3 - 300).astype(dtype)
    size = (small.shape[1] * factor, small.shape[0] * factor)
    whole = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), dtype)[:height, :width]
    for cells in Tiles.of(plane, tile_px=4 * factor).mixed():
        wanted, found = cells.of(whole), cells.enlarged(small, factor)
        # OpenCV rounds halves of int16 up or to even, by where in a row a sample lies.
        most = 1 if dtype is np.int16 else 0.01
        off = np.abs(found.astype(np.float64) - wanted)[cells.is_inside]
        assert off.max() <= most


@pytest.mark.parametrize("factor", [2, 4])
def test_a_part_around_the_tiles_is_enough_to_enlarge_them(factor: int) -> None:
    plane = np.zeros((96, 160), np.uint8)
    plane[40:60, 50:90] = 128
    small = shrink(plane, factor).astype(np.float32)
    tiles = Tiles.of(plane, tile_px=16)
    x0, y0, x1, y1 = reach(tiles.mixed(), factor, 1, small.shape)
    assert (x1 - x0) * (y1 - y0) < small.size / 2
    for cells in tiles.mixed():
        moved = cells.moved(-x0 * factor, -y0 * factor)
        assert np.array_equal(moved.enlarged(small[y0:y1, x0:x1], factor), cells.enlarged(small, factor))


def test_the_tiles_of_chroma_are_those_of_luma() -> None:
    plane = patchy(140, 90)
    half = np.asarray(cv2.resize(plane, (70, 45), interpolation=cv2.INTER_NEAREST), np.uint8)
    for cells in Tiles.of(plane, tile_px=32).mixed():
        assert np.array_equal(cells.halved().of(half), cells.of(plane)[::2, ::2])


def test_a_matte_that_is_sure_everywhere_is_no_work() -> None:
    plane = np.zeros((64, 96), np.uint8)
    plane[:, 32:] = 255
    assert Tiles.of(plane, tile_px=32).mixed() == []


def test_a_frame_that_is_unsure_everywhere_is_enlarged_whole() -> None:
    small = np.random.default_rng(0).random((540, 960)).astype(np.float32)
    (cells,) = Tiles.of(np.full((2160, 3840), 128, np.uint8), tile_px=32).mixed()
    whole = np.asarray(cv2.resize(small, (3840, 2160), interpolation=cv2.INTER_LINEAR), np.float32)
    assert np.abs(cells.enlarged(small, 4) - cells.of(whole))[cells.is_inside].max() < 0.001
