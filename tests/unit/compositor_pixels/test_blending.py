"""Patches and backgrounds on planes: what is covered, and above all what is not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.common.colour import ColourTags
from services.common.planes import Planes, copy_planes, rgb_to_planes, rgb_view
from services.compositor import blending
from services.compositor import matte as matting
from services.compositor.blending import Patch, blend_background, blend_patch
from services.compositor.matte import refine, temporal_filter
from tests.support.cheaper import share_of
from tests.support.faces import scenery

BT601 = ColourTags(matrix=6, range=1, primaries=1, transfer=1)
BT709_FULL = ColourTags(matrix=1, range=2, primaries=1, transfer=1)


def frame(width: int = 160, height: int = 120, *, seed: int = 0, colour: ColourTags = BT601) -> Planes:
    return rgb_to_planes(scenery(width, height, seed=seed), colour)


def copy_of(planes: Planes) -> Planes:
    copy = Planes.empty(planes.width, planes.height, planes.colour)
    copy_planes(planes, copy)
    return copy


def flat(rgb: int, width: int, height: int, colour: ColourTags) -> Planes:
    """One colour, as 0xRRGGBB."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = rgb >> 16, rgb >> 8 & 255, rgb & 255
    return rgb_to_planes(picture, colour)


def changed(before: Planes, after: Planes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where luma differs, and where chroma does."""
    return before.y != after.y, (before.u != after.u) | (before.v != after.v)


def halved(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Chroma samples of which at least one luma sample is in the mask."""
    height, width = mask.shape
    return np.asarray(mask.reshape(height // 2, 2, width // 2, 2).any(axis=(1, 3)))


@settings(max_examples=60, deadline=None)
@given(
    x0=st.integers(-40, 170),
    y0=st.integers(-40, 130),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    kind=st.sampled_from(["soft", "full", "single", "noise", "nothing"]),
    shift=st.sampled_from([(0, 0), (-3, 5)]),
)
def test_outside_a_patch_not_one_sample_changes(
    x0: int, y0: int, width: int, height: int, kind: str, shift: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    alpha = np.zeros((height, width), np.uint8)
    if kind == "soft":
        cv2.ellipse(alpha, (width // 2, height // 2), (width // 3, height // 3), 0, 0, 360, 255, -1)
        alpha = np.asarray(cv2.GaussianBlur(alpha, (5, 5), 0), np.uint8)
    elif kind == "full":
        alpha[:] = 255
    elif kind == "single":
        alpha[height // 2, width // 2] = 255
    elif kind == "noise":
        alpha = rng.integers(0, 3, (height, width), dtype=np.uint8) * 120
    planes = frame()
    before = copy_of(planes)
    affine = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    blend_patch(planes, Patch(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), alpha, affine), x0, y0)

    covered = np.zeros((120, 160), bool)
    ys, xs = np.nonzero(alpha)
    ys, xs = ys + y0 - shift[1], xs + x0 - shift[0]
    inside = (ys >= 0) & (ys < 120) & (xs >= 0) & (xs < 160)
    covered[ys[inside], xs[inside]] = True
    luma, chroma = changed(before, planes)
    assert not luma[~covered].any()
    assert not chroma[~halved(covered)].any()


@pytest.mark.parametrize("colour", [BT601, BT709_FULL])
def test_a_full_patch_is_the_picture_itself(colour: ColourTags) -> None:
    planes = frame(colour=colour)
    wanted = scenery(60, 40, seed=3)
    blend_patch(planes, Patch(wanted, np.full((40, 60), 255, np.uint8)), 20, 30)
    shown = rgb_view(planes, width=160, height=120)[30:70, 20:80]
    # A smooth picture survives half-size chroma; its border mixes with its neighbours'.
    assert np.abs(shown[4:-4, 4:-4].astype(int) - wanted[4:-4, 4:-4]).max() <= 10


def test_half_alpha_is_the_middle_between_frame_and_patch() -> None:
    planes = frame()
    before = copy_of(planes)
    rgb = np.full((40, 40, 3), 200, np.uint8)
    full, half = copy_of(planes), planes
    blend_patch(full, Patch(rgb, np.full((40, 40), 255, np.uint8)), 40, 40)
    blend_patch(half, Patch(rgb, np.full((40, 40), 128, np.uint8)), 40, 40)
    for name in "yuv":
        middle = (getattr(before, name).astype(float) * 127 + getattr(full, name).astype(float) * 128) / 255
        assert np.abs(getattr(half, name) - middle).max() <= 0.51


@pytest.mark.parametrize("odd", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_patch_on_odd_coordinates_lies_where_it_belongs(odd: tuple[int, int]) -> None:
    planes = rgb_to_planes(np.full((40, 60, 3), 40, np.uint8), BT601)
    blend_patch(
        planes, Patch(np.full((7, 9, 3), 220, np.uint8), np.full((7, 9), 255, np.uint8)), 10 + odd[0], 12 + odd[1]
    )
    bright = planes.y > 100
    ys, xs = np.nonzero(bright)
    assert (xs.min(), xs.max() + 1) == (10 + odd[0], 19 + odd[0])
    assert (ys.min(), ys.max() + 1) == (12 + odd[1], 19 + odd[1])
    assert bright.sum() == 63


def test_a_turned_patch_is_brought_back_by_its_affine() -> None:
    picture = scenery(160, 120, seed=5)
    # The patch shows the crop at twice its size, turned by 30 degrees.
    angle, scale = np.radians(30), 2.0
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.column_stack([linear, np.array([100.0, 100.0]) - linear @ [40.0, 40.0]])
    to_patch = affine.copy()
    to_patch[:, 2] += linear @ [0.5, 0.5] - 0.5
    rgb = np.asarray(cv2.warpAffine(picture, to_patch, (200, 200)), np.uint8)
    alpha = np.zeros((200, 200), np.uint8)
    cv2.circle(alpha, (100, 100), 50, 255, -1)
    planes, wanted = frame(seed=6), rgb_to_planes(picture, BT601)
    blend_patch(planes, Patch(rgb, alpha, affine), 0, 0)
    assert np.abs(planes.y[25:55, 25:55].astype(int) - wanted.y[25:55, 25:55]).max() <= 4


def matte(width: int, height: int) -> NDArray[np.uint8]:
    alpha = np.zeros((height, width), np.uint8)
    cv2.ellipse(alpha, (width // 2, height), (width // 4, 2 * height // 3), 0, 0, 360, 255, -1)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), max(width / 100, 1)), np.uint8)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (322, 182), (1280, 720), (1366, 770), (1920, 1080)])
def test_what_stays_is_untouched_and_what_is_replaced_is_the_background(width: int, height: int) -> None:
    planes, background = frame(width, height), frame(width, height, seed=9)
    before, alpha = copy_of(planes), matte(width, height)
    blend_background(planes, background, alpha)
    stays, goes = alpha == 255, alpha == 0
    assert np.array_equal(planes.y[stays], before.y[stays])
    assert np.array_equal(planes.y[goes], background.y[goes])
    stays, goes = ~halved(~stays), ~halved(~goes)
    for name in "uv":
        assert np.array_equal(getattr(planes, name)[stays], getattr(before, name)[stays])
        assert np.array_equal(getattr(planes, name)[goes], getattr(background, name)[goes])


@pytest.mark.parametrize("colour", [BT601, BT709_FULL])
@pytest.mark.parametrize(("width", "height"), [(320, 240), (1280, 720)])
def test_where_two_backgrounds_leave_the_same_sample_it_is_the_sources(
    width: int, height: int, colour: ColourTags
) -> None:
    # Every alpha beside every other, 254 above all: the old background's light is as strong as it gets beside it.
    alpha = matte(width, height)
    noise = np.random.default_rng(3).choice(np.array([0, 128, 250, 253, 254, 255], np.uint8), alpha.shape)
    alpha[(alpha > 0) & (alpha < 255)] = noise[(alpha > 0) & (alpha < 255)]
    source = frame(width, height, colour=colour)
    for name, pair in (("y", (0x000000, 0xFFFFFF)), ("u", (0x0000FF, 0xFFFF00)), ("v", (0xFF0000, 0x00FFFF))):
        shown = []
        for rgb in pair:
            planes = copy_of(source)
            blend_background(planes, flat(rgb, width, height, colour), alpha)
            shown.append(getattr(planes, name))
        is_same = shown[0] == shown[1]
        assert is_same.mean() > 0.1
        assert np.array_equal(shown[0][is_same], getattr(source, name)[is_same])


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1280, 720), (1920, 1080)])
def test_the_edge_shows_the_foregrounds_own_colour(width: int, height: int) -> None:
    # Strands of hair before a bright wall, brought before a dark one; what it should look like is known exactly.
    y, x = np.mgrid[:height, :width].astype(np.float32)
    off_x, off_y = x / width - 0.5, y / height - 0.5
    angle, radius = np.arctan2(off_y, off_x), np.hypot(off_x / 0.2, off_y / 0.36)
    share = np.clip((1 + 0.03 * np.sin(120 * angle) + 0.03 * np.sin(47 * angle) - radius) / 0.05, 0, 1)[..., None]
    hair, wall, night = np.float32([70, 55, 45]), np.float32([120, 200, 140]), np.float32([30, 20, 90])
    shown, wanted = (
        rgb_to_planes(np.rint(hair * share + behind * (1 - share)).astype(np.uint8), BT601) for behind in (wall, night)
    )
    alpha = np.rint(share[..., 0] * 255).astype(np.uint8)
    blend_background(shown, flat(0x1E145A, width, height, BT601), alpha)
    edge = (alpha > 0) & (alpha < 255)
    off = shown.y[edge].astype(np.float64) - wanted.y[edge]
    # Interpolated as a whole instead of by each sample's own alpha, the correction was off by 10 levels.
    assert float(np.sqrt((off * off).mean())) < 7


def test_a_background_does_not_depend_on_what_the_tiles_are(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for tile in (8, 64, 4096):
        monkeypatch.setattr("services.compositor.blending.TILE_PX", tile)
        planes = frame(640, 360)
        blend_background(planes, frame(640, 360, seed=9), matte(640, 360))
        shown.append(planes)
    for other in shown[1:]:
        assert not any(mask.any() for mask in changed(shown[0], other))


def test_the_old_background_leaves_no_fringe_round_the_foreground() -> None:
    width, height = 320, 240
    # Dark before white; between them the camera's soft edge, and a matte that knows it exactly.
    alpha = np.zeros((height, width), np.uint8)
    alpha[:, : width // 2] = 255
    alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), 2.5), np.uint8)
    share = alpha[..., None] / 255
    picture = np.rint(30 * share + 240 * (1 - share)).astype(np.uint8).repeat(3, axis=2)
    planes = rgb_to_planes(picture, BT601)
    background = rgb_to_planes(np.full((height, width, 3), 30, np.uint8), BT601)
    blend_background(planes, background, alpha)
    # Dark before dark: mixed without care the edge would glow by up to 45 levels.
    assert int(planes.y.max()) - int(background.y[0, 0]) < 12


def test_a_background_of_another_size_is_a_fault() -> None:
    with pytest.raises(ValueError, match="size"):
        blend_background(frame(), frame(162, 120), np.zeros((120, 160), np.uint8))


def test_a_new_background_costs_less_in_tiles_than_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    planes, background = frame(1280, 720), frame(1280, 720, seed=9)
    small = np.asarray(cv2.resize(matte(1280, 720), (256, 144), interpolation=cv2.INTER_AREA), np.uint8)
    raw = np.stack([small] * 5)

    def blended(tile_px: int) -> None:
        for module in (blending, matting):
            monkeypatch.setattr(module, "TILE_PX", tile_px)
        blend_background(planes, background, refine(temporal_filter(raw), planes.y))

    assert share_of(lambda: blended(64), lambda: blended(4096)) < 0.75


def test_a_patch_costs_what_it_covers_and_not_what_the_frame_has() -> None:
    planes = frame(1280, 720)

    def patch(width: int, height: int) -> Patch:
        alpha = np.zeros((height, width), np.uint8)
        cv2.ellipse(alpha, (width // 2, height // 2), (width // 2 - 5, height // 2 - 4), 0, 0, 360, 255, -1)
        return Patch(scenery(width, height), np.asarray(cv2.GaussianBlur(alpha, (0, 0), 5), np.uint8))

    face, half = patch(200, 244), patch(800, 700)
    share = share_of(lambda: blend_patch(planes, face, 300, 200), lambda: blend_patch(planes, half, 100, 10))
    assert share < 2.5 * (200 * 244) / (800 * 700)
