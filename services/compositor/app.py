"""The compositor, wired: settings, memory, peers, servicer. Nothing is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.common import child
from services.common.deps import Registration, ServiceDeps
from services.common.lanes.registry import REGIONS
from services.compositor import children
from services.compositor.client import WireModels, WirePeers
from services.compositor.desks import Desks
from services.compositor.finishing import Finishing
from services.compositor.rendering import Renderer
from services.compositor.servicer import SERVICE, CompositorServicer, add_to_server
from services.compositor.settings import CompositorSettings

if TYPE_CHECKING:
    from services.common.lanes.handshake import Lanes
    from services.compositor.peers import Peers


async def build(deps: ServiceDeps, settings: CompositorSettings | None = None) -> list[Registration]:
    """Wire the service; `settings` unset means: read from the environment and the data folder."""
    chosen = settings or CompositorSettings.load()

    def peers_at(lanes: Lanes) -> Peers:
        return WirePeers(deps.channels, lanes, call_s=chosen.batch_timeout_s)

    deps.scratch.mkdir(parents=True, exist_ok=True)
    desks = Desks(chosen.renders, peers_at, folder=REGIONS.folder)
    renderer = Renderer(
        store=deps.store,
        pool=deps.pool,
        desks=desks,
        models=WireModels(deps.channels, call_s=chosen.batch_timeout_s),
        scratch=deps.scratch,
        limits=chosen.render_limits(),
        digests=chosen.plane_digests,
    )
    finishing = Finishing(store=deps.store, scratch=deps.scratch, limits=chosen.file_limits())
    servicer = CompositorServicer(renderer, finishing)

    async def warm() -> None:
        # The nursery loads the muxers once; every child is forked from it in milliseconds.
        child.preload(children.__name__)

    return [
        Registration(SERVICE, lambda server: add_to_server(servicer, server), warm=warm, close=desks.close),
    ]
