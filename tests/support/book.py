"""A book of jobs in a database of its own, without an engine behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from services.common.records.database import Records
from services.common.records.tables import audit
from services.orchestrator.book import creating, moving
from services.orchestrator.book.creating import NewJob
from services.orchestrator.book.rows import JobRow
from services.orchestrator.progress import JobState

KEEP_MS = 1000


def wanted(request: str, *, tenant: str = "anna", asked: Mapping[str, Any] | None = None, **more: Any) -> NewJob:
    """A job as it is asked for."""
    spec = {"asset_key": f"{tenant}/assets/video", **(asked or {})}
    return NewJob(tenant=tenant, actor=f"key:{tenant}", request_id=request, asked=spec, spec=spec, **more)


async def made(records: Records, request: str, *, most_waiting: int = 1000, **more: Any) -> JobRow:
    """A new job in the book, or the one that was there."""
    new = wanted(request, **more)
    row, _ = await records.write(lambda connection: creating.create(connection, new, most_waiting=most_waiting))
    return row


async def ended(
    records: Records, row: JobRow, state: JobState = JobState.FAILED, *, attempt: int | None = None, **more: Any
) -> bool:
    """End a job's attempt; whether that ended it."""
    number = row.attempt if attempt is None else attempt
    return await records.write(
        lambda connection: moving.end(connection, row.id, number, state, **{"keep_ms": KEEP_MS, **more})
    )


async def entered(records: Records, row: JobRow, state: JobState, *, attempt: int = 0) -> None:
    """A job comes into a state."""
    await records.write(lambda connection: moving.enter(connection, row.id, attempt, state))


async def lines(records: Records) -> Sequence[tuple[str, str]]:
    """Action and object of each line of the audit log."""
    chosen = sa.select(audit.c.action, audit.c.object).order_by(audit.c.sequence)
    return [(row.action, row.object) for row in await records.read(lambda connection: connection.execute(chosen).all())]
