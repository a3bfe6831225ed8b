"""How many bytes a tenant has, and whether there is room for more."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from services.common.errors import QuotaExceeded
from services.common.records.tables import assets, jobs, uploads
from services.ingest.assets.rows import is_unfinished

RETRY_AFTER_S: Final = 60
"""Room is made by deleting or by the end of something, neither of which takes a second."""


def stored_bytes(connection: sa.Connection, tenant: str) -> int:
    """Bytes of a tenant's assets, of its ended jobs, and of its uploads: those at their whole length from the start,
    so that all that were let in can be finished."""
    amounts = (
        sa.select(sa.func.sum(assets.c.size_bytes)).where(assets.c.tenant == tenant),
        sa.select(sa.func.sum(uploads.c.size_bytes)).where(uploads.c.tenant == tenant, is_unfinished()),
        sa.select(sa.func.sum(jobs.c.stored_bytes)).where(jobs.c.tenant == tenant),
    )
    return sum(int(connection.execute(amount).scalar() or 0) for amount in amounts)


def one_at_a_time(connection: sa.Connection, tenant: str) -> None:
    """Until the transaction ends, nobody else of the tenant is let in."""
    if connection.dialect.name != "sqlite":
        # On SQLite a writing transaction is alone from its beginning.
        lock = sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))")
        connection.execute(lock, {"name": f"masquerade.stored_bytes.{tenant}"})


def require_room(connection: sa.Connection, tenant: str, *, more_bytes: int, most_bytes: int) -> None:
    """Refuse what would be too much; ask for `one_at_a_time` first.

    Raises:
        QuotaExceeded: with the limit, what is stored, and the most.
    """
    stored = stored_bytes(connection, tenant)
    if stored + more_bytes > most_bytes:
        raise QuotaExceeded(
            limit="stored bytes",
            value=stored,
            most=most_bytes,
            asked=more_bytes,
            retry_after_s=RETRY_AFTER_S,
        )
