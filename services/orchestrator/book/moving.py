"""How a job moves: forward only within an attempt, each move with its event and its line in the audit log.

Every move is one statement that names the state it may come from. So whoever is late, a zombie or a second replica,
changes nothing, and moving twice is moving once.
"""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa

from services.common import metrics
from services.common.audit.chain import DONE, FAILED, Entry
from services.common.audit.log import append
from services.common.errors import Cancelled, JobStateForbids
from services.common.records.tables import job_assets, job_identities, jobs, publications
from services.orchestrator import consents
from services.orchestrator.book import creating, events, rows
from services.orchestrator.book.rows import JobRow
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.failures import Failure
from services.orchestrator.progress import JobState, Snapshot

ORCHESTRATOR: Final = "orchestrator"
"""Who moves jobs where no caller does."""

_ENDED: Final = int(JobState.SUCCEEDED)


def enter(connection: sa.Connection, job: str, attempt: int, state: JobState, *, total: int = 0) -> None:
    """A running job comes into a state that is not final. One that is there or further already stays where it is.

    Args:
        connection: of a writing transaction.
        job: its id.
        attempt: which of its attempts says so.
        state: the state.
        total: frames of the stage in all; 0 while unknown.

    Raises:
        Cancelled: this attempt is over; whoever still works on it is to stop.
    """
    now = events.now_ms()
    moved = connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job, jobs.c.attempt == attempt, jobs.c.state < int(state))
        .values(state=int(state), is_admitted=True, changed_ms=now)
    ).rowcount
    if not moved:
        check_alive(connection, job, attempt)
        return
    events.add(connection, job, Snapshot(state, 0, total, attempt=attempt, time_ms=now))
    tenant = connection.execute(sa.select(jobs.c.tenant).where(jobs.c.id == job)).scalar_one()
    append(connection, _line(tenant, ORCHESTRATOR, job, state, attempt))


def check_alive(connection: sa.Connection, job: str, attempt: int) -> JobRow:
    """The job, if this attempt at it is still wanted.

    Raises:
        Cancelled: it is not.
    """
    row = rows.find(connection, job)
    if row is None or row.attempt != attempt or row.has_ended:
        raise Cancelled(what=job)
    return row


def keep_result(connection: sa.Connection, job: str, attempt: int, result: JsonObject) -> None:
    """Write down a result that has yet to be published.

    Raises:
        Cancelled: this attempt is over.
    """
    check_alive(connection, job, attempt)
    connection.execute(sa.update(jobs).where(jobs.c.id == job).values(result=json.dumps(result)))


def end(
    connection: sa.Connection,
    job: str,
    attempt: int,
    state: JobState,
    *,
    actor: str = ORCHESTRATOR,
    result: JsonObject | None = None,
    failure: Failure | None = None,
    stored_bytes: int = 0,
    keep_ms: int,
    erased: bool = False,
    is_stopped: bool = True,
) -> bool:
    """An attempt ends, unless it has.

    Args:
        connection: of a writing transaction.
        job: its id.
        attempt: which attempt.
        state: SUCCEEDED, FAILED or CANCELLED.
        actor: who ended it.
        result: what it made; unset keeps what was written down before.
        failure: why it failed.
        stored_bytes: length of all its objects.
        keep_ms: how long it is kept.
        erased: its face data is gone already.
        is_stopped: the engine works on it no more.

    Returns:
        Whether this call ended it.

    Raises:
        ConsentRevoked, ConsentExpired, ConsentNotCovering: it succeeded, and may not have.
    """
    row = rows.find(connection, job, locked=True)
    if row is None or row.attempt != attempt or row.has_ended:
        return False
    now = events.now_ms()
    if state is JobState.SUCCEEDED:
        check_consent(connection, row)
    values: dict[str, Any] = {
        "state": int(state),
        "is_admitted": row.is_admitted and not is_stopped,
        "failure": None if failure is None else json.dumps(failure.to_json()),
        "stored_bytes": stored_bytes,
        "changed_ms": now,
        "ended_ms": now,
        "expires_ms": now + keep_ms,
        "erased_ms": now if erased else None,
    }
    if result is not None:
        values["result"] = json.dumps(result)
    connection.execute(sa.update(jobs).where(jobs.c.id == job).values(**values))
    frames = int(str((result or {}).get("frames") or 0))
    events.add(connection, job, Snapshot(state, frames, frames, attempt=attempt, time_ms=now))
    used = list(connection.execute(sa.select(job_assets.c.asset).where(job_assets.c.job == job)).scalars())
    creating.touch_assets(connection, row.tenant, used, now)
    details = {} if failure is None else {"reason": failure.reason}
    append(connection, _line(row.tenant, actor, job, state, attempt, **details))
    metrics.JOBS_ENDED.labels(state.name.lower()).inc()
    return True


