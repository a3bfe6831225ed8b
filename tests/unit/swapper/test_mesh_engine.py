"""The geometric swap on faces that nobody has."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from masquerade import facemesh
from services.common.errors import InvalidSpec
from services.swapper.engines import FaceCrop, Patch, Texture
from services.swapper.mesh.engine import MAX_FACE_PX, MeshEngine, MeshSource
from services.swapper.mesh.occlusion import SIZE
from tests.support.cheaper import share_of
from tests.support.faces import face_points, portrait, require_topology, scenery

ENGINE = MeshEngine()
SKIN = (205, 160, 135)


@pytest.fixture(autouse=True, scope="module")
def _topology() -> None:
    require_topology()


@pytest.fixture(scope="module")
def drawn() -> MeshSource:
    return ENGINE.prepare(portrait(), ENGINE.options)


def face(width_px: float = 150, *, margin: int = 24, seed: int = 0, **kwargs: object) -> FaceCrop:
    points = face_points(width_px, at=(margin, margin))
    width, height = (int(np.ceil(side)) + margin for side in points[:468, :2].max(axis=0))
    rgb = scenery(width, height, seed=seed)
    inside = points[facemesh.topology().oval, :2]
    cv2.fillConvexPoly(rgb, cv2.convexHull(np.round(inside).astype(np.int32)), SKIN)
    return replace(FaceCrop(rgb=rgb, points=points), **kwargs)


def on(crop: NDArray[np.uint8], patch: Patch) -> NDArray[np.float64]:
    """The crop with the patch on it, where an affine only shifts."""
    shown = crop.astype(np.float64)
    x, y = (-patch.affine[:, 2]).astype(int)
    height, width = patch.alpha.shape
    part = np.s_[y : y + height, x : x + width]
    alpha = patch.alpha[..., None] / 255
    shown[part] += (patch.rgb - shown[part]) * alpha
    return shown


def swapped(one: FaceCrop, source: MeshSource, **options: str) -> Patch:
    patch = ENGINE.swap([one], source, {**ENGINE.options, **options})[0]
    assert patch is not None
    return patch


def delta_e(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float32]:
    """CIE76 between two RGB pictures in 0 to 255."""
    labs = [cv2.cvtColor((rgb / 255).astype(np.float32), cv2.COLOR_RGB2LAB) for rgb in (first, second)]
    return np.linalg.norm(labs[0] - labs[1], axis=-1)


def middle_of(one: FaceCrop) -> NDArray[np.bool_]:
    """The cheeks and the nose."""
    mask = np.zeros(one.rgb.shape[:2], np.uint8)
    for ring in facemesh.CHEEKS_AND_NOSE[:3]:
        cv2.fillConvexPoly(mask, cv2.convexHull(np.round(one.points[list(ring), :2]).astype(np.int32)), 1)
    return mask > 0


@pytest.mark.parametrize("width_px", [40, 110, 190, 500])
def test_a_drawn_face_shows_its_own_colours_on_a_face_of_any_size(drawn: MeshSource, width_px: int) -> None:
    one = face(width_px)
    difference = delta_e(on(one.rgb, swapped(one, drawn)), one.rgb.astype(np.float64))
    assert difference[middle_of(one)].mean() > 15


def test_colour_from_the_target_leaves_the_mean_skin_tone_where_it_was() -> None:
    source = ENGINE.prepare(portrait(kind="photo"), {**ENGINE.options, "colour": "target"})
    one = face(190)
    shown = on(one.rgb, swapped(one, source))
    assert delta_e(shown, one.rgb.astype(np.float64))[middle_of(one)].mean() < 6


def test_light_does_not_jump_where_a_box_grows_by_a_pixel(drawn: MeshSource) -> None:
    """The slow part of the colours is found on fewer pixels, by whole factors that a box need not divide by."""
    means = []
    for width_px in np.arange(150, 158):
        one = face(float(width_px))
        means.append(on(one.rgb, swapped(one, drawn, colour="target"))[middle_of(one)].mean(axis=0))
    assert np.abs(np.diff(means, axis=0)).max() < 0.8


def test_what_lies_outside_the_face_has_alpha_zero(drawn: MeshSource) -> None:
    one = face(160)
    patch = swapped(one, drawn)
    covered = np.zeros(one.rgb.shape[:2], np.uint8)
    x, y = (-patch.affine[:, 2]).astype(int)
    covered[y : y + patch.alpha.shape[0], x : x + patch.alpha.shape[1]] = patch.alpha
    oval = np.zeros_like(covered)
    cv2.fillPoly(oval, [np.round(one.points[facemesh.topology().oval, :2]).astype(np.int32)], 1)
    assert covered[oval == 0].max() == 0
    assert covered.max() == 255


def test_the_targets_own_eyes_and_inner_mouth_stay(drawn: MeshSource) -> None:
    one = face(190)
    patch = swapped(one, drawn)
    for ring in (facemesh.RIGHT_EYE, facemesh.LEFT_EYE, facemesh.INNER_LIPS):
        x, y = (one.points[list(ring), :2].mean(axis=0) + patch.affine[:, 2]).astype(int)
        assert patch.alpha[y, x] < 26


def alpha_above_the_eye(source: MeshSource, *, beyond: float, shut_eyes: bool = False) -> int:
    """How much of the swap shows above the middle of the right eye: 0 is the eye's edge, 1 the ring of its lid."""
    points = face_points(190, at=(24, 24), shut_eyes=shut_eyes)
    patch = swapped(replace(face(190), points=points), source)
    edge, lid = face_points(190, at=(24, 24))[[facemesh.RIGHT_EYE[4], facemesh.RIGHT_LIDS[4]], :2]
    x, y = (edge + beyond * (lid - edge) + patch.affine[:, 2]).astype(int)
    return int(patch.alpha[y, x])


