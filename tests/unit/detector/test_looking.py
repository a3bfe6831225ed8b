"""Looking at one frame: letterbox, candidates, regions, landmarks and what they say of a head."""

from __future__ import annotations

import numpy as np
import pytest

from services.common.pool import Pool
from services.detector.blazeface import Candidate, candidates, letterbox, merged
from services.detector.cuts import is_cut, thumbnail
from services.detector.landmarks import CROP_PX, Region, points_in_frame, region_of_sight
from services.detector.looking import Looker
from services.detector.pose import pose_of
from services.detector.sharpness import sharpness_of
from services.detector.sights import Sight
from services.detector.verifying import is_present, is_same
from tests.support.faces import face_points
from tests.support.orange_faces import Face, OrangeRuntime, picture, planes


def sight(x: float, y: float, width: float = 60, score: float = 1.0) -> Sight:
    return Sight(face_points(width, at=(x, y)), score, 50.0)


def test_a_place_in_the_letterbox_is_the_same_place_in_the_frame() -> None:
    square, placed = letterbox(planes([Face(240, 60)]), 192)
    orange = (square[..., 0].astype(int) - square[..., 2]) > 90
    ys, xs = np.nonzero(orange)
    middle = placed.to_frame(np.array([xs.mean() + 0.5, ys.mean() + 0.5]) / 192)
    assert np.abs(middle - (240, 60)).max() < 1.5


def test_what_lies_beside_the_frame_in_the_letterbox_is_black() -> None:
    square, placed = letterbox(planes([]), 128)
    assert not square[: placed.offset[1]].any()


def candidate(x: float, score: float) -> Candidate:
    box = np.array([x, 10, x + 40, 50], np.float32)
    return Candidate(box, np.full((6, 2), x, np.float32), score)


def test_overlapping_candidates_are_averaged_by_their_score() -> None:
    faces = merged([candidate(10, 0.6), candidate(20, 0.9), candidate(200, 0.7)])
    assert [round(face.score, 2) for face in faces] == [0.9, 0.7]
    assert faces[0].box[0] == pytest.approx(16.0)
    assert faces[0].keypoints[0, 0] == pytest.approx(16.0)


def test_an_anchor_below_the_threshold_is_no_candidate() -> None:
    _, placed = letterbox(planes([]), 128)
    boxes = np.tile(np.array([0.1, 0.4, 0.3, 0.6], np.float32), (2, 1))
    scores = np.array([0.49, 0.51], np.float32)
    found = candidates(boxes, np.zeros((2, 6, 2), np.float32), scores, placed=placed, threshold=0.5)
    assert [round(c.score, 2) for c in found] == [0.51]


def test_landmarks_go_to_the_crop_and_come_back() -> None:
    region = Region(400.25, 300.5, 222.0, 0.4)
    points = face_points(100, at=(350, 240))
    inside = points[:, :2].astype(np.float64) @ region.affine[:, :2].T + region.affine[:, 2]
    crop = np.column_stack([inside, points[:, 2] * CROP_PX / region.side]).astype(np.float32)
    assert np.abs(points_in_frame(crop, region) - points).max() < 1e-3


def test_the_region_of_a_face_is_half_wider_than_it_and_turned_with_its_eyes() -> None:
    region = region_of_sight(sight(100, 50, 80))
    assert region.side == pytest.approx(1.5 * 100, rel=0.01)
    assert region.angle == pytest.approx(0, abs=0.01)
    assert (region.x, region.y) == pytest.approx((140, 100), abs=0.1)


def turned(axis: int, degrees: float) -> np.ndarray:
    """A face turned about x (0), y (1) or z (2); positive as the screen shows x right, y down, z away."""
    points = face_points(100).astype(np.float64)
    points -= points.mean(axis=0)
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    rotation = np.eye(3)
    rotation[a, a] = rotation[b, b] = cos
    rotation[a, b], rotation[b, a] = -sin, sin
    return points @ rotation.T


