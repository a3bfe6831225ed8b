"""Colour tags and matrices against the formulas of the recommendation, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.common.colour import LUMA_WEIGHTS, ColourTags, rgb_to_yuv_matrix, yuv_to_rgb_matrix
from services.common.planes import Planes, rgb_crop, rgb_to_yuv444

EVERY_SPACE = [ColourTags(matrix, rng) for matrix in LUMA_WEIGHTS for rng in (1, 2)]


def reference_rgb(yuv: NDArray[np.uint8], colour: ColourTags) -> NDArray[np.float64]:
    """Textbook: R' = Y' + 2(1-Kr)Cr, B' = Y' + 2(1-Kb)Cb, G' from the luma equation, all in [0, 1]."""
    kr, kb = LUMA_WEIGHTS[colour.matrix]
    y, cb, cr = np.moveaxis(yuv.astype(np.float64), -1, 0)
    if colour.range == 1:
        y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    else:
        y, cb, cr = y / 255, (cb - 128) / 255, (cr - 128) / 255
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    rgb: NDArray[np.float64] = np.clip(np.stack([r, g, b], axis=-1) * 255, 0, 255)
    return rgb


@pytest.mark.parametrize("colour", EVERY_SPACE, ids=str)
def test_planes_become_rgb_within_one_of_the_formula(colour: ColourTags) -> None:
    rng = np.random.default_rng(7)
    chroma = rng.integers(0, 256, (2, 64, 64), np.uint8)
    luma = rng.integers(0, 256, (128, 128), np.uint8)
    # One chroma sample over a crop of 2x2 in the middle of equal neighbours is not touched by doubling.
    flat_u, flat_v = (np.kron(c[::4, ::4], np.ones((4, 4), np.uint8)) for c in chroma)
    planes = Planes(luma, flat_u, flat_v, colour)
    got = rgb_crop(planes, (0, 0, 128, 128))
    full = np.stack([luma, *(np.kron(c, np.ones((2, 2), np.uint8)) for c in (flat_u, flat_v))], axis=-1)
    away_from_edges = np.s_[4::8, 4::8]
    assert np.abs(got - reference_rgb(full, colour))[away_from_edges].max() <= 1.0


@pytest.mark.parametrize("colour", EVERY_SPACE, ids=str)
def test_rgb_becomes_yuv_within_one_of_the_formula(colour: ColourTags) -> None:
    rgb = np.random.default_rng(8).integers(0, 256, (64, 64, 3), np.uint8)
    matrix = rgb_to_yuv_matrix(colour)
    exact = rgb.astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]
    assert np.abs(rgb_to_yuv444(rgb, colour) - np.clip(exact, 0, 255)).max() <= 1.0
    # The matrix itself is judged by the textbook's way back, away from what clipping would hide.
    back = reference_rgb(np.clip(np.rint(exact), 0, 255).astype(np.uint8), colour)
    assert np.abs(back - rgb).max() <= 2.0


@pytest.mark.parametrize("colour", EVERY_SPACE, ids=str)
def test_grey_stays_grey_and_white_is_white(colour: ColourTags) -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8), 2)[None].repeat(2, axis=0)
    neutral = np.full((1, 256), 128, np.uint8)
    rgb = rgb_crop(Planes(greys, neutral, neutral, colour), (0, 0, 512, 2)).astype(int)
    assert np.ptp(rgb, axis=-1).max() <= 1
    black, white = (0, 255) if colour.is_full else (16, 235)
    assert tuple(rgb[0, 2 * black]) == (0, 0, 0)
    assert tuple(rgb[0, 2 * white]) == (255, 255, 255)


def test_a_missing_matrix_is_guessed_by_height() -> None:
    assert ColourTags().resolved(576) == ColourTags(6, 1)
    assert ColourTags().resolved(578) == ColourTags(1, 1)
    assert ColourTags(5, 2, 1, 13).resolved(2160) == ColourTags(5, 2, 1, 13)
    assert ColourTags(0, 0).resolved(480).matrix == 6


def test_a_matrix_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="matrix 8"):
        yuv_to_rgb_matrix(ColourTags(8, 1))