def test_the_edges_of_open_lids_are_the_targets_and_what_is_above_them_is_the_sources(drawn: MeshSource) -> None:
    shown = [alpha_above_the_eye(drawn, beyond=beyond) for beyond in (0, 1, 2.5)]
    assert shown[0] < 100 < shown[1] < 200 < shown[2]


def test_a_shut_eye_is_the_targets_with_its_lids(drawn: MeshSource) -> None:
    assert alpha_above_the_eye(drawn, beyond=0.5) > 100
    assert alpha_above_the_eye(drawn, beyond=0.5, shut_eyes=True) < 40


def test_a_patch_depends_on_its_own_face_alone(drawn: MeshSource) -> None:
    faces = [face(width, seed=number) for number, width in enumerate((60, 150, 420, 97))]
    together = ENGINE.swap(faces, drawn, ENGINE.options)
    alone = [ENGINE.swap([one], drawn, ENGINE.options)[0] for one in reversed(faces)][::-1]
    for first, second in zip(together, alone, strict=True):
        assert first is not None
        assert second is not None
        assert np.array_equal(first.rgb, second.rgb)
        assert np.array_equal(first.alpha, second.alpha)
        assert np.array_equal(first.affine, second.affine)


def test_no_weight_is_no_patch_and_half_the_weight_half_the_alpha(drawn: MeshSource) -> None:
    one = face(150)
    assert ENGINE.swap([replace(one, weight=0.0)], drawn, ENGINE.options) == [None]
    full, half = swapped(one, drawn), swapped(replace(one, weight=0.5), drawn)
    assert np.abs(half.alpha.astype(int) - full.alpha / 2).max() <= 1.5


@pytest.mark.parametrize(("yaw", "share"), [(0.0, 1.0), (-54.0, 1.0), (65.0, 0.5), (-76.0, 0.0)])
def test_a_profile_fades_to_the_original(drawn: MeshSource, yaw: float, share: float) -> None:
    patch = ENGINE.swap([replace(face(150), yaw_degrees=yaw)], drawn, ENGINE.options)[0]
    most = 0 if patch is None else int(patch.alpha.max())
    assert most == pytest.approx(255 * share, abs=2)


