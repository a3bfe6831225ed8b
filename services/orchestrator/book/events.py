"""What happened to a job, in the order of its way: one row for each state entered and each finished segment.

The number of a row says where on the way it stands and not when it was written, so a step that is done again after a
crash writes the same row, and finds it there.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from services.common.records.database import insert_or_ignore
from services.common.records.tables import job_events
from services.orchestrator.progress import JobState, Snapshot

PAGE: Final = 500
"""Rows that a watcher reads at once."""


@dataclass(frozen=True, slots=True)
class Change:
    """When a job came into a state."""

    state: JobState
    attempt: int
    time_ms: int


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


def add(connection: sa.Connection, job: str, *places: Snapshot) -> None:
    """Write places on a job's way down; those that are there already stay as they are."""
    if not places:
        return
    rows = [
        {
            "job": job,
            "sequence": place.sequence,
            "attempt": place.attempt,
            "state": int(place.state),
            "frames_done": place.frames_done,
            "frames_total": place.frames_total,
            "time_ms": place.time_ms or now_ms(),
        }
        for place in places
    ]
    connection.execute(insert_or_ignore(connection, job_events), rows)


def since(connection: sa.Connection, job: str, sequence: int, *, most: int = PAGE) -> list[Snapshot]:
    """The next places from a number on, in order."""
    chosen = (
        sa.select(job_events)
        .where(job_events.c.job == job, job_events.c.sequence >= sequence)
        .order_by(job_events.c.sequence)
        .limit(most)
    )
    return [_place(row) for row in connection.execute(chosen)]


def last(connection: sa.Connection, jobs: Sequence[str]) -> Mapping[str, Snapshot]:
    """The furthest place of each job."""
    furthest = (
        sa.select(job_events.c.job, sa.func.max(job_events.c.sequence).label("sequence"))
        .where(job_events.c.job.in_(jobs))
        .group_by(job_events.c.job)
        .subquery()
    )
    joined = sa.and_(job_events.c.job == furthest.c.job, job_events.c.sequence == furthest.c.sequence)
    rows = connection.execute(sa.select(job_events).join(furthest, joined))
    return {row.job: _place(row) for row in rows}


def history(connection: sa.Connection, jobs: Sequence[str]) -> Mapping[str, list[Change]]:
    """The states that each job went through, oldest first."""
    entered = sa.func.min(job_events.c.time_ms)
    rows = connection.execute(
        sa.select(job_events.c.job, job_events.c.attempt, job_events.c.state, entered.label("time_ms"))
        .where(job_events.c.job.in_(jobs))
        .group_by(job_events.c.job, job_events.c.attempt, job_events.c.state)
        .order_by(job_events.c.attempt, job_events.c.state)
    )
    changes: dict[str, list[Change]] = defaultdict(list)
    for row in rows:
        changes[row.job].append(Change(JobState(row.state), row.attempt, row.time_ms))
    return changes


def _place(row: Any) -> Snapshot:
    return Snapshot(JobState(row.state), row.frames_done, row.frames_total, attempt=row.attempt, time_ms=row.time_ms)
