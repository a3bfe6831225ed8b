"""Enrolment: every fault of a portrait has its own name, and what could be better is said."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from masquerade.identity import Identity, read_identity, write_identity
from services.common.errors import (
    FaceCovered,
    FaceTooSmall,
    FaceTurned,
    InvalidSpec,
    MasqueradeError,
    NoFaceInPortrait,
    SeveralFacesInPortrait,
)
from services.common.pool import Pool
from services.detector.enrolling import Portrait, PortraitQuality, enroll, planes_of
from services.detector.finding import tiles
from services.detector.looking import Looker
from tests.support.faces import face_points
from tests.support.orange_faces import Face, OrangeRuntime, picture


class Turning(OrangeRuntime):
    """Answers meshes of heads turned by some degrees, with a presence of its own."""

    def __init__(self, degrees: float = 0, presence: float = 0.99) -> None:
        super().__init__()
        self._angle, self._presence = np.radians(degrees), presence

    async def infer(self, model, inputs):  # type: ignore[no-untyped-def]
        answers = await super().infer(model, inputs)
        if model == "facemesh":
            points = answers["points"]
            middle = points.mean(axis=1, keepdims=True)
            away = points - middle
            # Depth is what a turn shows: without any the cheeks would only come closer.
            points[..., 2] = -np.tan(self._angle) * away[..., 0] + points[..., 2] * 0.01
            answers["presence"] = np.where(answers["presence"] > 0, self._presence, 0).astype(np.float32)
        return answers


class Nearsighted(OrangeRuntime):
    """Its detectors overlook what is narrower than 9 % of their square, as the real ones do."""

    async def infer(self, model, inputs):  # type: ignore[no-untyped-def]
        answers = await super().infer(model, inputs)
        if model != "facemesh":
            boxes = answers["boxes"]
            answers["scores"] = np.where(boxes[..., 2] - boxes[..., 0] < 0.09, 0, answers["scores"])
        return answers


def portrait(*faces: Face, name: str = "anna.jpg") -> Portrait:
    return Portrait(name, picture(faces, width=800, height=600))


async def enrolled(
    *portraits: Portrait, runtime: OrangeRuntime | None = None
) -> tuple[Identity, list[PortraitQuality]]:
    pool = Pool(1)
    try:
        return await enroll(portraits, looker=Looker(runtime or OrangeRuntime(), pool, most_faces=4), pool=pool)
    finally:
        await pool.close()


GOOD = Face(400, 300, 260)


async def test_a_good_portrait_is_cropped_round_the_face_with_its_landmarks() -> None:
    identity, (report,) = await enrolled(portrait(GOOD))
    (crop,) = identity.pictures
    assert identity.kind == "photo"
    assert report.width_px == pytest.approx(260, abs=6)
    assert crop.rgb.shape[1] < 620
    low, high = crop.points[:468, :2].min(axis=0), crop.points[:468, :2].max(axis=0)
    orange = np.argwhere(crop.rgb[..., 0] > 200)
    assert np.abs(orange.min(axis=0)[::-1] - low).max() < 8
    assert np.abs(orange.max(axis=0)[::-1] - high).max() < 8
    assert read_identity(write_identity(identity)).quality["width_px"] == pytest.approx(260, abs=6)


async def test_a_large_portrait_is_scaled_down_with_its_landmarks() -> None:
    big = cv2.resize(picture([GOOD], width=800, height=600), (4000, 3000), interpolation=cv2.INTER_LINEAR)
    identity, (report,) = await enrolled(Portrait("big.jpg", big))
    crop = identity.pictures[0]
    assert max(crop.rgb.shape[:2]) == 1024
    assert report.width_px == pytest.approx(1300, abs=40)
    assert crop.points[:468, 0].max() < crop.rgb.shape[1]


FAULTS: Sequence[tuple[type[MasqueradeError], list[Face], OrangeRuntime | None]] = [
    (NoFaceInPortrait, [], None),
    (SeveralFacesInPortrait, [GOOD, Face(680, 300, 140)], None),
    (FaceTooSmall, [Face(400, 300, 50)], None),
    (FaceTurned, [GOOD], Turning(45)),
    (FaceCovered, [GOOD], Turning(0, presence=0.7)),
]


@pytest.mark.parametrize(("fault", "faces", "runtime"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
async def test_each_fault_has_its_name_and_the_portraits(
    fault: type[MasqueradeError], faces: list[Face], runtime: OrangeRuntime | None
) -> None:
    with pytest.raises(fault) as caught:
        await enrolled(portrait(*faces, name="bob.png"), runtime=runtime)
    assert caught.value.fields["portrait"] == "bob.png"
    assert "bob.png" in str(caught.value)


async def test_a_face_of_4_percent_of_the_width_is_found_wherever_it_is() -> None:
    # Marks that the nets see in a tile and not in the whole picture, where they are 5 px of 128.
    pool = Pool(1)
    looker = Looker(Nearsighted(), pool, most_faces=4)
    try:
        for x, y in ((60, 70), (500, 300), (750, 610), (1240, 620), (1540, 1130), (800, 70)):
            planes = planes_of(picture([Face(x, y, 66)], width=1600, height=1200))
            assert await looker.find(planes) == []
            (seen,) = await looker.search(planes)
            assert seen.box.reshape(2, 2).mean(axis=0) == pytest.approx((x, y), abs=12)
    finally:
        await pool.close()


async def test_two_small_faces_are_several_and_a_tiny_one_is_too_small() -> None:
    pair = picture([Face(400, 600, 80), Face(1200, 600, 80)], width=1600, height=1200)
    with pytest.raises(SeveralFacesInPortrait):
        await enrolled(Portrait("pair.jpg", pair), runtime=Nearsighted())
    tiny = picture([Face(400, 600, 48)], width=1200, height=900)
    with pytest.raises(FaceTooSmall):
        await enrolled(Portrait("tiny.jpg", tiny), runtime=Nearsighted())


@pytest.mark.parametrize(("width", "height"), [(1600, 1200), (900, 1600), (4000, 600), (512, 512), (34, 32)])
def test_tiles_cover_a_picture_and_overlap(width: int, height: int) -> None:
    longer = max(width, height)
    covered = np.zeros((height, width), np.int32)
    for x0, y0, x1, y1 in tiles(width, height):
        assert x0 % 2 == y0 % 2 == x1 % 2 == y1 % 2 == 0
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        covered[y0:y1, x0:x1] += 1
    assert covered.min() >= 1
    boxes = tiles(width, height)
    for place in range(0, width - int(0.1 * longer), 2):
        assert any(x0 <= place and place + 0.1 * longer <= x1 for x0, _, x1, _ in boxes)


async def test_a_face_of_two_colours_is_covered() -> None:
    rgb = picture([GOOD], width=800, height=600)
    points = face_points(260, at=(270, 140), height_px=325)
    cheek = np.round(points[[50, 101, 36, 205, 187, 123], :2]).astype(np.int32)
    cv2.fillConvexPoly(rgb, cv2.convexHull(cheek), (235, 120, 140))
    with pytest.raises(FaceCovered):
        await enrolled(Portrait("mask.jpg", rgb))


async def test_a_small_far_face_in_the_background_is_no_rival() -> None:
    _, (report,) = await enrolled(portrait(GOOD, Face(720, 100, 40)))
    assert report.width_px == pytest.approx(260, abs=6)


async def test_what_could_be_better_is_said() -> None:
    _, (small,) = await enrolled(portrait(Face(400, 300, 150)))
    assert any("150 px" in warning or "149 px" in warning or "151 px" in warning for warning in small.warnings)
    _, (turned,) = await enrolled(portrait(GOOD), runtime=Turning(25))
    assert any("degrees" in warning for warning in turned.warnings)


async def test_the_best_portrait_comes_first() -> None:
    identity, reports = await enrolled(portrait(Face(400, 300, 120), name="small"), portrait(GOOD, name="good"))
    assert [report.name for report in reports] == ["small", "good"]
    widths = [float(np.ptp(p.points[:468, 0])) for p in identity.pictures]
    assert widths[0] > widths[1]


def drawn(points: NDArray[np.float32] | None) -> Portrait:
    return Portrait("drawn.png", np.full((300, 260, 3), 90, np.uint8), kind="drawn", points=points)


async def test_a_drawn_portrait_is_taken_as_it_is() -> None:
    identity, (report,) = await enrolled(drawn(face_points(160, at=(40, 40))))
    assert identity.kind == "drawn"
    assert report.warnings == ()
    assert np.ptp(identity.pictures[0].points[:468, 0]) == pytest.approx(160, abs=0.1)


@pytest.mark.parametrize("points", [None, np.full((478, 3), np.nan, np.float32), np.full((478, 3), 9e5, np.float32)])
async def test_a_drawn_portrait_without_usable_landmarks_is_refused(points: NDArray[np.float32] | None) -> None:
    with pytest.raises(InvalidSpec):
        await enrolled(drawn(points))


async def test_no_portrait_and_mixed_kinds_are_refused() -> None:
    with pytest.raises(InvalidSpec):
        await enrolled()
    with pytest.raises(InvalidSpec):
        await enrolled(portrait(GOOD), drawn(face_points(160, at=(40, 40))))
