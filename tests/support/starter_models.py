"""The starter models as `models pull` has left them in the checkout, and recorded answers to hold them against."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.common.inference.models import Model, ModelFile, read_model
from services.standalone.models.pull import CACHE
from services.standalone.models.wheel import read_member

REPOSITORY = Path(__file__).resolve().parent.parent.parent / "model_repository"
STARTER = ("blazeface_full", "blazeface_short", "facemesh", "selfie")
_GOLDENS = Path(__file__).resolve().parent.parent / "data" / "starter_goldens.npz"


def require_weights() -> None:
    """Skip the calling test where the weights were not pulled."""
    for name in STARTER:
        if not (REPOSITORY / name / "1" / "model.onnx").is_file():
            pytest.skip(f"the weights of {name} are absent: run `make models`")


def publisher_file(model: Model, file: ModelFile) -> bytes:
    """What a file of a model is made from, out of the wheel that was pulled; skips where there is none."""
    wheels = list((REPOSITORY / CACHE).glob("*.whl"))
    if not wheels:
        pytest.skip("the publisher's wheel is absent: run `make models`")
    assert file.member is not None
    assert file.member_sha256 is not None
    return read_member(wheels[0], file.member, sha256=file.member_sha256, model=model.name)


@lru_cache(maxsize=1)
def goldens() -> dict[str, NDArray[np.float32]]:
    """Three pictures and what the models' own runtime answered for them, custom operators included.

    `inputs_192` (3, 192, 192, 3) and `inputs_144x256` (3, 144, 256, 3) uint8 RGB; `<graph>.<n>` (3, size) float32.
    """
    with np.load(_GOLDENS) as recorded:
        return {name: recorded[name] for name in recorded.files}


def pictures(name: str, count: int) -> NDArray[np.uint8]:
    """(count, h, w, 3) pictures for a model: the recorded ones, each turned a little further than the last."""
    tensor = read_model(REPOSITORY, name).inputs[0]
    height, width, _ = tensor.shape
    source = goldens()["inputs_144x256" if height == 144 else "inputs_192"]
    source = source[:, :height, :width]
    return np.stack([np.roll(source[number % 3], 5 * number, axis=1) for number in range(count)]).astype(np.uint8)
