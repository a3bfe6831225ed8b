"""The orchestrator's peers over the contract: one way to call any method of any service, JSON on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc import aio

from masquerade.v1 import compositor_pb2, detector_pb2, ingest_pb2, segmenter_pb2, swapper_pb2
from services.common.deadlines import without_deadline
from services.orchestrator.convert import from_json, to_json
from services.orchestrator.engine.port import JsonObject

_SERVICES = {
    "ingest": ingest_pb2.DESCRIPTOR.services_by_name["IngestService"],
    "detector": detector_pb2.DESCRIPTOR.services_by_name["DetectorService"],
    "swapper": swapper_pb2.DESCRIPTOR.services_by_name["SwapperService"],
    "segmenter": segmenter_pb2.DESCRIPTOR.services_by_name["SegmenterService"],
    "compositor": compositor_pb2.DESCRIPTOR.services_by_name["CompositorService"],
}


class WirePeers:
    """`Peers` over channels."""

    def __init__(self, channels: Mapping[str, aio.Channel], *, step_s: float) -> None:
        """Call these services.

        Args:
            channels: by the short name of the service.
            step_s: most seconds that one step may take.
        """
        self._channels, self._step_s = channels, step_s

    async def ask(self, rpc: str, request: JsonObject) -> JsonObject:
        """Call `service.Method` with the JSON form of its request; the JSON form of its answer."""
        service, _, name = rpc.partition(".")
        method = _SERVICES[service].methods_by_name[name]
        call = self._call(service, method)
        # A step outlives the call that submitted its job; its own limit is the only one.
        with without_deadline():
            answer = await call(
                from_json(request, message_factory.GetMessageClass(method.input_type)), timeout=self._step_s
            )
        return to_json(answer)

    def _call(self, service: str, method: MethodDescriptor) -> Any:
        answer = message_factory.GetMessageClass(method.output_type)
        return self._channels[service].unary_unary(
            f"/{_SERVICES[service].full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