def erased(connection: sa.Connection, job: str, attempt: int, *, stored_bytes: int, loses_result: bool) -> None:
    """What was to be erased of a job that has ended is gone."""
    chosen = sa.and_(jobs.c.id == job, jobs.c.attempt == attempt, jobs.c.state >= _ENDED)
    values: dict[str, Any] = {"erased_ms": events.now_ms(), "stored_bytes": stored_bytes}
    connection.execute(sa.update(jobs).where(chosen).values(**values, **({"result": None} if loses_result else {})))


def check_consent(connection: sa.Connection, row: JobRow) -> None:
    """Whether all faces of a running job may be used, now.

    Raises:
        ConsentRequired, ConsentRevoked, ConsentExpired, ConsentNotCovering: one may not.
    """
    now = events.now_ms()
    used = connection.execute(sa.select(job_identities.c.identity).where(job_identities.c.job == row.id)).scalars()
    consents.check(connection, row.tenant, list(used), now_ms=now, is_running=True)
    consents.check_inline(connection, row.tenant, row.id, inline_portraits(row.spec), now_ms=now)


def inline_portraits(spec: JsonObject) -> set[str]:
    """Keyed digests of the pictures that were given with a job."""
    identities: Any = spec.get("identities") or []
    keys = [key for identity in identities for key in identity.get("portrait_keys") or ()]
    return {key.rpartition("/")[2] for key in keys}


def requeue(
    connection: sa.Connection, job: str, *, tenant: str, actor: str, most_waiting: int, keeps_result: bool
) -> JobRow:
    """A job that failed or was cancelled waits to begin once more, from what is finished.

    One whose result stands and only could not be published keeps the result: the next attempt only publishes.

    Raises:
        JobNotFound: the tenant has no such job.
        JobStateForbids: it has not ended, or succeeded.
        QuotaExceeded: too many jobs of the tenant wait.
        ConsentRevoked, ConsentExpired, ConsentNotCovering: a face may not be used any more.
    """
    row = rows.one(connection, job, tenant=tenant, locked=True)
    if row.state not in (JobState.FAILED, JobState.CANCELLED):
        raise JobStateForbids(job=job, state=row.state.name.lower(), what="tried again")
    creating.check_waiting(connection, tenant, most=most_waiting)
    check_consent(connection, row)
    now, attempt = events.now_ms(), row.attempt + 1
    connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job)
        .values(
            state=int(JobState.QUEUED),
            attempt=attempt,
            is_admitted=False,
            failure=None,
            stored_bytes=0,
            changed_ms=now,
            ended_ms=None,
            expires_ms=None,
            erased_ms=None,
            **({} if keeps_result else {"result": None}),
        )
    )
    # What is made anew is published anew.
    undone = publications.c.done_ms.is_(None) if keeps_result else sa.true()
    connection.execute(
        sa.update(publications).where(publications.c.job == job, undone).values(failure=None, done_ms=None)
    )
    events.add(connection, job, Snapshot(JobState.QUEUED, attempt=attempt, time_ms=now))
    used = list(connection.execute(sa.select(job_assets.c.asset).where(job_assets.c.job == job)).scalars())
    creating.touch_assets(connection, tenant, used, now)
    append(connection, Entry(tenant, actor, "job.retried", job, details={"attempt": attempt}))
    return rows.one(connection, job)


def stopped(connection: sa.Connection, job: str, *, stored_bytes: int) -> None:
    """The engine works no more on a job, which ended before it stopped."""
    chosen = sa.and_(jobs.c.id == job, jobs.c.state >= _ENDED)
    connection.execute(sa.update(jobs).where(chosen).values(is_admitted=False, stored_bytes=stored_bytes))


def _line(tenant: str, actor: str, job: str, state: JobState, attempt: int, **more: Any) -> Entry:
    details = {"state": state.name.lower(), "attempt": attempt, **more}
    if state is JobState.CANCELLED:
        return Entry(tenant, actor, "job.cancelled", job, details=details)
    return Entry(tenant, actor, "job.state", job, FAILED if state is JobState.FAILED else DONE, details)
