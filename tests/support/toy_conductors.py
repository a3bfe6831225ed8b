"""The toys that an orchestrator asks, behind real servers: what reaches a conductor reaches them over the wire."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from masquerade.v1 import compositor_pb2, detector_pb2, ingest_pb2, segmenter_pb2, swapper_pb2
from services.common.channels import build_channel
from services.common.deps import Registration
from services.common.server import build_server
from services.common.settings import ServiceSettings
from services.orchestrator.client import WirePeers
from services.orchestrator.convert import from_json, to_json
from tests.support.toy_peers import ToyPeers

MODULES = {
    "ingest": (ingest_pb2, "IngestService"),
    "detector": (detector_pb2, "DetectorService"),
    "swapper": (swapper_pb2, "SwapperService"),
    "segmenter": (segmenter_pb2, "SegmenterService"),
    "compositor": (compositor_pb2, "CompositorService"),
}


@contextlib.asynccontextmanager
async def conductors(toys: ToyPeers) -> AsyncIterator[WirePeers]:
    """Serve the toys, all on one address; answers peers that call them there."""
    settings = ServiceSettings.load({"listen": "127.0.0.1:0", "drain_s": 0.0})
    server = build_server([_registration(name, toys) for name in MODULES], settings)
    await server.start()
    try:
        async with build_channel(server.target, peer="a toy") as channel:
            yield WirePeers(dict.fromkeys(MODULES, channel), step_s=120)
    finally:
        await server.stop(drain_s=0)


def _registration(name: str, toys: ToyPeers) -> Registration:
    module, service = MODULES[name]
    described = module.DESCRIPTOR.services_by_name[service]
    methods = {
        method.name: _handler(name, method, toys)
        for method in described.methods
        if not method.client_streaming and not method.server_streaming
    }
    handlers = grpc.method_handlers_generic_handler(described.full_name, methods)
    return Registration(described.full_name, lambda server: server.add_generic_rpc_handlers((handlers,)))


def _handler(service: str, method: MethodDescriptor, toys: ToyPeers) -> Any:
    request_type, answer_type = (
        message_factory.GetMessageClass(each) for each in (method.input_type, method.output_type)
    )

    async def answer(request: Any, _context: Any) -> Any:
        return from_json(await toys.ask(f"{service}.{method.name}", to_json(request)), answer_type)

    return grpc.unary_unary_rpc_method_handler(
        answer,  # type: ignore[arg-type]
        request_deserializer=request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
