"""Who begins next: by priority, then in turns among tenants, then by number.

The engine would start whatever it is given. So it is given only what may start: no more jobs of one tenant than may
run, and of those that wait the first job of a tenant that has little running before the hundredth of one that floods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from services.common.records.tables import jobs
from services.orchestrator.book import events
from services.orchestrator.book.rows import JobRow, row_of
from services.orchestrator.progress import JobState

_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(hashtext('masquerade.admission'))")
_ENDED = int(JobState.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs run at once."""

    in_all: int
    of_a_tenant: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that has not begun."""

    job: str
    tenant: str
    priority: int
    number: int


def choose(waiting: Sequence[Waiting], running: Mapping[str, int], limits: Limits) -> list[Waiting]:
    """Those that may begin now, in the order in which they do.

    Within a priority the tenant with the fewest jobs goes first, and of two that have as many the one that has waited
    longer. A tenant's own jobs begin in the order of their numbers.

    Args:
        waiting: the first ones of each tenant, at least as many as could begin.
        running: jobs that have begun, by tenant.
        limits: how many may.
    """
    counts, chosen = Counter(running), list[Waiting]()
    left = sorted(waiting, key=lambda each: (each.priority, each.number))
    while sum(counts.values()) < limits.in_all:
        able = [each for each in left if counts[each.tenant] < limits.of_a_tenant]
        if not able:
            break
        # min keeps the first of equals: the one with the lowest number.
        first = min(able, key=lambda each: (each.priority, counts[each.tenant]))
        chosen.append(first)
        left.remove(first)
        counts[first.tenant] += 1
    return chosen


def anyone_waits(connection: sa.Connection) -> bool:
    """Whether there is a job that has not begun: a look that costs next to nothing."""
    chosen = sa.select(jobs.c.id).where(jobs.c.state == int(JobState.QUEUED), ~jobs.c.is_admitted).limit(1)
    return connection.execute(chosen).first() is not None


def admit(connection: sa.Connection, limits: Limits) -> list[JobRow]:
    """Mark those that may begin as admitted; answers them in their order.

    One admitter at a time: on PostgreSQL whoever finds another one at it leaves it to that one.

    Args:
        connection: of a writing transaction.
        limits: how many may run.
    """
    if connection.dialect.name != "sqlite" and not connection.execute(_LOCK).scalar_one():
        return []
    begun = sa.select(jobs.c.tenant, sa.func.count()).where(jobs.c.is_admitted).group_by(jobs.c.tenant)
    running: dict[str, int] = {row[0]: row[1] for row in connection.execute(begun)}
    free = limits.in_all - sum(running.values())
    if free <= 0:
        return []
    chosen = [each.job for each in choose(_first_of_each_tenant(connection, free), running, limits)]
    if not chosen:
        return []
    values = {"is_admitted": True, "changed_ms": events.now_ms()}
    still = sa.and_(jobs.c.id.in_(chosen), jobs.c.state == int(JobState.QUEUED))
    connection.execute(sa.update(jobs).where(still).values(**values))
    rows = {row.id: row_of(row) for row in connection.execute(sa.select(jobs).where(still))}
    return [rows[job] for job in chosen if job in rows]


def _first_of_each_tenant(connection: sa.Connection, most: int) -> list[Waiting]:
    place = sa.func.row_number().over(partition_by=jobs.c.tenant, order_by=(jobs.c.priority, jobs.c.number))
    ranked = (
        sa.select(jobs.c.id, jobs.c.tenant, jobs.c.priority, jobs.c.number, place.label("place"))
        .where(jobs.c.state == int(JobState.QUEUED), ~jobs.c.is_admitted)
        .subquery()
    )
    rows = connection.execute(sa.select(ranked).where(ranked.c.place <= most))
    return [Waiting(row.id, row.tenant, row.priority, row.number) for row in rows]


def admitted(connection: sa.Connection) -> list[JobRow]:
    """Jobs that the engine was given, and that were not yet seen to have ended."""
    return [row_of(row) for row in connection.execute(sa.select(jobs).where(jobs.c.is_admitted))]


def counts(connection: sa.Connection) -> Mapping[JobState, int]:
    """Jobs that have not ended, by state."""
    found = connection.execute(
        sa.select(jobs.c.state, sa.func.count()).where(jobs.c.state < _ENDED).group_by(jobs.c.state)
    )
    return {JobState(state): count for state, count in found}
