"""How ingest is wired."""

from __future__ import annotations

from services.common import child
from services.common.deps import Registration, ServiceDeps
from services.ingest import decode_child
from services.ingest.assets.opening import asset_service
from services.ingest.servicer import SERVICE, IngestServicer
from services.ingest.serving import Ingest
from services.ingest.settings import IngestSettings


async def build(deps: ServiceDeps, settings: IngestSettings | None = None) -> list[Registration]:
    """Wire the service; `settings` unset means: read from the environment and the data folder."""
    settings = settings or IngestSettings.load()
    ingest = Ingest(deps.store, settings.bounds(), segment_frames=settings.segment_frames)
    servicer = IngestServicer(ingest)

    async def warm() -> None:
        # The nursery loads the decoders once; every child is forked from it in milliseconds.
        child.preload(decode_child.__name__)

    registrations = [Registration(service=SERVICE, add=servicer.add_to, warm=warm)]
    if deps.records is not None:
        limits = settings.upload_limits()
        registrations.append(asset_service(deps, deps.records, limits, uploads_days=settings.uploads_days))
    return registrations
