"""What an operator may choose of the detector."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ByteSize, Field

from services.common.settings import ServiceSettings
from services.detector.imaging import ImageLimits


class DetectorSettings(ServiceSettings):
    """How much is looked at, and how much memory that may take."""

    service: ClassVar[str] = "detector"

    segments: int = Field(default=2, ge=1, le=64)
    """Segments analysed at once, each with memory of its own; more wait. Two keep the models busy while one waits for
    its decoder."""

    max_faces: int = Field(default=8, ge=1, le=64)
    """Most faces found in one frame where a request does not say, the largest first. Each costs about 7 CPU-ms."""

    portrait_bytes: ByteSize = ByteSize(32 << 20)
    """Largest file of a portrait."""

    portrait_pixels: int = Field(default=40_000_000, ge=4096)
    """Most pixels of a portrait: 40 million unfold to 120 MB."""

    def frames_bytes(self) -> int:
        """Bytes of decoded frames that one segment may hold: its share of the ring."""
        return max(int(self.ring_bytes) // self.segments, 16 << 20)

    def image_limits(self) -> ImageLimits:
        """What of a portrait is opened."""
        return ImageLimits(most_bytes=int(self.portrait_bytes), most_pixels=self.portrait_pixels)
