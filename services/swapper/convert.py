"""Messages of the swapper to dataclasses and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from masquerade.v1 import swapper_pb2 as pb
from services.common.errors import FrameBatchInvalid, InvalidSpec
from services.common.lanes.payload import borrow_pictures, place_pictures
from services.common.lanes.pictures import Picture
from services.swapper.engines import FaceCrop, Patch, SwapEngine
from services.swapper.swapping import SwapOrder, TrackedFace

MOST_FACES = 256
"""Faces in one call. A crowd of them in eight frames still fits; more is a caller that lost its bound."""

_LANDMARKS = (478, 3)
_LANDMARK_BYTES = _LANDMARKS[0] * _LANDMARKS[1] * 4

_FARTHEST_PX = 1e5
"""Landmarks lie in or near their crop; what is farther than any frame is large would overflow fixed point."""

_EMPTY_RGB = np.zeros((0, 0, 3), np.uint8)
_EMPTY_ALPHA = np.zeros((0, 0), np.uint8)


def order(request: pb.SwapRequest, *, default_engine: str) -> SwapOrder:
    """What all faces of the request have in common."""
    if not request.identity_key:
        raise InvalidSpec(field="identity_key", problem="is empty")
    return SwapOrder(
        identity_key=request.identity_key,
        engine=request.engine or default_engine,
        options=dict(request.options),
        textures_key=request.textures_key,
    )


@contextmanager
def borrowed_faces(request: pb.SwapRequest) -> Iterator[list[TrackedFace]]:
    """The faces, their pixels in the caller's memory: valid inside the block.

    Raises:
        FrameBatchInvalid: crops and faces do not belong together, or one of them cannot be.
    """
    if len(request.crops.images) != len(request.faces):
        raise FrameBatchInvalid(problem=f"{len(request.crops.images)} crops for {len(request.faces)} faces")
    with borrow_pictures(request.crops, at_most=MOST_FACES) as crops:
        yield [_face(face, crop) for face, crop in zip(request.faces, crops, strict=True)]


def _face(message: pb.SwapFace, crop: Picture) -> TrackedFace:
    if not isinstance(crop, np.ndarray) or crop.ndim != 3 or not crop.size:
        raise FrameBatchInvalid(problem=f"the crop of track {message.track} in frame {message.index} is not RGB")
    if len(message.landmarks) != _LANDMARK_BYTES:
        raise FrameBatchInvalid(problem=f"landmarks have {_LANDMARK_BYTES} bytes, not {len(message.landmarks)}")
    points = np.frombuffer(message.landmarks, "<f4").reshape(_LANDMARKS).astype(np.float32)
    # Written so that a NaN fails as well.
    if not bool(np.all(np.abs(points) < _FARTHEST_PX)):
        raise FrameBatchInvalid(problem=f"landmarks of track {message.track} in frame {message.index} cannot be")
    if not 0 <= message.weight <= 1:
        raise FrameBatchInvalid(problem=f"weight {message.weight} is not in [0, 1]")
    face = FaceCrop(
        rgb=crop,
        points=points,
        weight=message.weight,
        yaw_degrees=message.yaw_degrees,
        pitch_degrees=message.pitch_degrees,
        roll_degrees=message.roll_degrees,
    )
    return TrackedFace(track=message.track, face=face)


def swap_response(request: pb.SwapRequest, patches: Sequence[Patch | None]) -> pb.SwapResponse:
    """The patches, their pixels in the caller's memory if it lent some."""
    colours = [_EMPTY_RGB if patch is None else patch.rgb for patch in patches]
    alphas = [_EMPTY_ALPHA if patch is None else patch.alpha for patch in patches]
    lease = request.answer_slot if request.HasField("answer_slot") else None
    return pb.SwapResponse(
        patches=[
            pb.Patch(
                index=face.index,
                track=face.track,
                affine=[] if patch is None else patch.affine.ravel().tolist(),
                is_empty=patch is None,
            )
            for face, patch in zip(request.faces, patches, strict=True)
        ],
        pixels=place_pictures([*colours, *alphas], lease),
    )


def engine_info(engine: SwapEngine, *, is_default: bool, missing: Sequence[str]) -> pb.SwapEngineInfo:
    """One engine of the list; `missing` are those of its models that have no weights."""
    return pb.SwapEngineInfo(
        name=engine.name,
        description=engine.description,
        options=dict(engine.options),
        models=list(engine.models),
        is_default=is_default,
        choices=[pb.OptionChoices(option=option, values=values) for option, values in engine.choices.items()],
        missing=missing,
    )
