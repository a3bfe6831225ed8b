"""Second places of a job's result, as the book has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from services.common.records.tables import publications
from services.orchestrator.book import events
from services.orchestrator.failures import Failure


@dataclass(frozen=True, slots=True)
class Published:
    """How far a publication is."""

    position: int
    place: str
    name: str
    failure: Failure | None
    done_ms: int | None


def of(connection: sa.Connection, jobs: Sequence[str]) -> Mapping[str, list[Published]]:
    """The publications of jobs, in the order in which they were asked for."""
    chosen = (
        sa.select(publications)
        .where(publications.c.job.in_(jobs))
        .order_by(publications.c.job, publications.c.position)
    )
    found: dict[str, list[Published]] = {job: [] for job in jobs}
    for row in connection.execute(chosen):
        failure = None if row.failure is None else Failure.from_json(json.loads(row.failure))
        found[row.job].append(Published(row.position, row.place, row.name, failure, row.done_ms))
    return found


def done(connection: sa.Connection, job: str, position: int) -> None:
    """The result is in a place."""
    _update(connection, job, position, failure=None, done_ms=events.now_ms())


def failed(connection: sa.Connection, job: str, position: int, failure: Failure) -> None:
    """The result could not be put into a place."""
    _update(connection, job, position, failure=json.dumps(failure.to_json()))


def _update(connection: sa.Connection, job: str, position: int, **values: object) -> None:
    chosen = sa.and_(publications.c.job == job, publications.c.position == position)
    connection.execute(sa.update(publications).where(chosen).values(**values))
