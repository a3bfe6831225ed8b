"""Planes, and the RGB made of them: sizes, positions, round trips, sameness."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.colour import ColourTags
from services.common.planes import (
    Planes,
    copy_planes,
    digest,
    planes_nbytes,
    rgb_crop,
    rgb_to_planes,
    rgb_view,
    rgb_warp,
)

HD = ColourTags(1, 1)


def noise(width: int = 96, height: int = 64, seed: int = 1) -> Planes:
    rng = np.random.default_rng(seed)
    return Planes.view(rng.integers(0, 256, planes_nbytes(width, height), np.uint8), width, height, HD)


def smooth(width: int = 320, height: int = 180) -> Planes:
    """A picture whose every pixel tells its position: red grows to the right, green downwards."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    rgb = np.stack([40 + 170 * x, 40 + 170 * y, np.full_like(x, 90)], axis=-1)
    return rgb_to_planes(np.rint(rgb).astype(np.uint8), HD)


def test_a_view_shares_its_buffer_and_its_right_to_write() -> None:
    memory = bytearray(planes_nbytes(8, 4))
    planes = Planes.view(memory, 8, 4, HD)
    planes.v[:] = 7
    assert memory[-8:] == b"\x07" * 8
    assert (planes.width, planes.height) == (8, 4)
    assert not Planes.view(bytes(memory), 8, 4, HD).y.flags.writeable


@pytest.mark.parametrize("size", [(7, 4), (8, 5), (0, 4), (-2, -4)])
def test_odd_and_empty_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="even sides"):
        planes_nbytes(*size)


def test_planes_that_do_not_belong_together_are_refused() -> None:
    y, c = np.zeros((4, 8), np.uint8), np.zeros((2, 4), np.uint8)
    with pytest.raises(ValueError, match="do not belong"):
        Planes(y, c, c[:1], HD)
    with pytest.raises(ValueError, match="uint8"):
        Planes(y.astype(np.int8).astype(np.int16), c, c, HD)


def test_a_digest_knows_samples_and_not_strides() -> None:
    planes = noise()
    y, u, v = (np.pad(p, ((0, 0), (0, 5)))[:, :-5] for p in (planes.y, planes.u, planes.v))
    padded = Planes(y, u, v, HD)
    copied = Planes.empty(planes.width, planes.height, HD)
    copy_planes(padded, copied)
    assert digest(planes) == digest(padded) == digest(copied)
    assert len(digest(planes)) == 16
    copied.v[-1, -1] ^= 1
    assert digest(copied) != digest(planes)


def test_a_flat_area_returns_within_one_level() -> None:
    for colour in (ColourTags(1, 1), ColourTags(6, 1), ColourTags(1, 2), ColourTags(6, 2)):
        for level in ((235, 128, 128), (90, 110, 150), (120, 90, 140), (60, 128, 128)):
            y, u, v = (np.full((16 >> s, 16 >> s), n, np.uint8) for n, s in zip(level, (0, 1, 1), strict=True))
            planes = Planes(y, u, v, colour)
            back = rgb_to_planes(rgb_crop(planes, (0, 0, 16, 16)), colour)
            for plane, n in zip((back.y, back.u, back.v), level, strict=True):
                assert np.abs(plane.astype(int) - n).max() <= 1


def test_a_trip_through_rgb_moves_nothing() -> None:
    planes = smooth()
    back = rgb_to_planes(rgb_crop(planes, (0, 0, 320, 180)), HD)
    for before, after in ((planes.y, back.y), (planes.u, back.u), (planes.v, back.v)):
        difference = after.astype(float) - before
        assert abs(difference.mean()) < 0.25
        assert np.abs(difference).max() <= 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 25), st.integers(1, 40), st.integers(1, 30))
def test_a_crop_is_the_same_part_of_the_whole(half_x: int, half_y: int, width: int, height: int) -> None:
    planes = noise()
    x0, y0 = 2 * half_x, 2 * half_y
    box = (x0, y0, min(96, x0 + width), min(64, y0 + height))
    whole = rgb_crop(planes, (0, 0, 96, 64))
    np.testing.assert_array_equal(rgb_crop(planes, box), whole[box[1] : box[3], box[0] : box[2]])


