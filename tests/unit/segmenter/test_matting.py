"""Mattes through the inference door: checked on the way in and on the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from services.common.arrays import Tensor
from services.common.errors import FrameBatchInvalid, ModelContractMismatch, UnknownModel
from services.common.inference.local import LocalModels
from services.common.pool import Pool
from services.segmenter.matting import Matting, quantised
from services.segmenter.models import matting_model, matting_models
from tests.support.starter_models import REPOSITORY

LOCAL = LocalModels(REPOSITORY, "commercial")


class Stand:
    """A runtime whose matte is the red channel."""

    name = "stand"

    def __init__(self, *, drops: int = 0) -> None:
        self._drops = drops

    async def infer(self, model: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        frames = inputs["image"]
        return {"alpha": frames[self._drops :, ..., 0].astype(np.float32) / np.float32(255)}

    async def ready(self, models: Iterable[str]) -> None:
        return None

    def digests(self) -> dict[str, str]:
        return {}

    async def close(self) -> None:
        return None


def frames(count: int, width: int = 256, height: int = 144) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


async def test_each_frame_gets_its_own_matte_in_the_order_given() -> None:
    pool = Pool(2)
    batch = frames(5)
    mattes = await Matting(Stand(), pool, local=LOCAL).segment(batch, model="selfie")
    assert np.array_equal(mattes, batch[..., 0])
    await pool.close()


async def test_frames_of_another_size_are_refused_with_both_sizes() -> None:
    pool = Pool(1)
    with pytest.raises(FrameBatchInvalid, match=r"256x144.*128x128"):
        await Matting(Stand(), pool, local=LOCAL).segment(frames(1, 128, 128), model="selfie")
    await pool.close()


async def test_a_model_that_answers_fewer_mattes_is_caught() -> None:
    pool = Pool(1)
    with pytest.raises(ModelContractMismatch):
        await Matting(Stand(drops=1), pool, local=LOCAL).segment(frames(3), model="selfie")
    await pool.close()


def test_an_unknown_model_names_those_that_there_are() -> None:
    with pytest.raises(UnknownModel, match="selfie"):
        matting_model("selfish")
    assert [model.name for model in matting_models()] == ["isnet_general_use", "selfie"]


def test_alpha_is_rounded_and_what_overshoots_is_cut_off() -> None:
    alpha = np.array([[-0.1, 0.0, 0.5, 1.0, 1.2]], np.float32)
    assert quantised(alpha).tolist() == [[0, 0, 128, 255, 255]]
