"""Videos in which faces are orange ellipses, and a runtime that finds those: the detector without weights.

The answers have the shapes and the meaning of the real models', so everything round the models is the real thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade import facemesh
from masquerade.facemesh import TexelGrid
from services.common.colour import ColourTags
from services.common.planes import Planes, rgb_to_planes
from services.detector.conducting import FramesWanted
from tests.support.faces import face_points

WIDTH, HEIGHT = 320, 180
COLOUR = ColourTags(matrix=1, range=2, primaries=1, transfer=1)
SKIN = (235, 120, 30)


@dataclass(frozen=True, slots=True)
class Face:
    """An orange ellipse: middle and width in pixels, in a tone of its own."""

    x: float
    y: float
    width: float = 48.0
    tone: int = 0


def picture(faces: Iterable[Face], *, scene: int = 0, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """(h, w, 3) uint8: a bluish scene with faces in it."""
    few = np.random.default_rng(scene).integers(0, 140, (9, 16), dtype=np.uint8)
    wall = cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC)
    rgb = np.stack([wall // 4, wall // 2, wall], axis=-1).astype(np.uint8)
    for face in faces:
        centre = (round(face.x * 16), round(face.y * 16))
        axes = (round(face.width * 8), round(face.width * 10))
        cv2.ellipse(rgb, centre, axes, 0, 0, 360, (SKIN[0], SKIN[1] - face.tone, SKIN[2] + face.tone), -1, shift=4)
    return rgb


def planes(faces: Iterable[Face], *, scene: int = 0) -> Planes:
    """The same as a decoded frame."""
    return rgb_to_planes(picture(faces, scene=scene), COLOUR)


@dataclass(slots=True)
class LentFrame:
    """A frame as ingest lends it; a look after its release fails."""

    index: int
    held: Planes | None

    @property
    def planes(self) -> Planes | None:
        return self.held

    def release(self) -> None:
        self.held = None


@dataclass(slots=True)
class Film:
    """Frames by number, lent like ingest's, and how many were lent at once."""

    frames: Sequence[Planes]
    lent: list[LentFrame] = field(default_factory=list)
    most_lent: int = 0

    async def between(self, first: int, last: int) -> AsyncIterator[LentFrame]:
        for index in range(first, last):
            await asyncio.sleep(0)
            frame = LentFrame(index, self.frames[index])
            self.lent = [*(other for other in self.lent if other.held is not None), frame]
            self.most_lent = max(self.most_lent, len(self.lent))
            yield frame

    @asynccontextmanager
    async def pull(self, wanted: FramesWanted) -> AsyncIterator[AsyncIterator[LentFrame]]:
        yield self.between(wanted.first, wanted.last)


class OrangeRuntime:
    """Finds orange. `blind` frames' detectors see nothing; the landmark net sees all."""

    name = "orange"

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []

    async def infer(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        images = inputs["image"]
        self.batches.append((model, len(images)))
        await asyncio.sleep(0)
        if model == "facemesh":
            return _meshes(images)
        return _boxes(images, anchors=896 if model == "blazeface_short" else 2304)

    async def ready(self, models: Iterable[str]) -> None:
        return None

    def digests(self) -> dict[str, str]:
        return {"facemesh": "0" * 64}

    async def close(self) -> None:
        return None


def _orange(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    red, blue = image[..., 0].astype(np.int16), image[..., 2].astype(np.int16)
    return np.asarray((red - blue > 90).astype(np.uint8), np.uint8)


def _extents(image: NDArray[np.uint8]) -> list[tuple[float, float, float, float]]:
    count, _, stats, _ = cv2.connectedComponentsWithStats(_orange(image))
    return [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:count].tolist() if area >= 12]


def _boxes(images: NDArray[np.uint8], *, anchors: int) -> dict[str, NDArray[Any]]:
    size = images.shape[1]
    boxes = np.zeros((len(images), anchors, 4), np.float32)
    keypoints = np.zeros((len(images), anchors, 6, 2), np.float32)
    scores = np.zeros((len(images), anchors), np.float32)
    for row, image in enumerate(images):
        for place, (x0, y0, x1, y1) in enumerate(_extents(image)):
            boxes[row, place] = np.array([x0, y0, x1, y1]) / size
            middle, eyes = (x0 + x1) / 2, y0 + 0.4 * (y1 - y0)
            across = 0.25 * (x1 - x0)
            keypoints[row, place] = np.array([middle, eyes]) / size
            keypoints[row, place, 0] = np.array([middle - across, eyes]) / size
            keypoints[row, place, 1] = np.array([middle + across, eyes]) / size
            scores[row, place] = 0.95
    return {"boxes": boxes, "keypoints": keypoints, "scores": scores}


def _meshes(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    points = np.zeros((len(images), 478, 3), np.float32)
    presence = np.zeros(len(images), np.float32)
    for row, image in enumerate(images):
        middle = image.shape[0] / 2
        # The face in the middle of the crop, as the net was trained: others at its edge are not meant.
        found = [box for box in _extents(image) if box[0] < middle < box[2] and box[1] < middle < box[3]]
        if found:
            x0, y0, x1, y1 = found[0]
            points[row] = face_points(x1 - x0, at=(x0, y0), height_px=y1 - y0)
            presence[row] = 0.99
    return {"points": points, "presence": presence}


def coarse_grid() -> TexelGrid:
    """A texel grid that needs no topology: each texel takes the nearest landmark."""
    layout = facemesh.mesh_space().astype(np.float64)
    ys, xs = (np.mgrid[0:64, 0:64] + 0.5) / 64
    places = np.stack([xs.ravel(), ys.ravel()], axis=1)
    nearest = ((places[:, None] - layout[None]) ** 2).sum(axis=-1).argmin(axis=1).reshape(64, 64)
    corners = np.repeat(nearest[..., None], 3, axis=2).astype(np.int32)
    weights = np.zeros((64, 64, 3), np.float32)
    weights[..., 0] = 1
    return TexelGrid(corners=corners, weights=weights, inside=np.ones((64, 64), np.bool_))
