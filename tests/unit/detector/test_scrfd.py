"""SCRFD through InsightFace: its candidates lie where the faces are, and the landmark net decides as always."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.common.errors import LicenceForbidden, ModelContractMismatch, ModelDigestMismatch, ModelMissing
from services.common.inference.local import LocalModels
from services.common.pool import Pool
from services.detector import scrfd
from services.detector.detectors import detector, profile_detector
from services.detector.scrfd import SIDE_PX, ScrfdFaces, fitted
from tests.support.orange_faces import HEIGHT, WIDTH, Face, OrangeRuntime, planes
from tests.support.starter_models import REPOSITORY
from tests.support.studio_models import isnet_like, scrfd_like, write_model


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> LocalModels:
    """A repository with a stand-in for SCRFD, for research."""
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, scrfd.MODEL, scrfd_like(), commercial_use=False)
    return LocalModels(repository, "research")


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """Two workers."""
    pool = Pool(2)
    yield pool
    await pool.close()


async def test_a_candidate_lies_where_the_face_is_with_its_eyes_from_left_to_right(models, pool):
    found = await ScrfdFaces(models, pool).candidates(planes([Face(220, 90, 60)]))
    assert found
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
    for face in found:
        x0, y0, x1, y1 = face.box.tolist()
        assert 220 - 34 < (x0 + x1) / 2 < 220 + 34
        assert 90 - 42 < (y0 + y1) / 2 < 90 + 42
        # Ten strides of 8 in a square of 640 made of a frame of 320: 40 pixels of the frame.
        assert (x1 - x0, y1 - y0) == pytest.approx((40, 40), rel=0.02)
        left, right = face.keypoints[0], face.keypoints[1]
        assert right[0] - left[0] == pytest.approx(20, rel=0.02)
        assert left[1] == pytest.approx(right[1])
        assert face.keypoints.shape == (5, 2)


async def test_red_is_red_to_the_net_and_blue_is_not(models, pool):
    assert not await ScrfdFaces(models, pool).candidates(planes([]))


async def test_the_landmark_net_decides_what_is_a_face(models, pool):
    looker = detector("scrfd").make(OrangeRuntime(), pool, models)
    found = await looker.find(planes([Face(80, 90, 40), Face(220, 90, 60)]))
    assert [round(float(face.box[0] + face.box[2]) / 2) for face in found] == pytest.approx([220, 80], abs=2)
    assert float(found[0].box[2] - found[0].box[0]) == pytest.approx(60, abs=3)


async def test_all_who_ask_at_once_get_one_net_and_the_same_answer(models, pool):
    finder = ScrfdFaces(models, pool)
    frame = planes([Face(150, 90, 60)])
    nets = await asyncio.gather(*(finder.loaded() for _ in range(4)))
    assert len(set(map(id, nets))) == 1
    first, *others = await asyncio.gather(*(finder.candidates(frame) for _ in range(4)))
    for other in others:
        assert [face.box.tolist() for face in other] == [face.box.tolist() for face in first]


def test_the_frame_lies_at_the_top_left_and_black_is_below():
    square, scale = fitted(planes([]))
    assert square.shape == (SIDE_PX, SIDE_PX, 3)
    assert scale == (2, 2)
    assert not square[HEIGHT * 2 :].any()
    assert square[: HEIGHT * 2, : WIDTH * 2].mean() > 10


async def test_without_weights_the_error_names_the_pull(tmp_path, pool):
    weights = write_model(tmp_path, scrfd.MODEL, scrfd_like(), commercial_use=False)
    weights.unlink()
    finder = ScrfdFaces(LocalModels(tmp_path, "research"), pool)
    with pytest.raises(ModelMissing, match="masquerade models pull --profile studio"):
        await finder.candidates(planes([]))
    # Pulled meanwhile: the next call finds them.
    write_model(tmp_path, scrfd.MODEL, scrfd_like(), commercial_use=False)
    assert await finder.candidates(planes([])) == []


async def test_other_bytes_than_the_cards_are_not_loaded(tmp_path, pool):
    weights = write_model(tmp_path, scrfd.MODEL, scrfd_like(), commercial_use=False)
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(ModelDigestMismatch):
        await ScrfdFaces(LocalModels(tmp_path, "research"), pool).candidates(planes([]))


async def test_the_commercial_policy_refuses_it_before_a_byte_is_read(pool):
    finder = ScrfdFaces(LocalModels(REPOSITORY, "commercial"), pool)
    with pytest.raises(LicenceForbidden):
        await finder.candidates(planes([]))


async def test_a_file_without_keypoints_is_refused(tmp_path, pool):
    write_model(tmp_path, scrfd.MODEL, isnet_like(64), commercial_use=False)
    with pytest.raises(ModelContractMismatch, match="9 are needed"):
        await ScrfdFaces(LocalModels(tmp_path, "research"), pool).candidates(planes([]))


def test_the_studio_uses_it_where_the_licence_allows_and_nowhere_else():
    assert profile_detector("studio", "research") == "scrfd"
    assert profile_detector("studio", "commercial") == "blazeface"
    assert profile_detector("starter", "research") == "blazeface"
    assert [detector(name).name for name in ("", "blazeface", "scrfd")] == ["blazeface", "blazeface", "scrfd"]
