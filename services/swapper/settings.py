"""What an operator may choose of the swapper."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ByteSize

from services.common.settings import ServiceSettings


class SwapperSettings(ServiceSettings):
    """Which engine where a job names none, and what is kept between calls."""

    service: ClassVar[str] = "swapper"

    engine: str = "mesh"
    """Swap engine where a job names none."""

    source_cache: ByteSize = ByteSize(64 << 20)
    """Most bytes of prepared identities; one of the engine mesh takes 1.4 MB, so a whole cast fits."""

    texture_cache: ByteSize = ByteSize(64 << 20)
    """Most bytes of track textures; a track takes 98 kB, so some hundred tracks of a few jobs fit."""

    @property
    def gil_bound_workers(self) -> int:
        """All of them: a swapper alone has nothing else to do."""
        return self.workers
