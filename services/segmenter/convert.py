"""Messages of the segmenter to arrays and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from masquerade.v1 import segmenter_pb2 as pb
from services.common.errors import FrameBatchInvalid
from services.common.lanes.payload import borrow_frames, place_frames
from services.common.lanes.pictures import Frames, PixelFormat
from services.segmenter.models import MattingModel

MOST_FRAMES = 64
"""Frames in one call: of the small model 7 MB and 300 ms of one core; of a megapixel a minute."""


@contextmanager
def borrowed_frames(request: pb.SegmentRequest) -> Iterator[Frames]:
    """The frames, in the caller's memory: valid inside the block.

    Raises:
        FrameBatchInvalid: they are not RGB, or too many.
    """
    with borrow_frames(request.frames, at_most=MOST_FRAMES) as frames:
        if frames.shape.format is not PixelFormat.RGB24:
            raise FrameBatchInvalid(problem="frames to segment are RGB24")
        yield frames


def segment_response(request: pb.SegmentRequest, frames: Frames, mattes: NDArray[np.uint8]) -> pb.SegmentResponse:
    """The mattes under the names of their frames, in the caller's memory if it lent some."""
    lease = request.answer_slot if request.HasField("answer_slot") else None
    named = Frames.of(mattes, first_index=frames.first_index, pts=frames.pts)
    return pb.SegmentResponse(mattes=place_frames(named, lease))


def model_info(model: MattingModel, *, is_default: bool, is_missing: bool) -> pb.MattingModelInfo:
    """One model of the list."""
    return pb.MattingModelInfo(
        name=model.name,
        width=model.width,
        height=model.height,
        is_default=is_default,
        models=[model.name],
        missing=[model.name] if is_missing else [],
    )
