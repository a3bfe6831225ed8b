"""What an operator may choose of the segmenter."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.settings import ServiceSettings


class SegmenterSettings(ServiceSettings):
    """Which model where a job names none."""

    service: ClassVar[str] = "segmenter"

    model: str = ""
    """Matting model by its folder's name in model_repository/, where a job names none; empty means the profile's."""

    large_at_once: int = Field(default=2, ge=1, le=64)
    """Most frames at the same time in a model of a megapixel: each takes a core for a second and much memory."""