@pytest.mark.parametrize("box", [(1, 0, 8, 8), (0, 3, 8, 8), (0, 0, 98, 8), (-2, 0, 8, 8), (8, 8, 8, 16), (8, 8, 4, 4)])
def test_a_box_off_the_grid_or_outside_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="even corner"):
        rgb_crop(noise(), box)


def test_a_warp_by_nothing_is_the_crop() -> None:
    planes = noise()
    shift = np.array([[1.0, 0.0, -10.0], [0.0, 1.0, -20.0]])
    crop = rgb_crop(planes, (10, 20, 50, 44)).astype(int)
    assert np.abs(rgb_warp(planes, shift, width=40, height=24) - crop).max() <= 3


@pytest.mark.parametrize("scale", [0.11, 0.3, 0.5, 0.77, 1.0, 2.5])
@pytest.mark.parametrize("turn", [0.0, 0.4, 2.0])
def test_a_warp_lands_where_the_affine_says(scale: float, turn: float) -> None:
    """Every pixel of the picture tells its position; the crop must tell the affine's."""
    planes = smooth()
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]])
    size = 24
    affine = np.column_stack([linear, np.array([size / 2, size / 2]) - linear @ np.array([160.0, 90.0])])
    rgb = rgb_warp(planes, affine, width=size, height=size).astype(float)
    # Pixel (x, y) of the crop has its centre at +0.5 and shows the frame at the inverse of that point.
    yy, xx = np.mgrid[0:size, 0:size] + 0.5
    where = (np.stack([xx, yy], axis=-1) - affine[:, 2]) @ np.linalg.inv(linear).T
    inside = (where[..., 0] > 12) & (where[..., 0] < 308) & (where[..., 1] > 12) & (where[..., 1] < 168)
    expected = 40 + 170 * where / (320, 180)
    assert inside.sum() > 50
    assert np.abs(rgb[..., :2] - expected)[inside].max() < 4.0
    assert np.abs((rgb[..., :2] - expected)[inside].mean(axis=0)).max() < 0.6


def test_a_letterbox_repeats_the_border_and_sees_no_alias() -> None:
    """One-pixel stripes shrunk eight times are grey, not stripes; beyond the frame the border goes on."""
    stripes = Planes.empty(256, 128, HD)
    stripes.y[:] = np.where(np.arange(256) % 2, 235, 16).astype(np.uint8)
    stripes.u[:] = stripes.v[:] = 128
    letterbox = np.array([[0.125, 0.0, 0.0], [0.0, 0.125, 8.0]])
    rgb = rgb_warp(stripes, letterbox, width=32, height=32)
    assert np.ptp(rgb.astype(int)) <= 2
    far = np.array([[1.0, 0.0, -5000.0], [0.0, 1.0, 4000.0]])
    assert rgb_warp(stripes, far, width=8, height=8).shape == (8, 8, 3)
    np.testing.assert_array_equal(np.ptp(rgb_warp(stripes, far, width=8, height=8), axis=(0, 1)), 0)


@pytest.mark.parametrize("size", [(48, 32), (96, 64), (37, 21), (192, 20), (200, 150)])
def test_a_view_is_the_frame_at_the_asked_size(size: tuple[int, int]) -> None:
    planes = smooth(96, 64)
    width, height = size
    view = rgb_view(planes, width=width, height=height).astype(int)
    whole = cv2.resize(rgb_crop(planes, (0, 0, 96, 64)), size, interpolation=cv2.INTER_LINEAR).astype(int)
    assert view.shape == (height, width, 3)
    assert np.abs(view - whole)[1:-1, 1:-1].max() <= 5


def test_the_same_frame_gives_the_same_bytes_with_any_threads() -> None:
    planes, before = noise(640, 360), cv2.getNumThreads()
    affine = np.array([[0.31, -0.05, 3.0], [0.05, 0.31, -9.0]])

    def everything() -> bytes:
        made = (
            rgb_view(planes, width=256, height=144),
            rgb_crop(planes, (4, 8, 301, 207)),
            rgb_warp(planes, affine, width=192, height=192),
        )
        return b"".join(array.tobytes() for array in made)

    try:
        cv2.setNumThreads(1)
        one = everything()
        cv2.setNumThreads(3)
        assert everything() == one
    finally:
        cv2.setNumThreads(before)
