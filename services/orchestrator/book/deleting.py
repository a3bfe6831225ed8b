"""Jobs leave the book."""

from __future__ import annotations

import sqlalchemy as sa

from services.common.audit.chain import Entry
from services.common.audit.log import append
from services.common.errors import JobStateForbids
from services.common.records.tables import consents, job_assets, job_events, job_identities, jobs, publications
from services.orchestrator.book import rows
from services.orchestrator.book.rows import JobRow


def check_ended(connection: sa.Connection, job: str, *, tenant: str | None) -> JobRow:
    """The job, if it has ended and may be deleted.

    Raises:
        JobNotFound: the tenant has no such job.
        JobStateForbids: it has not ended.
    """
    row = rows.one(connection, job, tenant=tenant, locked=True)
    if not row.has_ended:
        raise JobStateForbids(job=job, state=row.state.name.lower(), what="deleted")
    return row


def forget(connection: sa.Connection, row: JobRow, *, actor: str, why: str) -> None:
    """Remove all rows of a job that has ended, once its objects are gone.

    Args:
        connection: of a writing transaction.
        row: the job as it was when its objects were deleted.
        actor: who deletes it.
        why: `asked` or `expired`.

    Raises:
        JobStateForbids: it was tried again in between.
    """
    now = check_ended(connection, row.id, tenant=None)
    if now.attempt != row.attempt:
        raise JobStateForbids(job=row.id, state=now.state.name.lower(), what="deleted")
    for table in (job_events, job_assets, job_identities, publications):
        connection.execute(sa.delete(table).where(table.c.job == row.id))
    connection.execute(sa.delete(consents).where(consents.c.tenant == row.tenant, consents.c.subject == row.id))
    connection.execute(sa.delete(jobs).where(jobs.c.id == row.id))
    append(connection, Entry(row.tenant, actor, "job.deleted", row.id, details={"why": why}))
