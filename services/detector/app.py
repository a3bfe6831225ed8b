"""The detector, wired: settings, models, frames, servicer. Nothing is decided here."""

from __future__ import annotations

from services.common.deps import Registration, ServiceDeps
from services.common.errors import InvalidSetting
from services.common.inference.local import LocalModels
from services.common.lanes.registry import REGIONS
from services.detector.client import IngestFrames
from services.detector.conducting import Detection
from services.detector.detectors import profile_detector
from services.detector.servicer import SERVICE, DetectorServicer
from services.detector.settings import DetectorSettings


async def build(deps: ServiceDeps, settings: DetectorSettings | None = None) -> list[Registration]:
    """Wire the service; `settings` unset means: read from the environment and the data folder."""
    chosen = settings or DetectorSettings.load()
    if deps.runtime is None:
        raise InvalidSetting(setting="runtime", problem="the detector runs models and was given no runtime")
    frames = IngestFrames(deps.channels["ingest"], segments=chosen.segments, folder=REGIONS.folder)
    detection = Detection(
        store=deps.store,
        pool=deps.pool,
        runtime=deps.runtime,
        frames=frames,
        frames_bytes=chosen.frames_bytes(),
        most_faces=chosen.max_faces,
        image_limits=chosen.image_limits(),
        local=LocalModels(chosen.model_repository, chosen.policy),
        default_detector=profile_detector(chosen.profile, chosen.policy),
        is_served_elsewhere=chosen.runtime == "triton",
    )
    servicer = DetectorServicer(detection)
    return [
        Registration(
            service=SERVICE,
            add=servicer.add_to,
            warm=detection.warm,
            close=frames.close,
        )
    ]
