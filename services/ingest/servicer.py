"""The door of ingest: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final, TypeAlias

from grpc.aio import Server, ServicerContext

from masquerade.v1 import ingest_pb2 as pb
from masquerade.v1 import ingest_pb2_grpc
from services.common.errors import InvalidSpec
from services.common.lanes.ending import answered
from services.ingest import convert
from services.ingest.serving import Ingest

Context: TypeAlias = ServicerContext[Any, Any]


SERVICE: Final = pb.DESCRIPTOR.services_by_name["IngestService"].full_name
"""Full name, for health."""


class IngestServicer(ingest_pb2_grpc.IngestServiceServicer):
    """Probes, indexes, plans and decodes stored videos. Stateless but for open streams: any replica may answer."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def add_to(self, server: Server) -> None:
        """Answer on this server."""
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(self, server)

    async def Probe(self, request: pb.ProbeRequest, context: Context) -> pb.ProbeResponse:
        index = await self._ingest.probe(convert.key(request.asset_key, "asset_key"))
        return pb.ProbeResponse(info=convert.media_info(index))

    async def Index(self, request: pb.IndexRequest, context: Context) -> pb.IndexResponse:
        info, index = await self._ingest.index(
            convert.key(request.asset_key, "asset_key"), convert.key(request.index_key, "index_key")
        )
        return convert.index_response(info, index)

    async def Plan(self, request: pb.PlanRequest, context: Context) -> pb.PlanResponse:
        plan = await self._ingest.plan(
            convert.key(request.index_key, "index_key"),
            target=request.segment_frames,
            count=request.segments,
            keep=convert.times(request.keep),
            apply=convert.times(request.apply),
        )
        return convert.plan_response(plan)

    async def Decode(
        self, request_iterator: AsyncIterator[pb.DecodeRequest], context: Context
    ) -> AsyncIterator[pb.DecodeResponse]:
        async for response in answered(context, request_iterator, self._decode):
            yield response

    async def _decode(self, requests: AsyncIterator[pb.DecodeRequest]) -> AsyncGenerator[pb.DecodeResponse, None]:
        request = await anext(requests, None)
        if request is None or request.WhichOneof("step") != "open":
            raise InvalidSpec(field="step", problem="a stream begins with open")
        order = request.open
        asset_key = convert.key(order.asset_key, "open.asset_key")
        index = await self._ingest.read(convert.key(order.index_key, "open.index_key"))
        frames = range(order.frames.first, order.frames.last)
        views = convert.views(order.views, index)
        self._ingest.check(index, frames, views)
        decoding = self._ingest.decode(asset_key, index, frames, views, convert.grants(requests))
        async with aclosing(decoding) as given:
            async for frames_given in given:
                yield convert.decoded(frames_given, views, index)
