"""Mattes for small frames: who is foreground, as the model sees it, frame by frame."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from services.common.arrays import RgbBatch, Tensor
from services.common.errors import FrameBatchInvalid, ModelContractMismatch
from services.common.inference.local import RUNTIME, LocalModels
from services.common.inference.observing import observed
from services.common.inference.runtime import Runtime
from services.common.pool import Pool
from services.segmenter.models import MattingModel, Net, matting_model


class Matting:
    """Runs matting models: through the inference door, or by the library that knows them."""

    def __init__(self, runtime: Runtime, pool: Pool, *, local: LocalModels, at_once: int = 2) -> None:
        """Args:
        runtime: the inference door.
        pool: for CPU work.
        local: the models that a library runs by itself.
        at_once: most frames in such a library at the same time.
        """
        self._runtime = runtime
        self._pool = pool
        self._local = local
        self._gate = asyncio.Semaphore(at_once)
        self._opening = asyncio.Lock()
        self._nets: dict[str, Net] = {}

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
        if wanted.open is not None:
            return await self._by_library(wanted, frames)
        answer = await self._runtime.infer(wanted.name, {"image": frames})
        alpha = answer["alpha"]
        if alpha.shape != frames.shape[:3]:
            raise ModelContractMismatch(model=wanted.name, problem=f"alpha of shape {alpha.shape}")
        return await self._pool.run(quantised, alpha)

    async def ready(self, model: str) -> None:
        """Return when the model answers; raise what keeps it from doing so."""
        wanted = matting_model(model)
        if wanted.open is None:
            await self._runtime.ready([wanted.name])
        else:
            await self._net(wanted)

    async def _by_library(self, wanted: MattingModel, frames: RgbBatch) -> NDArray[np.uint8]:
        net = await self._net(wanted)
        mattes = np.empty(frames.shape[:3], np.uint8)

        async def fill(place: int) -> None:
            async with self._gate:
                # A copy: a net cannot be stopped, and the caller's memory is the caller's again when this call ends.
                mattes[place] = await self._pool.run(net, frames[place].copy())

        with observed(wanted.name, runtime=RUNTIME, items=len(frames)):
            fills = [asyncio.ensure_future(fill(place)) for place in range(len(frames))]
            try:
                await asyncio.gather(*fills)
            finally:
                for filling in fills:
                    filling.cancel()
        return mattes

    async def _net(self, wanted: MattingModel) -> Net:
        """The net, opened once for all who ask; an opening that failed is tried again by the next."""
        assert wanted.open is not None
        async with self._opening:
            if wanted.name not in self._nets:
                self._nets[wanted.name] = await self._pool.run(wanted.open, self._local)
            return self._nets[wanted.name]


def quantised(alpha: Tensor) -> NDArray[np.uint8]:
    """Alpha in [0, 1] to 1/255, rounded; what a model overshoots is cut off."""
    return np.asarray(np.clip(np.rint(alpha * np.float32(255)), 0, 255), np.uint8)
