"""What an operator may choose of the compositor: how many segments at once, and what each may hold."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ByteSize, Field

from services.common.settings import ServiceSettings
from services.compositor.finishing import FileLimits
from services.compositor.rendering import RenderLimits


class CompositorSettings(ServiceSettings):
    """Rendering in bounded memory, and the limits of the children that put files together."""

    service: ClassVar[str] = "compositor"

    renders: int = Field(default=2, ge=1, le=64)
    """Segments rendered at once, each with memory of its own; more wait. Two keep a machine busy while one waits for
    a model or starts its decoder."""

    batch_frames: int = Field(default=8, ge=1, le=64)
    """Frames in one call to the models. Results do not depend on it."""

    frames_at_most: int = Field(default=24, ge=6)
    """Most decoded frames that one render holds, where they are small."""

    swap_batch: ByteSize = ByteSize(4 << 20)
    """Most bytes of face crops in one call to the swapper; a larger face goes alone."""

    batch_timeout_s: float = Field(default=120.0, gt=0)
    """Time for one batch at a model. A slow machine with a large model may need more."""

    file_memory: ByteSize = ByteSize(1536 << 20)
    """Address space of a child that assembles or verifies a file."""

    file_most: ByteSize = ByteSize(64 << 30)
    """Largest file that is assembled."""

    file_timeout_s: float = Field(default=4 * 3600.0, gt=0)
    """Wall time to assemble or to verify one file."""

    def render_limits(self) -> RenderLimits:
        """What one render may hold: its share of the ring, less what the calls to the models take."""
        frames = max(int(self.ring_bytes) // self.renders - 8 * int(self.swap_batch), 16 << 20)
        return RenderLimits(
            batch_frames=self.batch_frames,
            most_frames=self.frames_at_most,
            frames_bytes=frames,
            swap_bytes=int(self.swap_batch),
        )

    def file_limits(self) -> FileLimits:
        """What a whole file may cost."""
        return FileLimits(
            memory_bytes=int(self.file_memory),
            file_bytes=int(self.file_most),
            wall_s=self.file_timeout_s,
            cpu_s=int(self.file_timeout_s),
        )
