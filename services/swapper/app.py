"""How the swapper is wired."""

from __future__ import annotations

from functools import partial

from masquerade import facemesh
from services.common.deps import Registration, ServiceDeps
from services.common.errors import ModelMissing
from services.common.inference.models import without_weights
from services.common.running import run_service
from services.swapper.mesh.engine import warm as warm_mesh
from services.swapper.registry import engine
from services.swapper.servicer import SERVICE, SwapperServicer
from services.swapper.settings import SwapperSettings
from services.swapper.swapping import Swapping


async def build(deps: ServiceDeps, settings: SwapperSettings | None = None) -> list[Registration]:
    """Wire the service; `settings` unset means: read from the environment and the data folder."""
    settings = settings or SwapperSettings.load()
    engine(settings.engine)
    facemesh.use_repository(settings.model_repository)
    swapping = Swapping(
        deps.store, deps.pool, source_bytes=int(settings.source_cache), texture_bytes=int(settings.texture_cache)
    )
    servicer = SwapperServicer(
        swapping, default_engine=settings.engine, missing=partial(without_weights, settings.model_repository)
    )

    async def warm() -> None:
        try:
            await deps.pool.run(warm_mesh)
        except FileNotFoundError as error:
            raise ModelMissing(model="facemesh", path=error.filename) from error

    return [
        Registration(
            service=SERVICE,
            add=servicer.add_to,
            warm=warm,
        )
    ]


def main() -> None:
    """Serve alone in this process."""
    run_service(SwapperSettings, build)
