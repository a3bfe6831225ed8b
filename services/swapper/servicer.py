"""The swapper's door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import grpc.aio

from masquerade.v1 import swapper_pb2 as pb
from masquerade.v1 import swapper_pb2_grpc
from services.swapper import convert
from services.swapper.registry import engines
from services.swapper.swapping import Swapping

SERVICE: Final = pb.DESCRIPTOR.services_by_name["SwapperService"].full_name
"""Full name, for health."""


class SwapperServicer(swapper_pb2_grpc.SwapperServiceServicer):
    """A face onto a face. Stateless: any replica may answer any batch."""

    def __init__(
        self, swapping: Swapping, *, default_engine: str, missing: Callable[[Sequence[str]], Sequence[str]]
    ) -> None:
        """Args:
        swapping: what is done.
        default_engine: where a request names none.
        missing: which of some models have no weights here.
        """
        self._swapping, self._default_engine, self._missing = swapping, default_engine, missing

    def add_to(self, server: grpc.aio.Server) -> None:
        """Answer on this server."""
        swapper_pb2_grpc.add_SwapperServiceServicer_to_server(self, server)

    async def Swap(self, request: pb.SwapRequest, context: grpc.aio.ServicerContext[object, object]) -> pb.SwapResponse:
        """A patch for each face, in the order asked."""
        order = convert.order(request, default_engine=self._default_engine)
        with convert.borrowed_faces(request) as faces:
            patches = await self._swapping.swap(order, faces)
            # Inside the block: an engine may answer with the very pixels that it was sent.
            return convert.swap_response(request, patches)

    async def ListEngines(
        self, request: pb.ListEnginesRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> pb.ListEnginesResponse:
        """The engines that are registered, with their options."""
        return pb.ListEnginesResponse(
            engines=[
                convert.engine_info(
                    engine, is_default=engine.name == self._default_engine, missing=self._missing(engine.models)
                )
                for engine in engines()
            ]
        )
