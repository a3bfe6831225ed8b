"""Lists of a tenant's jobs: filtered, newest first, in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from services.common.audit.chain import canonical
from services.common.records.pages import number_before, rows_of, token_after
from services.common.records.tables import jobs
from services.orchestrator.book.rows import JobRow, row_of
from services.orchestrator.progress import JobState


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs are wanted."""

    state: JobState | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Only jobs that carry all of these."""

    created_from_ms: int | None = None
    created_before_ms: int | None = None

    def to_json(self) -> list[object]:
        """For the page token: it belongs to this filter alone."""
        state = None if self.state is None else int(self.state)
        return [state, dict(sorted(self.labels.items())), self.created_from_ms, self.created_before_ms]


def page(
    connection: sa.Connection, tenant: str, wanted: Filter, *, page_size: int, token: str
) -> tuple[Sequence[JobRow], str]:
    """One page of jobs, and the token for the next one, empty at the end.

    Raises:
        InvalidSpec: the token is none of this list.
    """
    scope = ["jobs", tenant, *wanted.to_json()]
    before, most = number_before(token, of=scope), rows_of(page_size)
    chosen = sa.select(jobs).where(jobs.c.tenant == tenant)
    if before is not None:
        chosen = chosen.where(jobs.c.number < before)
    if wanted.state is not None:
        chosen = chosen.where(jobs.c.state == int(wanted.state))
    if wanted.created_from_ms is not None:
        chosen = chosen.where(jobs.c.created_ms >= wanted.created_from_ms)
    if wanted.created_before_ms is not None:
        chosen = chosen.where(jobs.c.created_ms < wanted.created_before_ms)
    for name, value in wanted.labels.items():
        chosen = chosen.where(_carries(connection, name, value))
    found = [row_of(row) for row in connection.execute(chosen.order_by(jobs.c.number.desc()).limit(most + 1))]
    shown = found[:most]
    return shown, token_after(shown[-1].number, of=scope) if len(found) > most else ""


def _carries(connection: sa.Connection, name: str, value: str) -> sa.ColumnElement[bool]:
    """A label in the column's canonical JSON. A quotation mark inside of it is escaped, so `{"` and `,"` begin a name
    and nothing else."""
    position = sa.func.instr if connection.dialect.name == "sqlite" else sa.func.strpos
    pair = canonical({name: value})[1:-1]
    return sa.or_(position(jobs.c.labels, "{" + pair) > 0, position(jobs.c.labels, "," + pair) > 0)
