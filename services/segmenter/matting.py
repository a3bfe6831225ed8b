"""Mattes for small frames: who is foreground, as the model sees it, frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.common.arrays import RgbBatch, Tensor
from services.common.errors import FrameBatchInvalid, ModelContractMismatch
from services.common.inference.runtime import Runtime
from services.common.pool import Pool
from services.segmenter.models import matting_model


class Matting:
    """Runs matting models through the inference door."""

    def __init__(self, runtime: Runtime, pool: Pool) -> None:
        self._runtime = runtime
        self._pool = pool

    async def segment(self, frames: RgbBatch, *, model: str) -> NDArray[np.uint8]:
        """A matte for each frame, in the order given, each from its own frame alone.

        Args:
            frames: (n, h, w, 3) uint8 at the model's size.
            model: by its folder's name.

        Returns:
            (n, h, w) uint8, 255 is foreground.

        Raises:
            UnknownModel: there is no such model.
            FrameBatchInvalid: the frames are of another size.
        """
        wanted = matting_model(model)
        if frames.shape[1:] != (wanted.height, wanted.width, 3):
            height, width = frames.shape[1:3]
            raise FrameBatchInvalid(
                problem=f"{wanted.name} takes RGB of {wanted.width}x{wanted.height}, not {width}x{height}"
            )
        answer = await self._runtime.infer(wanted.name, {"image": frames})
        alpha = answer["alpha"]
        if alpha.shape != frames.shape[:3]:
            raise ModelContractMismatch(model=wanted.name, problem=f"alpha of shape {alpha.shape}")
        return await self._pool.run(quantised, alpha)


def quantised(alpha: Tensor) -> NDArray[np.uint8]:
    """Alpha in [0, 1] to 1/255, rounded; what a model overshoots is cut off."""
    return np.asarray(np.clip(np.rint(alpha * np.float32(255)), 0, 255), np.uint8)