def test_a_hand_before_the_face_stays_before_it(drawn: MeshSource) -> None:
    one = face(190)
    texture = Texture(
        mean=np.full((SIZE, SIZE, 3), cv2.cvtColor(np.uint8([[SKIN]]), cv2.COLOR_RGB2LAB)[0, 0], np.float32),
        variance=np.full((SIZE, SIZE, 3), 4.0, np.float32),
    )
    cheek = one.points[list(facemesh.CHEEKS_AND_NOSE[0]), :2].mean(axis=0)
    other = one.points[list(facemesh.CHEEKS_AND_NOSE[1]), :2].mean(axis=0)
    hidden = one.rgb.copy()
    cv2.circle(hidden, tuple(cheek.astype(int)), 28, (30, 60, 40), -1)
    one = replace(one, rgb=hidden, texture=texture)

    def alpha_at(patch: Patch, point: NDArray[np.float32]) -> int:
        x, y = (point + patch.affine[:, 2]).astype(int)
        return int(patch.alpha[y, x])

    judged, blind = swapped(one, drawn), swapped(one, drawn, occlusion="off")
    assert alpha_at(judged, cheek) < 20
    assert alpha_at(judged, other) > 230
    assert alpha_at(blind, cheek) > 230


def test_light_that_changes_alike_everywhere_is_nothing_in_front(drawn: MeshSource) -> None:
    one = face(190)
    texture = Texture(
        mean=np.full((SIZE, SIZE, 3), cv2.cvtColor(np.uint8([[SKIN]]), cv2.COLOR_RGB2LAB)[0, 0], np.float32),
        variance=np.full((SIZE, SIZE, 3), 4.0, np.float32),
    )
    dimmed = replace(one, rgb=(one.rgb * 0.7).astype(np.uint8), texture=texture)
    judged, blind = swapped(dimmed, drawn), swapped(dimmed, drawn, occlusion="off")
    assert np.array_equal(judged.alpha, blind.alpha)


def test_a_face_larger_than_is_worked_on_keeps_its_pixels_size(drawn: MeshSource) -> None:
    one = face(2 * MAX_FACE_PX)
    patch = swapped(one, drawn)
    assert patch.alpha.shape == patch.rgb.shape[:2]
    assert patch.alpha.shape[1] >= 2 * MAX_FACE_PX


@settings(max_examples=25, deadline=None)
@given(
    width_px=st.floats(4, 260),
    x=st.floats(-150, 150),
    y=st.floats(-150, 150),
    turn=st.floats(-180, 180),
    squeeze=st.floats(-1, 1),
    width=st.integers(1, 220),
    height=st.integers(1, 220),
)
def test_any_landmarks_give_a_patch_inside_the_crop_or_none(
    drawn: MeshSource, width_px: float, x: float, y: float, turn: float, squeeze: float, width: int, height: int
) -> None:
    points = face_points(width_px)
    angle = np.radians(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points[:, :2] = points[:, :2] * [squeeze, 1] @ rotation.T + [x, y]
    one = FaceCrop(rgb=scenery(width, height), points=points.astype(np.float32))
    patch = ENGINE.swap([one], drawn, ENGINE.options)[0]
    if patch is None:
        return
    left, top = -patch.affine[:, 2]
    assert left >= 0
    assert top >= 0
    assert left + patch.alpha.shape[1] <= width
    assert top + patch.alpha.shape[0] <= height
    assert patch.rgb.shape == (*patch.alpha.shape, 3)


def test_an_option_that_is_not_one_of_the_choices_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="pink"):
        ENGINE.prepare(portrait(), {**ENGINE.options, "colour": "pink"})


def test_a_face_costs_what_it_covers(drawn: MeshSource) -> None:
    flat = np.full((SIZE, SIZE, 3), 128, np.float32)
    learned = Texture(mean=flat, variance=np.full_like(flat, 400.0))
    small, large = (replace(face(width), texture=learned) for width in (190, 760))
    assert share_of(lambda: swapped(small, drawn), lambda: swapped(large, drawn)) < 0.4
