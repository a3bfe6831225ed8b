"""The compositor's door: convert, call, convert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from masquerade.v1 import compositor_pb2 as pb
from masquerade.v1 import compositor_pb2_grpc
from services.compositor import convert

if TYPE_CHECKING:
    from grpc.aio import Server, ServicerContext

    from services.compositor.finishing import Finishing
    from services.compositor.rendering import Renderer

    Context = ServicerContext[Any, Any]


SERVICE = pb.DESCRIPTOR.services_by_name["CompositorService"].full_name


class CompositorServicer(compositor_pb2_grpc.CompositorServiceServicer):
    """Renders segments, puts them together, proves the result. Any replica may take any call."""

    def __init__(self, renderer: Renderer, finishing: Finishing) -> None:
        self._renderer, self._finishing = renderer, finishing

    async def RenderSegment(self, request: pb.RenderSegmentRequest, context: Context) -> pb.RenderSegmentResponse:
        """One segment into one object."""
        return convert.render_response(await self._renderer.render(convert.render_order(request)))

    async def Assemble(self, request: pb.AssembleRequest, context: Context) -> pb.AssembleResponse:
        """All segments and the source's other streams into one file."""
        return convert.assemble_response(await self._finishing.assemble(convert.assemble_order(request)))

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        """The structural gates."""
        return convert.verify_response(await self._finishing.verify(convert.verify_order(request)))

    async def Finalise(self, request: pb.FinaliseRequest, context: Context) -> pb.FinaliseResponse:
        """Record, signature, artifact."""
        finalised = await self._finishing.finalise(
            file_key=request.file_key, output_key=request.output_key, record_json=request.record_json
        )
        return convert.finalise_response(finalised)

    async def ListEncoders(self, request: pb.ListEncodersRequest, context: Context) -> pb.ListEncodersResponse:
        """The encoders, and what is done where a request says nothing."""
        return convert.list_response()


def add_to_server(servicer: CompositorServicer, server: Server) -> None:
    """Serve it."""
    compositor_pb2_grpc.add_CompositorServiceServicer_to_server(servicer, server)
