"""IS-Net (Qin et al. 2022) as a session of rembg, made fit for video.

rembg scales each picture by its brightest pixel and each mask by its own least and greatest value. For one photograph
that is kind; in a video exposure and matte would pump from frame to frame, and a frame without foreground would become
all foreground. Here both ranges are fixed. A frame with something white in it goes in as rembg gives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rembg import remove
from rembg.sessions.base import BaseSession

from services.common.arrays import Alpha8, Rgb
from services.common.errors import ModelContractMismatch, ModelMissing

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MEAN = (0.5, 0.5, 0.5)
DEVIATION = (1.0, 1.0, 1.0)
_WHITE = np.float32(255)


class IsNetSession(BaseSession):  # type: ignore[misc]
    """A session of rembg over weights that are in memory already."""

    def __init__(self, model_name: str, session: InferenceSession) -> None:
        # The base class would download, and would open a path: the bytes that were hashed are the ones to be run.
        self.model_name = model_name
        self.inner_session = session
        shape = session.get_inputs()[0].shape
        if len(shape) != 4 or not all(isinstance(side, int) for side in shape[2:]):
            raise ModelContractMismatch(model=model_name, problem=f"its input is of shape {shape}")
        self._height, self._width = int(shape[2]), int(shape[3])

    @classmethod
    def name(cls, *args: Any, **kwargs: Any) -> str:
        """As rembg calls it."""
        return "isnet-general-use"

    @classmethod
    def download_models(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Nothing is fetched while serving: weights are pulled by digest, beforehand."""
        raise ModelMissing(model=cls.name(), remedy="run `masquerade models pull --profile studio`")

    def normalize(
        self,
        img: Image.Image,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        size: tuple[int, int],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, NDArray[np.float32]]:
        """The net's input by its name: rembg's own, but white is 255 in every frame."""
        fitted = img.convert("RGB")
        if fitted.size != size:
            fitted = fitted.resize(size, Image.Resampling.LANCZOS)
        pixels = np.asarray(fitted, np.float32) / _WHITE
        centred = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
        return {self.inner_session.get_inputs()[0].name: np.ascontiguousarray(centred.transpose(2, 0, 1)[None])}

    def predict(self, img: Image.Image, *args: Any, **kwargs: Any) -> list[Image.Image]:
        """One mask of the model's size: what the net says, from 0 to 1, whatever else is in the frame."""
        inputs = self.normalize(img, MEAN, DEVIATION, (self._width, self._height))
        (answer, *_) = self.inner_session.run(None, inputs)
        if answer.shape != (1, 1, self._height, self._width):
            raise ModelContractMismatch(model=self.model_name, problem=f"a mask of shape {answer.shape}")
        alpha = np.clip(np.rint(answer[0, 0] * _WHITE), 0, 255).astype(np.uint8)
        return [Image.fromarray(alpha)]


def matte(session: IsNetSession, rgb: Rgb) -> Alpha8:
    """One frame's matte.

    Args:
        session: of the model.
        rgb: (h, w, 3) uint8 at the model's size.

    Returns:
        (h, w) uint8, 255 is foreground.
    """
    return np.asarray(remove(rgb, session=session, only_mask=True), np.uint8)
