"""Writing to the audit log: one writer at a time, in the transaction of what it speaks of."""

from __future__ import annotations

import time

import sqlalchemy as sa

from services.common.audit.chain import GENESIS, Entry, Link, canonical, link
from services.common.records.database import Records
from services.common.records.tables import audit

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('masquerade.audit'))")


def append(connection: sa.Connection, entry: Entry) -> Link:
    """Write an entry behind the last one, as part of the caller's transaction: both happen, or neither.

    The tail is locked until the transaction ends, so it comes last in it.
    """
    if connection.dialect.name != "sqlite":
        # On SQLite a writing transaction is alone from its beginning.
        connection.execute(_LOCK)
    last = connection.execute(
        sa.select(audit.c.sequence, audit.c.digest).order_by(audit.c.sequence.desc()).limit(1)
    ).first()
    sequence, previous = (last.sequence + 1, last.digest) if last else (1, GENESIS)
    made = link(entry, sequence=sequence, time_ms=time.time_ns() // 1_000_000, previous=previous)
    connection.execute(
        audit.insert().values(
            sequence=made.sequence,
            time_ms=made.time_ms,
            tenant=entry.tenant,
            actor=entry.actor,
            action=entry.action,
            object=entry.object,
            decision=entry.decision,
            details=canonical(entry.details),
            previous=made.previous,
            digest=made.digest,
        )
    )
    return made


async def write(records: Records, entry: Entry) -> Link:
    """Write an entry in a transaction of its own.

    Raises:
        Unavailable: the database does not answer; what is to be audited must then not be done.
    """
    return await records.write(lambda connection: append(connection, entry))
