"""Reading the audit log: in order, some at a time, and whatever somebody may have written into its rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from services.common.records.database import Records
from services.common.records.tables import audit

BATCH_ROWS: Final = 1000
"""Rows in memory at a time: about 1 MB."""


async def batches(records: Records, *, rows: int = BATCH_ROWS) -> AsyncIterator[Sequence[Any]]:
    """All rows of the log by their sequence, some at a time; what is written meanwhile comes too.

    Each batch is a transaction of its own: nobody who writes waits for a long reader.

    Raises:
        Unavailable: the database does not answer.
    """
    last: Any = None
    while True:
        asked = sa.select(audit).order_by(audit.c.sequence).limit(rows)
        if last is not None:
            asked = asked.where(audit.c.sequence > last)
        found = await records.read(lambda connection, asked=asked: _rows(connection, asked))  # type: ignore[misc]
        if found:
            yield found
            last = found[-1].sequence
        if len(found) < rows:
            return


async def lines(records: Records) -> AsyncIterator[str]:
    """Each row as a line of JSON, as it stands: an export proves what the table proves."""
    async for found in batches(records):
        for row in found:
            yield json.dumps(dict(row._mapping), sort_keys=True, separators=(",", ":"), default=repr)


def _rows(connection: sa.Connection, asked: sa.Select[Any]) -> Sequence[Any]:
    with _any_text(connection):
        return connection.execute(asked).all()


@contextlib.contextmanager
def _any_text(connection: sa.Connection) -> Iterator[None]:
    """SQLite stores any bytes as text. Bytes that are none must be seen as changed, not as a broken database."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite":
        yield
        return
    before, driver.text_factory = driver.text_factory, lambda content: content.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = before
