"""Pictures made smaller by a whole factor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.shrinking import shrink


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    factor=st.integers(1, 12),
    channels=st.sampled_from([0, 3]),
    seed=st.integers(0, 99),
)
def test_each_small_pixel_is_the_mean_of_its_block(
    width: int, height: int, factor: int, channels: int, seed: int
) -> None:
    shape = (height, width, channels) if channels else (height, width)
    picture = np.random.default_rng(seed).random(shape, np.float32)
    around = [(0, -height % factor), (0, -width % factor), *([(0, 0)] if channels else [])]
    blocks = np.pad(picture, around, mode="edge")
    blocks = blocks.reshape(-(-height // factor), factor, -(-width // factor), factor, *shape[2:])
    assert shrink(picture, factor) == pytest.approx(blocks.mean(axis=(1, 3)), abs=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4, 6, 8])
def test_levels_of_eight_bits_grow_by_an_eighth_for_each_halving_at_most(factor: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (96 * factor, 96 * factor), np.uint8)
    small = shrink(picture, factor)
    wanted = picture.reshape(96, factor, 96, factor).mean(axis=(1, 3))
    halvings = (factor & -factor).bit_length() - 1
    assert small.dtype == np.uint8
    assert abs(float((small - wanted).mean()) - halvings / 8) < 0.05
    assert np.abs(small - wanted).max() <= 0.5 * (halvings + 1)


def test_nothing_is_copied_for_nothing() -> None:
    picture = np.zeros((3, 5), np.uint8)
    assert shrink(picture, 1) is picture
