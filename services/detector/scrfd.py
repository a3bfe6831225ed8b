"""SCRFD (Guo et al. 2021) as InsightFace runs it: boxes with five keypoints, down to faces of some 10 pixels.

Its file has a batch of one and nine outputs that begin with the anchors, so it does not go through the inference door:
InsightFace's own class asks it, in the pool. What it finds is a candidate like BlazeFace's, no more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from services.common.errors import ModelContractMismatch
from services.common.inference.local import RUNTIME, LocalModels
from services.common.inference.observing import observed
from services.common.planes import Planes, rgb_view
from services.common.pool import Pool
from services.detector.blazeface import Candidate

if TYPE_CHECKING:
    from insightface.model_zoo import SCRFD

MODEL: Final = "scrfd_10g"
SIDE_PX: Final = 640
"""Side of its square input: what it was trained and measured with. A multiple of its largest stride, 32."""

SCORE: Final = 0.5
MERGE_IOU: Final = 0.4
"""The publisher's own values."""

_OUTPUTS: Final = 9
"""Scores, boxes and keypoints at three strides; a file with six has no keypoints, and no eye line."""


class ScrfdFaces:
    """Candidates from SCRFD; its library and weights are loaded when the first frame comes."""

    def __init__(self, models: LocalModels, pool: Pool) -> None:
        self._models = models
        self._pool = pool
        self._loading = asyncio.Lock()
        self._net: SCRFD | None = None

    async def candidates(self, planes: Planes) -> list[Candidate]:
        """See `CandidateFinder.candidates`.

        Raises:
            ModelMissing, ModelDigestMismatch, LicenceForbidden, ModelContractMismatch: the model cannot be used.
        """
        net = await self.loaded()
        with observed(MODEL, runtime=RUNTIME, items=1):
            return await self._pool.run(find, net, planes)

    async def loaded(self) -> SCRFD:
        """The net, loaded once for all who ask; a load that failed is tried again by the next."""
        async with self._loading:
            if self._net is None:
                self._net = await self._pool.run(open_net, self._models)
            return self._net


def open_net(models: LocalModels) -> SCRFD:
    """InsightFace's detector over the weights in the repository; it is given a session and so looks for no file."""
    session = models.session(MODEL)
    found = len(session.get_outputs())
    if found != _OUTPUTS:
        raise ModelContractMismatch(model=MODEL, problem=f"{found} outputs, {_OUTPUTS} are needed")
    from insightface.model_zoo import SCRFD

    # One session for every size: its own way makes another session, in memory, for each.
    net = SCRFD(session=session, static_shape_sessions=False)
    net.det_thresh, net.nms_thresh = SCORE, MERGE_IOU
    return net


def find(net: SCRFD, planes: Planes) -> list[Candidate]:
    """The candidates of one frame, surest first.

    The frame is shrunk by area to fit the square and lies at its top left, as the net is used to; InsightFace would
    shrink it bilinearly, and lose small faces.
    """
    square, scale = fitted(planes)
    # The class takes B, G, R, as its OpenCV gives it, and turns it round for the net.
    boxes, keypoints = net.detect(np.ascontiguousarray(square[..., ::-1]), input_size=(SIDE_PX, SIDE_PX))
    to_frame = 1 / np.asarray(scale, np.float64)
    found = []
    for (*corners, score), places in zip(boxes.tolist(), keypoints, strict=True):
        box = (np.asarray(corners, np.float64).reshape(2, 2) * to_frame).astype(np.float32).reshape(4)
        if box[2] - box[0] > 1 and box[3] - box[1] > 1:
            found.append(Candidate(box, (places * to_frame).astype(np.float32), float(score)))
    return found


def fitted(planes: Planes) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """The whole frame at the top left of a black square.

    Returns:
        (SIDE_PX, SIDE_PX, 3) uint8 RGB, and the scale from the frame to it, across and down.
    """
    longer = max(planes.width, planes.height)
    width = max(1, round(planes.width * SIDE_PX / longer))
    height = max(1, round(planes.height * SIDE_PX / longer))
    square = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    square[:height, :width] = rgb_view(planes, width=width, height=height)
    return square, (width / planes.width, height / planes.height)
