"""What an operator may choose of the orchestrator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field, field_validator

from services.common.settings import ServiceSettings
from services.orchestrator.places import KINDS, kind_of

_PLACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class OrchestratorSettings(ServiceSettings):
    """Where jobs are kept, and how much of them runs at once."""

    service: ClassVar[str] = "orchestrator"

    executor: str = "local"
    """Stable name of this process. After a restart it takes up what this name was running; no two may share one."""

    segments_at_once: int = Field(default=2, ge=1, le=1024)
    """Segments in flight, over all jobs of this process."""

    jobs_at_once: int = Field(default=8, ge=1, le=1024)
    """Jobs in flight in this process; their segments share the places above. More than one tenant may have, so that
    another one's first job begins at once."""

    replicas: int = Field(default=1, ge=1, le=1024)
    """Orchestrators that share the database: so many times the jobs above run at once."""

    tenant_segments_at_once: int = Field(default=0, ge=0, le=1024)
    """Segments of one tenant in flight in this process; 0 lets one have all while nobody else waits."""

    dead_after_s: float = Field(default=30.0, gt=0)
    """Seconds without a sign of life after which others take over what a process was running. On PostgreSQL."""

    tenant_jobs: int = Field(default=4, ge=1, le=1024)
    """Jobs of one tenant in flight, over all processes; more of them wait."""

    tenant_waiting: int = Field(default=1000, ge=1)
    """Jobs of one tenant that may wait to begin; more are refused."""

    jobs_days: float = Field(default=30, gt=0)
    """Days that a job is kept after its end, with its artifacts."""

    face_days: float = Field(default=0, ge=0)
    """Days that what was learned of faces is kept after a job succeeded; 0 erases it with the job's end."""

    abandoned_hours: float = Field(default=24, ge=0)
    """Hours that the finished segments of a failed or cancelled job are kept for another try."""

    sweep_s: float = Field(default=600, gt=0)
    """Seconds between two looks for what has been kept long enough."""

    places: dict[str, Path] = Field(default_factory=dict)
    """Second places for results: folders by the names under which jobs ask for them. A folder must be there; with
    {tenant} in its name every tenant has its own, which is made. Without, tenants see which names are taken."""

    audit_anchors: str = ""
    """Where the audit log's newest entry is told, so that a log that was cut off is seen: a file's path, or store."""

    audit_anchor_s: float = Field(default=3600, gt=0)
    """Seconds between two anchors."""

    segment_frames: int = Field(default=0, ge=0, multiple_of=8)
    """Wanted frames in a segment where a job names none; 0 leaves it to ingest."""

    segment_attempts: int = Field(default=10, ge=1)
    """Starts of one segment before the job fails; every start counts, also those that a kill interrupted."""

    step_timeout_s: float = Field(default=6 * 3600.0, gt=0)
    """Longest time of one step: a segment, or the assembling of a whole video."""

    @field_validator("places")
    @classmethod
    def _known_places(cls, places: dict[str, Path]) -> dict[str, Path]:
        for name, where in places.items():
            if not _PLACE.fullmatch(name):
                raise ValueError(f"{name!r} is no plain name of 1 to 64 characters")
            if kind_of(where) not in KINDS:
                raise ValueError(f"{name}: there are no places of the kind {kind_of(where)}, but {', '.join(KINDS)}")
        return places

    def database_url(self) -> str:
        """The engine's database."""
        return self.database or f"sqlite:///{self.data / 'jobs.sqlite'}"
