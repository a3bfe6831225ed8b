"""Watching a job: what is written down of it first, then what happens, each place once and in order.

What a watcher is told has a number that says where on the job's way it is. Whoever comes back names the next number
and misses nothing: states and finished segments are rows, and what lies between them is only told to those who look.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import sqlalchemy as sa

from services.common.records.database import Records
from services.orchestrator.book import events, rows
from services.orchestrator.book.rows import JobRow
from services.orchestrator.progress import Board, Snapshot

LOOK_S: Final = 0.25
"""How often a watcher is told of frames."""

READ_S: Final = 1.0
"""How often rows are read of a job that this process runs: its board knows more."""

POLL_S: Final = 0.5
"""How often rows are read of a job that another process runs, or nobody yet."""

_LAST_NUMBER: Final = (1 << 63) - 1


async def watch(
    records: Records, board: Board, job: str, *, tenant: str | None, from_sequence: int
) -> AsyncIterator[Snapshot]:
    """Places on a job's way, from a number on, until its newest attempt has ended.

    Nothing waits here for a slow watcher, and nothing piles up: it is told of the place where the job is when it is
    ready for the next one, and of the rows that it has not seen.

    Args:
        records: the rows.
        board: of this process.
        job: its id.
        tenant: who asks; None sees all.
        from_sequence: first number wanted.

    Raises:
        JobNotFound: the tenant has no such job, or it was deleted meanwhile.
    """
    following = min(from_sequence, _LAST_NUMBER)
    while True:
        # Taken before reading: what happens in between rings it.
        bell = board.bell(job)
        row, places = await _read(records, job, tenant, following)
        read_at = time.monotonic()
        for place in places:
            yield place
            following = place.sequence + 1
        if len(places) == events.PAGE:
            continue
        if row.has_ended:
            return
        is_read = True
        while is_read:
            await _rung(bell, LOOK_S)
            has_rung, bell = bell.is_set(), board.bell(job)
            here = board.look(job)
            since = time.monotonic() - read_at
            if here is None:
                is_read = not has_rung and since < POLL_S
            elif here.sequence >= following and (here.attempt, here.state) != (row.attempt, row.state):
                # It is in a state of which the row, and perhaps those before it, were not told yet.
                is_read = False
            else:
                is_read = since < READ_S
                for live in board.since(job, following):
                    yield live
                    following = live.sequence + 1


async def _read(records: Records, job: str, tenant: str | None, following: int) -> tuple[JobRow, list[Snapshot]]:
    def read(connection: sa.Connection) -> tuple[JobRow, list[Snapshot]]:
        # The row first: an attempt that has ended in it has all its events.
        return rows.one(connection, job, tenant=tenant), events.since(connection, job, following)

    return await records.view(read)


async def _rung(bell: asyncio.Event, seconds: float) -> None:
    # Not wait_for: where the wait ends in the moment of being cancelled, that one forgets the cancellation.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()
