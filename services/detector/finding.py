"""Where faces may be in a frame about which nothing is known: what a detector is asked, and BlazeFace as one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.common.arrays import Rgb
from services.common.planes import Planes
from services.common.pool import Pool
from services.detector import blazeface
from services.detector.batching import Answers, Batcher

RANGES = (blazeface.SHORT_RANGE, blazeface.FULL_RANGE)


class Inference(Protocol):
    """The part of the inference door that looking needs."""

    async def infer(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Named outputs, batched on axis 0."""
        ...


class CandidateFinder(Protocol):
    """Finds what may be faces. The landmark net decides what is one, whoever found it."""

    async def candidates(self, planes: Planes) -> list[blazeface.Candidate]:
        """Each once, the surest first; from this frame's pixels alone."""
        ...


def picture_batcher(inference: Inference, model: str, *, most: int, in_flight: int) -> Batcher:
    """Single pictures to a model, in batches as they come together."""

    async def infer(images: NDArray[np.uint8]) -> Answers:
        return await inference.infer(model, {"image": images})

    return Batcher(infer, most=most, in_flight=in_flight)


class BlazeFaces:
    """Both ranges of BlazeFace through the inference door."""

    def __init__(self, inference: Inference, pool: Pool, *, batch: int = 16, in_flight: int = 2) -> None:
        self._pool = pool
        self._models = {r.model: picture_batcher(inference, r.model, most=batch, in_flight=in_flight) for r in RANGES}

    async def candidates(self, planes: Planes) -> list[blazeface.Candidate]:
        """See `CandidateFinder.candidates`."""
        squares = await self._pool.run(_letterboxes, planes)
        asked = zip(RANGES, squares, strict=True)
        answers = await asyncio.gather(*(self._models[r.model].one(image) for r, (image, _) in asked))
        found: list[blazeface.Candidate] = []
        for net, (_, placed), answer in zip(RANGES, squares, answers, strict=True):
            found += blazeface.candidates(
                answer["boxes"], answer["keypoints"], answer["scores"], placed=placed, threshold=net.threshold
            )
        return blazeface.merged(found)


def _letterboxes(planes: Planes) -> list[tuple[Rgb, blazeface.Letterbox]]:
    return [blazeface.letterbox(planes, net.size) for net in RANGES]
