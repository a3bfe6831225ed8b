"""How the segmenter is wired."""

from __future__ import annotations

from services.common.deps import Registration, ServiceDeps
from services.common.errors import RuntimeUnavailable
from services.common.inference.local import LocalModels
from services.common.inference.models import without_weights
from services.common.running import run_service
from services.segmenter.matting import Matting
from services.segmenter.models import MattingModel, matting_model, profile_model
from services.segmenter.servicer import SERVICE, SegmenterServicer
from services.segmenter.settings import SegmenterSettings


async def build(deps: ServiceDeps, settings: SegmenterSettings | None = None) -> list[Registration]:
    """Wire the service; `settings` unset means: read from the environment and the data folder."""
    settings = settings or SegmenterSettings.load()
    model = matting_model(settings.model or profile_model(settings.profile))
    runtime = deps.runtime
    if runtime is None:
        raise RuntimeUnavailable(detail="the segmenter was wired without a runtime")
    local = LocalModels(settings.model_repository, settings.policy)
    matting = Matting(runtime, deps.pool, local=local, at_once=settings.large_at_once)

    def is_missing(known: MattingModel) -> bool:
        # A server has a repository of its own.
        is_ours = known.open is not None or settings.runtime != "triton"
        return is_ours and bool(without_weights(settings.model_repository, [known.name]))

    servicer = SegmenterServicer(matting, default_model=model.name, is_missing=is_missing)

    async def warm() -> None:
        await matting.ready(model.name)

    return [
        Registration(
            service=SERVICE,
            add=servicer.add_to,
            warm=warm,
        )
    ]


def main() -> None:
    """Serve alone in this process."""
    run_service(SegmenterSettings, build)
