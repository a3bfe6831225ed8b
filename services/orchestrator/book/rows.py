"""Rows of jobs, read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.common.errors import JobNotFound
from services.common.records.tables import jobs
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.failures import Failure
from services.orchestrator.progress import JobState


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as the book has it; columns of `services.common.records.tables.jobs`."""

    id: str
    tenant: str
    request_id: str
    digest: str
    asked: JsonObject
    """The spec in the caller's words."""

    spec: JsonObject
    """The spec as the engine takes it."""

    state: JobState
    attempt: int
    priority: int
    number: int
    is_admitted: bool
    rerender_of: str
    failure: Failure | None
    result: JsonObject | None
    stored_bytes: int
    created_ms: int
    changed_ms: int
    ended_ms: int | None
    expires_ms: int | None
    erased_ms: int | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to this attempt."""
        return self.state.is_final


def one(connection: sa.Connection, job: str, *, tenant: str | None = None, locked: bool = False) -> JobRow:
    """The row of a job.

    Args:
        connection: of a transaction.
        job: its id.
        tenant: who asks; None is for those inside, who see the jobs of all.
        locked: nobody else changes it until the transaction ends.

    Raises:
        JobNotFound: there is none, or it belongs to another tenant.
    """
    found = find(connection, job, locked=locked)
    if found is None or tenant not in (None, found.tenant):
        raise JobNotFound(job=job)
    return found


def find(connection: sa.Connection, job: str, *, locked: bool = False) -> JobRow | None:
    """The row of a job, or None."""
    chosen = sa.select(jobs).where(jobs.c.id == job)
    row = connection.execute(chosen.with_for_update() if locked else chosen).first()
    return None if row is None else row_of(row)


def row_of(row: Any) -> JobRow:
    """A row of the table as plain data."""
    return JobRow(
        id=row.id,
        tenant=row.tenant,
        request_id=row.request_id,
        digest=row.digest,
        asked=json.loads(row.asked),
        spec=json.loads(row.spec),
        state=JobState(row.state),
        attempt=row.attempt,
        priority=row.priority,
        number=row.number,
        is_admitted=bool(row.is_admitted),
        rerender_of=row.rerender_of,
        failure=None if row.failure is None else Failure.from_json(json.loads(row.failure)),
        result=None if row.result is None else json.loads(row.result),
        stored_bytes=row.stored_bytes,
        created_ms=row.created_ms,
        changed_ms=row.changed_ms,
        ended_ms=row.ended_ms,
        expires_ms=row.expires_ms,
        erased_ms=row.erased_ms,
    )