def test_a_head_that_turns_to_the_images_right_has_positive_yaw() -> None:
    straight = pose_of(turned(1, 0)[None])[0]
    # Turning about the downward axis from z towards x moves the nose, which is nearest, to the image's left.
    assert pose_of(turned(1, -30)[None])[0][0] - straight[0] == pytest.approx(30, abs=1.5)


def test_a_nod_down_has_positive_pitch_and_a_clockwise_tilt_positive_roll() -> None:
    straight = pose_of(turned(0, 0)[None])[0]
    assert pose_of(turned(0, 20)[None])[0][1] - straight[1] == pytest.approx(20, abs=1.5)
    assert pose_of(turned(2, 15)[None])[0][2] - straight[2] == pytest.approx(15, abs=0.5)


def test_a_blurred_face_is_less_sharp() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (CROP_PX, CROP_PX, 3), dtype=np.uint8)
    assert sharpness_of(np.full_like(noise, 90)) == 0
    assert sharpness_of(noise) > 1000


def test_a_new_scene_is_a_cut_and_motion_or_a_flash_is_none() -> None:
    first = thumbnail(planes([Face(100, 90)]))
    assert is_cut(first, thumbnail(planes([Face(100, 90)], scene=1)))
    assert not is_cut(first, thumbnail(planes([Face(130, 90)])))
    assert not is_cut(first, np.clip(first.astype(int) + 60, 0, 255).astype(np.uint8))


def test_a_face_upside_down_in_its_own_eye_line_is_none() -> None:
    face = sight(50, 50)
    flipped = face.points.copy()
    flipped[:, 1] = 200 - flipped[:, 1]
    assert is_present(face)
    assert not is_present(Sight(flipped, 1.0, 50.0))
    assert not is_present(Sight(np.full((478, 3), np.nan, np.float32), 1.0, 50.0))


def test_a_face_that_leaps_is_not_the_same() -> None:
    before = sight(50, 50)
    assert is_same(sight(58, 50), before)
    assert not is_same(sight(150, 50), before)
    assert not is_same(sight(50, 50, 130), before)
    assert not is_same(sight(52, 50, score=0.4), before)


@pytest.fixture
async def looker() -> Looker:
    return Looker(OrangeRuntime(), Pool(1), most_faces=4)


async def test_faces_are_found_where_they_are_largest_first(looker: Looker) -> None:
    found = await looker.find(planes([Face(80, 90, 40), Face(220, 90, 60)]))
    assert [round(float(face.box[0] + face.box[2]) / 2) for face in found] == pytest.approx([220, 80], abs=2)
    assert float(found[0].box[2] - found[0].box[0]) == pytest.approx(60, abs=3)


async def test_no_more_faces_than_asked_are_found(looker: Looker) -> None:
    frame = planes([Face(60, 90, 40), Face(160, 90, 50), Face(260, 90, 60)])
    assert len(await looker.find(frame)) == 3
    assert len(await looker.find(frame, most=1)) == 1


async def test_a_face_is_followed_and_one_that_has_gone_is_lost(looker: Looker) -> None:
    before = await looker.find(planes([Face(80, 90), Face(220, 90)]))
    after = await looker.follow(planes([Face(88, 92)]), before)
    assert [sight is not None for sight in after] == [float(face.box[0]) < 160 for face in before]


async def test_what_is_asked_together_goes_to_the_model_together() -> None:
    runtime = OrangeRuntime()
    looker = Looker(runtime, Pool(1), most_faces=4)
    frame = planes([Face(60, 90, 40), Face(160, 90, 40), Face(260, 90, 40)])
    faces = await looker.find(frame)
    runtime.batches.clear()
    await looker.follow(frame, faces)
    assert runtime.batches == [("facemesh", 3)]


async def test_an_empty_picture_holds_no_face(looker: Looker) -> None:
    assert await looker.find(planes([])) == []
    assert picture([]).shape == (180, 320, 3)
