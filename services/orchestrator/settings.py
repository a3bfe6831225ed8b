"""What an operator may choose of the orchestrator."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.settings import ServiceSettings


class OrchestratorSettings(ServiceSettings):
    """Where jobs are kept, and how much of them runs at once."""

    service: ClassVar[str] = "orchestrator"

    executor: str = "local"
    """Stable name of this process. After a restart it takes up what this name was running; no two may share one."""

    segments_at_once: int = Field(default=2, ge=1, le=1024)
    """Segments in flight, over all jobs of this process."""

    jobs_at_once: int = Field(default=4, ge=1, le=1024)
    """Jobs in flight; their segments share the places above."""

    segment_frames: int = Field(default=0, ge=0, multiple_of=8)
    """Wanted frames in a segment where a job names none; 0 leaves it to ingest."""

    segment_attempts: int = Field(default=10, ge=1)
    """Starts of one segment before the job fails; every start counts, also those that a kill interrupted."""

    step_timeout_s: float = Field(default=6 * 3600.0, gt=0)
    """Longest time of one step: a segment, or the assembling of a whole video."""

    def database_url(self) -> str:
        """The engine's database."""
        return self.database or f"sqlite:///{self.data / 'jobs.sqlite'}"
