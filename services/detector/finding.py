"""Where faces may be in a frame about which nothing is known: what a detector is asked, and BlazeFace as one answer."""

from __future__ import annotations

import asyncio
import math
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

TILE_SHARE = 0.4
"""Side of a tile as a share of the picture's longer side: a face of 4 % of it is one of 10 % of the tile, about the
least that BlazeFace finds."""

OVERLAP_SHARE = 0.15
"""Least overlap of neighbours: what the whole picture shows too small for the nets is whole in one of the tiles."""


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


async def candidates_in_tiles(finder: CandidateFinder, planes: Planes) -> list[blazeface.Candidate]:
    """What may be faces in the tiles of a picture, each once, the surest first.

    Some 16 looks: for a portrait, not for the frames of a video. The tiles are looked at one after the other, so that
    a large picture is not unfolded as often as there are tiles.
    """
    found: list[blazeface.Candidate] = []
    for left, top, right, bottom in tiles(planes.width, planes.height):
        half = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
        part = Planes(planes.y[top:bottom, left:right], planes.u[half], planes.v[half], planes.colour)
        shift = np.array([left, top], np.float32)
        found += [
            blazeface.Candidate(near.box + np.tile(shift, 2), near.keypoints + shift, near.score)
            for near in await finder.candidates(part)
        ]
    return blazeface.merged(found)


def tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Overlapping squares that cover a picture, on even coordinates: x0, y0, x1, y1 in pixels, half-open."""
    side = 2 * math.ceil(TILE_SHARE * max(width, height) / 2)
    step = (TILE_SHARE - OVERLAP_SHARE) * max(width, height)

    def spans(length: int) -> list[tuple[int, int]]:
        if length <= side:
            return [(0, length)]
        count = 1 + math.ceil((length - side) / step)
        starts = [2 * round((length - side) * place / (count - 1) / 2) for place in range(count)]
        return [(start, start + side) for start in starts]

    return [(x0, y0, x1, y1) for y0, y1 in spans(height) for x0, x1 in spans(width)]
