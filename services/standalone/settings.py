"""What may be chosen for the command itself."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.settings import ServiceSettings


class StandaloneSettings(ServiceSettings):
    """Settings of `masquerade`."""

    service: ClassVar[str] = "standalone"

    drain_s: float = Field(default=5.0, ge=0)
    """Seconds that running calls get to finish when the command is told to stop; its job goes on another time."""

    log_days: float = Field(default=30.0, gt=0)
    """Days for which lines stay in the data folder's log."""

    kept_hours: float = Field(default=24.0, ge=0)
    """Hours for which inputs and finished segments stay in the data folder after a job was last worked on."""
