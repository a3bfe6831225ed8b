"""How an attempt ends: the engine's outcome becomes the job's last state, and what must not stay is erased before.

Whoever notices an end calls this: the process in which the run ended, at once, or any replica that looks later. Doing
it twice is doing it once.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from services.common.errors import MasqueradeError
from services.common.records.database import Records
from services.common.store.objects import ObjectStore
from services.orchestrator.book import moving, rows
from services.orchestrator.book.rows import JobRow
from services.orchestrator.engine.port import Engine, Run, RunStatus
from services.orchestrator.erasure import Reach, erase_face_data
from services.orchestrator.failures import Failure
from services.orchestrator.in_flight import STOPPED_WITHIN_S, InFlight
from services.orchestrator.keys import job_prefix
from services.orchestrator.ledger import BookLedger
from services.orchestrator.progress import Board, JobState

log = logging.getLogger(__name__)

CONSENT_REASONS: Final = frozenset(
    {"CONSENT_REQUIRED", "CONSENT_REVOKED", "CONSENT_EXPIRED", "CONSENT_NOT_COVERING", "IDENTITY_NOT_FOUND"}
)
"""Failures after which nothing that shows the face may stay."""

_STATES = {
    RunStatus.DONE: JobState.SUCCEEDED,
    RunStatus.FAILED: JobState.FAILED,
    RunStatus.CANCELLED: JobState.CANCELLED,
}
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long things stay after a job has ended."""

    jobs_days: float = 30
    """The job with its artifacts."""

    face_days: float = 0
    """What was learned of faces; 0 erases it when the job succeeds."""


class Ending:
    """Ends jobs."""

    def __init__(
        self,
        *,
        records: Records,
        engine: Engine,
        store: ObjectStore,
        board: Board,
        ledger: BookLedger,
        keeping: Keeping,
        in_flight: InFlight,
    ) -> None:
        """Args:
        records: the book's.
        engine: runs jobs.
        store: holds their objects.
        board: rings for those who watch.
        ledger: of this process.
        keeping: how long what stays.
        in_flight: calls of this process.
        """
        self._records, self._engine, self._store, self._board = records, engine, store, board
        self._ledger, self._keeping, self._in_flight = ledger, keeping, in_flight

    async def settle(self, job: str) -> bool:
        """Give a job the last state that its newest attempt has come to; whether that ended it now."""
        run = await self._engine.get(job)
        if run is None or not run.status.is_final:
            return False
        row = await self._records.read(lambda connection: rows.find(connection, job))
        if row is None:
            return False
        if row.has_ended:
            return await self._note_stopped(row) if row.is_admitted and run.attempt >= row.attempt else False
        if run.attempt < row.attempt:
            return False
        await self._ledger.flush(job)
        return await self._end(row, run)

    async def _end(self, row: JobRow, run: Run) -> bool:
        if run.status is RunStatus.FAILED and (run.failure or _UNKNOWN).reason in CONSENT_REASONS:
            return await self.withdraw(row, run.failure or _UNKNOWN, is_stopped=True)
        is_made = run.status is RunStatus.DONE or _is_only_unpublished(row, run)
        is_erased = is_made and self._keeping.face_days == 0
        if is_erased:
            # Before its last state is written: a job that says it succeeded has nothing left of its faces.
            await erase_face_data(self._store, self._records, row.tenant, row.id, actor=moving.ORCHESTRATOR)
        stored = await self.stored_bytes(row)
        try:
            ended = await self._records.write(
                lambda connection: moving.end(
                    connection,
                    row.id,
                    row.attempt,
                    _STATES[run.status],
                    result=run.result if run.status is RunStatus.DONE else None,
                    failure=run.failure if run.status is RunStatus.FAILED else None,
                    stored_bytes=stored,
                    keep_ms=self.keep_ms,
                    erased=is_erased,
                )
            )
        except MasqueradeError as error:
            if error.reason not in CONSENT_REASONS:
                raise
            return await self.withdraw(row, Failure.of(error, stage="compositor.Finalise"), is_stopped=True)
        self._board.ring(row.id)
        return ended

    async def withdraw(
        self, row: JobRow, failure: Failure, *, is_stopped: bool, actor: str = moving.ORCHESTRATOR
    ) -> bool:
        """End a job whose faces may not be used: no artifact, nothing of a face, whatever was finished.

        Args:
            row: the job.
            failure: why.
            is_stopped: the engine works on it no more.
            actor: who withdrew.

        Returns:
            Whether this call ended it; one that had ended before stays as it is.
        """
        ended = await self._records.write(
            lambda connection: moving.end(
                connection,
                row.id,
                row.attempt,
                JobState.FAILED,
                actor=actor,
                failure=failure,
                keep_ms=self.keep_ms,
                is_stopped=is_stopped,
            )
        )
        if ended:
            self._board.ring(row.id)
            if not is_stopped:
                await self.stop(row)
            await self.erase(row, Reach.ALL)
        return ended

    async def erase(self, row: JobRow, reach: Reach) -> None:
        """Erase faces of a job that has ended, and say so in its row."""
        await erase_face_data(self._store, self._records, row.tenant, row.id, reach=reach, actor=moving.ORCHESTRATOR)
        stored = await self.stored_bytes(row)
        await self._records.write(
            lambda connection: moving.erased(
                connection, row.id, row.attempt, stored_bytes=stored, loses_result=reach is Reach.ALL
            )
        )

    async def erase_all(self, row: JobRow) -> None:
        """Erase everything of a job that is about to be forgotten."""
        await erase_face_data(
            self._store, self._records, row.tenant, row.id, reach=Reach.ALL, actor=moving.ORCHESTRATOR
        )

    async def stop(self, row: JobRow) -> None:
        """Have the engine and the peers stop working on a job that has ended in the book; at most for two seconds."""
        if row.is_admitted:
            await self._engine.cancel(row.id)
            if not await self._is_idle(row.id):
                log.warning("a job that was stopped is still being worked on", extra={"job": row.id})
        await self._note_stopped(row)

    async def _is_idle(self, job: str) -> bool:
        if not self._records.is_sqlite and self._board.look(job) is None and not self._in_flight.count(job):
            # Another process may be at it: nobody can be asked, but it stops within this time.
            await asyncio.sleep(STOPPED_WITHIN_S)
            return True
        return await self._in_flight.idle(job)

    async def _note_stopped(self, row: JobRow) -> bool:
        stored = await self.stored_bytes(row)
        await self._records.write(lambda connection: moving.stopped(connection, row.id, stored_bytes=stored))
        self._board.ring(row.id)
        return False

    async def stored_bytes(self, row: JobRow) -> int:
        """Length of all objects of a job."""
        return sum(each.bytes for each in await self._store.list(job_prefix(tenant=row.tenant, job=row.id)))

    @property
    def keep_ms(self) -> int:
        """How long a job is kept after its end."""
        return round(self._keeping.jobs_days * _DAY_MS)


_UNKNOWN = Failure("INTERNAL", {"what": "the job failed and nobody said why"})


def _is_only_unpublished(row: JobRow, run: Run) -> bool:
    return run.failure is not None and run.failure.reason == "PUBLISH_FAILED" and row.result is not None
