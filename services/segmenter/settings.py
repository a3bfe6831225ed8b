"""What an operator may choose of the segmenter."""

from __future__ import annotations

from typing import ClassVar

from services.common.settings import ServiceSettings


class SegmenterSettings(ServiceSettings):
    """Which model where a job names none."""

    service: ClassVar[str] = "segmenter"

    model: str = "selfie"
    """Matting model by its folder's name in model_repository/, where a job names none."""
