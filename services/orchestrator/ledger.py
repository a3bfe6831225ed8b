"""What a running job writes into the book: where it is, what it finished, whether it still may.

The body of a job calls these between its steps. They are not steps themselves: after a crash they are done again, find
their rows written, and change nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import sqlalchemy as sa

from services.common.errors import MasqueradeError, Unavailable
from services.common.records.database import Records
from services.common.records.tables import jobs
from services.orchestrator.book import events, moving, publishing, rows
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.failures import Failure
from services.orchestrator.progress import JobState, Snapshot

log = logging.getLogger(__name__)

T = TypeVar("T")

GATHER_S = 0.2
"""Finished segments are written down together: one transaction costs more than ten rows."""

PATIENCE_S = 3600.0
"""So long a running job waits for a database that is away before it fails: the engine waits for it too."""

_PAUSE_S = 1.0


class Ledger(Protocol):
    """The book, as the body of a job needs it."""

    async def begin(self, job: str) -> int:
        """Which attempt this is.

        Raises:
            Cancelled: the job is not wanted any more.
        """

    async def enter(self, job: str, attempt: int, state: JobState, *, total: int = 0) -> None:
        """The job comes into a state.

        Raises:
            Cancelled: this attempt is over.
        """

    def finished(self, job: str, place: Snapshot) -> None:
        """A segment is done; written down soon."""

    async def check(self, job: str, attempt: int) -> None:
        """Whether the job may go on to its result.

        Raises:
            Cancelled: this attempt is over.
            ConsentRequired, ConsentRevoked, ConsentExpired, ConsentNotCovering: a face may not be used any more.
        """

    async def keep(self, job: str, attempt: int, result: JsonObject) -> None:
        """The result is there and has yet to be published.

        Raises:
            Cancelled: this attempt is over.
        """

    async def kept(self, job: str) -> tuple[JsonObject, Sequence[int]]:
        """The result of an attempt before, and which of its publications are not done."""

    async def published(self, job: str, position: int, failure: Failure | None) -> None:
        """The result is in a second place, or could not be put there."""


class BookLedger:
    """`Ledger` on the records."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._finished: dict[str, list[Snapshot]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def begin(self, job: str) -> int:
        """See Ledger."""

        def attempt(connection: sa.Connection) -> int:
            row = rows.find(connection, job)
            return moving.check_alive(connection, job, -1 if row is None else row.attempt).attempt

        return await patiently(lambda: self._records.read(attempt))

    async def enter(self, job: str, attempt: int, state: JobState, *, total: int = 0) -> None:
        """See Ledger."""
        await self.flush(job)
        await patiently(
            lambda: self._records.write(lambda connection: moving.enter(connection, job, attempt, state, total=total))
        )

    def finished(self, job: str, place: Snapshot) -> None:
        """See Ledger."""
        self._finished.setdefault(job, []).append(
            Snapshot(place.state, place.frames_done, place.frames_total, attempt=place.attempt, time_ms=events.now_ms())
        )
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    async def check(self, job: str, attempt: int) -> None:
        """See Ledger."""
        await patiently(
            lambda: self._records.read(
                lambda connection: moving.check_consent(connection, moving.check_alive(connection, job, attempt))
            )
        )

    async def keep(self, job: str, attempt: int, result: JsonObject) -> None:
        """See Ledger."""
        await patiently(
            lambda: self._records.write(lambda connection: moving.keep_result(connection, job, attempt, result))
        )

    async def kept(self, job: str) -> tuple[JsonObject, Sequence[int]]:
        """See Ledger."""

        def read(connection: sa.Connection) -> tuple[JsonObject, Sequence[int]]:
            left = [each.position for each in publishing.of(connection, [job])[job] if each.done_ms is None]
            return rows.one(connection, job).result or {}, left

        return await patiently(lambda: self._records.read(read))

    async def published(self, job: str, position: int, failure: Failure | None) -> None:
        """See Ledger."""

        def write(connection: sa.Connection) -> None:
            if failure is None:
                publishing.done(connection, job, position)
            else:
                publishing.failed(connection, job, position, failure)

        await patiently(lambda: self._records.write(write))

    async def flush(self, *wanted: str) -> None:
        """Write down what was finished; of all jobs if none is named."""
        async with self._lock:
            # Copies: what is finished while they are written is not among them, and stays for the next time.
            told = {job: [*self._finished[job]] for job in wanted or tuple(self._finished) if job in self._finished}
            if not told:
                return
            await patiently(lambda: self._records.write(lambda connection: _add(connection, told)))
            for job, places in told.items():
                left = self._finished[job][len(places) :]
                if left:
                    self._finished[job] = left
                else:
                    del self._finished[job]

    async def close(self) -> None:
        """Write down what is left. What cannot be written now is told again when the job is taken up."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        try:
            async with asyncio.timeout(5):
                await self.flush()
        except (TimeoutError, MasqueradeError) as error:
            log.warning("progress was not written down", extra={"fields": {"reason": str(error)}})

    async def _write_soon(self) -> None:
        while self._finished:
            await asyncio.sleep(GATHER_S)
            try:
                await self.flush()
            except MasqueradeError as error:
                log.warning("progress is not written down yet", extra={"fields": {"reason": str(error)}})


def _add(connection: sa.Connection, told: Mapping[str, Sequence[Snapshot]]) -> None:
    # A job that was deleted meanwhile has no history any more.
    there = set(connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(told))).scalars())
    for job in sorted(there):
        events.add(connection, job, *told[job])


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do something idempotent on the records, again while their database is away.

    Raises:
        Unavailable: it was away for too long.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_S
    while True:
        try:
            return await work()
        except Unavailable:
            if loop.time() >= until:
                raise
        await asyncio.sleep(_PAUSE_S)
