"""How the segmenter is wired."""

from __future__ import annotations

from masquerade.v1 import segmenter_pb2
from masquerade.v1.segmenter_pb2_grpc import add_SegmenterServiceServicer_to_server
from services.common.deps import Registration, ServiceDeps
from services.common.errors import RuntimeUnavailable
from services.segmenter.matting import Matting
from services.segmenter.models import matting_model
from services.segmenter.servicer import SegmenterServicer
from services.segmenter.settings import SegmenterSettings


async def build(deps: ServiceDeps, settings: SegmenterSettings | None = None) -> list[Registration]:
    """Wire the service; `settings` unset means: read from the environment and the data folder."""
    settings = settings or SegmenterSettings.load()
    model = matting_model(settings.model)
    runtime = deps.runtime
    if runtime is None:
        raise RuntimeUnavailable(detail="the segmenter was wired without a runtime")
    servicer = SegmenterServicer(Matting(runtime, deps.pool), default_model=model.name)

    async def warm() -> None:
        await runtime.ready([model.name])

    return [
        Registration(
            service=segmenter_pb2.DESCRIPTOR.services_by_name["SegmenterService"].full_name,
            add=lambda server: add_SegmenterServiceServicer_to_server(servicer, server),
            warm=warm,
        )
    ]
