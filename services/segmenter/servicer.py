"""The segmenter's door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import grpc.aio

from masquerade.v1 import segmenter_pb2 as pb
from masquerade.v1 import segmenter_pb2_grpc
from services.segmenter import convert
from services.segmenter.matting import Matting
from services.segmenter.models import MattingModel, matting_models

SERVICE: Final = pb.DESCRIPTOR.services_by_name["SegmenterService"].full_name
"""Full name, for health."""


class SegmenterServicer(segmenter_pb2_grpc.SegmenterServiceServicer):
    """Mattes for batches of small frames. Stateless: any replica may answer any batch."""

    def __init__(self, matting: Matting, *, default_model: str, is_missing: Callable[[MattingModel], bool]) -> None:
        """Args:
        matting: what is done.
        default_model: where a request names none.
        is_missing: whether a model has no weights here.
        """
        self._matting, self._default_model, self._is_missing = matting, default_model, is_missing

    def add_to(self, server: grpc.aio.Server) -> None:
        """Answer on this server."""
        segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(self, server)

    async def Segment(
        self, request: pb.SegmentRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> pb.SegmentResponse:
        """One matte for each frame, in the order asked."""
        with convert.borrowed_frames(request) as frames:
            mattes = await self._matting.segment(frames.pixels, model=request.model or self._default_model)
            return convert.segment_response(request, frames, mattes)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> pb.ListModelsResponse:
        """The matting models that are registered, the default first."""
        models = sorted(matting_models(), key=lambda model: model.name != self._default_model)
        return pb.ListModelsResponse(
            models=[
                convert.model_info(
                    model, is_default=model.name == self._default_model, is_missing=self._is_missing(model)
                )
                for model in models
            ]
        )
