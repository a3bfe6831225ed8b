"""Mattes: steady in time, true to the picture's edges, exact where they are sure."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.compositor.matte import RADIUS_FRAMES, refine, temporal_filter

COUNT = 2 * RADIUS_FRAMES + 1


def rough(width: int = 256, height: int = 144, *, blur: float = 3.0) -> NDArray[np.uint8]:
    """What a model gives: a person, softly."""
    matte = np.zeros((height, width), np.uint8)
    cv2.ellipse(matte, (width // 2, height // 2), (width // 8, height // 4), 0, 0, 360, 255, -1)
    cv2.ellipse(matte, (width // 2, height), (width // 4, height // 3), 0, 0, 360, 255, -1)
    return np.asarray(cv2.GaussianBlur(matte, (0, 0), blur), np.uint8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_time_runs_forward_and_backward_alike(seed: int) -> None:
    raw = np.random.default_rng(seed).integers(0, 256, (COUNT, 12, 20), dtype=np.uint8)
    # Sums of floats depend on their order by their last bit.
    assert temporal_filter(raw) == pytest.approx(temporal_filter(raw[::-1]), abs=1e-6)


def test_a_still_picture_keeps_its_matte() -> None:
    raw = np.stack([rough()] * COUNT)
    assert temporal_filter(raw) == pytest.approx(raw[0] / 255, abs=1e-5)


def test_one_undecided_frame_leans_on_its_neighbours() -> None:
    raw = np.full((COUNT, 4, 4), 250, np.uint8)
    raw[RADIUS_FRAMES] = 128
    assert temporal_filter(raw).min() > 0.9


def test_a_sure_pixel_is_not_argued_away_by_its_neighbours() -> None:
    raw = np.full((COUNT, 4, 4), 255, np.uint8)
    raw[RADIUS_FRAMES] = 0
    assert temporal_filter(raw).max() < 0.02


def test_at_the_ends_of_a_video_there_are_fewer_neighbours_and_nothing_is_made_up() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), dtype=np.uint8)
    first = temporal_filter(raw[RADIUS_FRAMES:], centre=0)
    assert first.shape == (8, 8)
    assert 0 <= first.min() <= first.max() <= 1
    assert np.array_equal(temporal_filter(raw[2:3], centre=0), temporal_filter(raw[2:3]))
    assert temporal_filter(raw[2:3]) == pytest.approx(raw[2] / 255, abs=1e-6)


def test_what_lies_beyond_the_radius_does_not_count() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (COUNT + 2, 8, 8), dtype=np.uint8)
    assert np.array_equal(temporal_filter(raw), temporal_filter(raw[1:-1]))


@pytest.mark.parametrize(("width", "height"), [(256, 144), (640, 360), (1280, 720), (1366, 770), (1920, 1080)])
def test_sure_areas_come_out_as_they_came_in_at_any_size(width: int, height: int) -> None:
    alpha = rough().astype(np.float32) / 255
    guide = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)
    refined = refine(alpha, guide)
    assert refined.shape == (height, width)
    assert refined.dtype == np.uint8
    unsure = cv2.dilate(((alpha > 0.03) & (alpha < 0.97)).astype(np.uint8), np.ones((5, 5), np.uint8))
    unsure = cv2.resize(unsure, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    person = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    assert (refined[~unsure & person] == 255).all()
    assert (refined[~unsure & ~person] == 0).all()


def test_an_unsure_edge_becomes_as_sharp_as_the_picture() -> None:
    width, height = 640, 360
    # The person ends at column 320; the model is unsure from 300 to 340.
    guide = np.full((height, width), 200, np.uint8)
    guide[:, :320] = 60
    columns = np.clip((340 - np.arange(256) * 2.5) / 40, 0, 1).astype(np.float32)
    alpha = np.tile(columns, (144, 1))
    refined = refine(alpha, guide)[180].astype(int)
    # Before a wall of the person's own tone nothing says where the edge lies.
    blind = refine(alpha, np.full_like(guide, 100))[180].astype(int)
    assert refined[318] - refined[321] > 3 * (blind[318] - blind[321])
    assert refined[310] > 230
    assert refined[335] < 40


def test_refining_does_not_depend_on_what_the_tiles_are(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = rough().astype(np.float32) / 255
    guide = np.random.default_rng(0).integers(0, 255, (720, 1280), dtype=np.uint8)
    refined = []
    for tile in (16, 64, 4096):
        monkeypatch.setattr("services.compositor.matte.TILE_PX", tile)
        refined.append(refine(alpha, guide))
    assert np.array_equal(refined[0], refined[1])
    assert np.array_equal(refined[0], refined[2])
