"""IS-Net through rembg: fixed ranges, so that nothing pumps; local weights, so that nothing is fetched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pooch
import pytest

from services.common.errors import FrameBatchInvalid, ModelContractMismatch, ModelDigestMismatch, ModelMissing
from services.common.inference.local import LocalModels
from services.common.pool import Pool
from services.segmenter.matting import Matting
from services.segmenter.models import matting_model, profile_model
from services.segmenter.studio import ISNET, open_isnet
from tests.support.studio_models import isnet_like, scrfd_like, write_model
from tests.unit.segmenter.test_matting import Stand

SIDE = 1024


@pytest.fixture(autouse=True)
def no_fetching(monkeypatch) -> None:
    """Whoever asks pooch for a file fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was to be downloaded")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    monkeypatch.setattr(pooch.core, "stream_download", refuse)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> LocalModels:
    """A repository with a stand-in for IS-Net."""
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, ISNET, isnet_like(), commercial_use=True)
    return LocalModels(repository, "commercial")


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """Two workers."""
    pool = Pool(2)
    yield pool
    await pool.close()


def flat(*greens: int) -> np.ndarray:
    """One frame for each shade."""
    frames = np.zeros((len(greens), SIDE, SIDE, 3), np.uint8)
    frames[..., 1] = np.array(greens, np.uint8)[:, None, None]
    return frames


async def test_a_dim_frame_and_a_bright_one_get_mattes_of_one_range(models, pool):
    shades = (0, 10, 128, 255)
    mattes = await Matting(Stand(), pool, local=models).segment(flat(*shades), model=ISNET)
    assert mattes.shape == (4, SIDE, SIDE)
    # Per-image ranges would make each of these frames all black, all white, or nothing at all.
    for shade, alpha in zip(shades, mattes, strict=True):
        assert np.abs(alpha.astype(int) - shade).max() <= 1


async def test_a_pixel_of_the_frame_is_the_same_pixel_of_the_matte(models, pool):
    frame = flat(20)
    frame[0, 100:300, 700:900, 1] = 220
    (alpha,) = await Matting(Stand(), pool, local=models).segment(frame, model=ISNET)
    assert np.abs(alpha.astype(int) - frame[0, ..., 1]).max() <= 1


def test_where_something_is_white_the_input_is_rembgs_own(models):
    session = open_isnet(models).args[0]
    from PIL import Image
    from rembg.sessions.base import BaseSession

    rgb = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    ours, theirs = (
        normalize(session, Image.fromarray(rgb), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (SIDE, SIDE))["input_image"]
        for normalize in (type(session).normalize, BaseSession.normalize)
    )
    assert ours.dtype == theirs.dtype == np.float32
    assert np.abs(ours - theirs).max() < 1e-6


async def test_a_frame_of_another_size_is_refused(models, pool):
    with pytest.raises(FrameBatchInvalid, match="1024x1024"):
        await Matting(Stand(), pool, local=models).segment(flat(0)[:, :512], model=ISNET)


async def test_without_weights_the_error_names_the_pull_and_nothing_is_fetched(tmp_path, pool):
    weights = write_model(tmp_path, ISNET, isnet_like(), commercial_use=True)
    weights.unlink()
    matting = Matting(Stand(), pool, local=LocalModels(tmp_path, "commercial"))
    with pytest.raises(ModelMissing, match="masquerade models pull --profile studio"):
        await matting.ready(ISNET)


async def test_other_bytes_than_the_cards_are_not_loaded(tmp_path, pool):
    weights = write_model(tmp_path, ISNET, isnet_like(), commercial_use=True)
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(ModelDigestMismatch):
        await Matting(Stand(), pool, local=LocalModels(tmp_path, "commercial")).ready(ISNET)


@pytest.mark.parametrize("graph", [scrfd_like()], ids=["any size"])
def test_a_graph_that_is_not_for_one_size_is_refused(tmp_path: Path, graph):
    write_model(tmp_path, ISNET, graph, commercial_use=True)
    with pytest.raises(ModelContractMismatch):
        open_isnet(LocalModels(tmp_path, "commercial"))


def test_the_session_cannot_be_talked_into_a_download(models):
    session = open_isnet(models).args[0]
    with pytest.raises(ModelMissing):
        type(session).download_models()


def test_the_studio_asks_for_a_megapixel():
    assert profile_model("studio") == ISNET
    assert profile_model("starter") == "selfie"
    assert (matting_model(ISNET).width, matting_model(ISNET).height) == (SIDE, SIDE)
