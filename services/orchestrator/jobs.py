"""Jobs as the doors ask for them: create, look, list, watch, cancel, retry, delete. One class behind both doors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.common.errors import JobNotFound, MasqueradeError
from services.common.records.database import Records
from services.common.store.objects import ObjectStore
from services.orchestrator.admitting import Admitter
from services.orchestrator.book import creating, deleting, events, listing, moving, publishing, rows
from services.orchestrator.book.creating import NewJob
from services.orchestrator.book.events import Change
from services.orchestrator.book.listing import Filter
from services.orchestrator.book.publishing import Published
from services.orchestrator.book.rows import JobRow
from services.orchestrator.ending import Ending
from services.orchestrator.engine.port import Engine
from services.orchestrator.failures import Failure
from services.orchestrator.progress import Board, JobState, Snapshot
from services.orchestrator.watching import watch


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner sees it."""

    row: JobRow
    progress: Snapshot
    history: Sequence[Change]
    publications: Sequence[Published]


class Jobs:
    """What can be done with jobs, whichever door asks."""

    def __init__(
        self,
        *,
        records: Records,
        engine: Engine,
        store: ObjectStore,
        board: Board,
        admitter: Admitter,
        ending: Ending,
        most_waiting: int,
        most_bytes: int | None = None,
    ) -> None:
        """Args:
        records: the book's.
        engine: runs them.
        store: holds their objects.
        board: how far those of this process are.
        admitter: lets them begin.
        ending: ends them.
        most_waiting: jobs of one tenant that may wait to begin.
        most_bytes: that a tenant may store before its jobs from outside are refused.
        """
        self._records, self._engine, self._store, self._board = records, engine, store, board
        self._admitter, self._ending = admitter, ending
        self._most_waiting, self._most_bytes = most_waiting, most_bytes

    async def known(self, *, tenant: str, request_id: str, digest: str) -> JobView | None:
        """The job that a request made before, or None.

        Raises:
            RequestIdReused: the id stands for another request.
        """

        def read(connection: sa.Connection) -> JobView | None:
            row = creating.known(connection, tenant=tenant, request_id=request_id, digest=digest)
            return None if row is None else self._views(connection, [row])[0]

        return await self._records.view(read)

    async def create(self, new: NewJob, *, retry: bool = False) -> JobView:
        """Accept a job, or answer the one that the same request made before.

        Args:
            new: the job.
            retry: take up one that failed or was cancelled.

        Raises:
            RequestIdReused: the id stands for another request.
            QuotaExceeded: too many jobs of the tenant wait, or it stores too much.
            IdentityNotFound, ConsentRequired, ConsentRevoked, ConsentExpired, ConsentNotCovering: a face may not be
                used.
        """
        row, is_new = await self._records.write(
            lambda connection: creating.create(
                connection, new, most_waiting=self._most_waiting, most_bytes=self._most_bytes
            )
        )
        if is_new:
            self._admitter.ring()
        elif retry and row.state in (JobState.FAILED, JobState.CANCELLED):
            return await self.retry(row.id, tenant=row.tenant, actor=new.actor)
        return await self.get(row.id)

    async def get(self, job: str, *, tenant: str | None = None) -> JobView:
        """One job; `tenant` None sees all.

        Raises:
            JobNotFound: the tenant has no such job.
        """
        return await self._records.view(
            lambda connection: self._views(connection, [rows.one(connection, job, tenant=tenant)])[0]
        )

    async def list(self, tenant: str, wanted: Filter, *, page_size: int, token: str) -> tuple[Sequence[JobView], str]:
        """A page of a tenant's jobs, newest first, and the token of the next one.

        Raises:
            InvalidSpec: the token is none of this list.
        """

        def read(connection: sa.Connection) -> tuple[Sequence[JobView], str]:
            found, following = listing.page(connection, tenant, wanted, page_size=page_size, token=token)
            return self._views(connection, found), following

        return await self._records.view(read)

    def watch(self, job: str, *, tenant: str | None = None, from_sequence: int = 0) -> AsyncIterator[Snapshot]:
        """Progress as it happens, from a number on, after what is written down; see `watching`."""
        return watch(self._records, self._board, job, tenant=tenant, from_sequence=from_sequence)

    async def cancel(self, job: str, *, tenant: str | None, actor: str) -> JobView:
        """Stop a job and what works on it; one that has ended stays as it is.

        Raises:
            JobNotFound: the tenant has no such job.
        """
        row = await self._records.read(lambda connection: rows.one(connection, job, tenant=tenant))
        ended = await self._records.write(
            lambda connection: moving.end(
                connection,
                job,
                row.attempt,
                JobState.CANCELLED,
                actor=actor,
                keep_ms=self._ending.keep_ms,
                is_stopped=False,
            )
        )
        if ended:
            self._board.ring(job)
            # Read again: it may have been admitted in between.
            await self._ending.stop(await self._records.read(lambda connection: rows.one(connection, job)))
            self._admitter.ring()
        return await self.get(job)

    async def retry(self, job: str, *, tenant: str, actor: str) -> JobView:
        """Let a job that failed or was cancelled begin once more, from what is finished.

        Raises:
            JobNotFound: the tenant has no such job.
            JobStateForbids: it has not ended, or succeeded.
            QuotaExceeded: too many jobs of the tenant wait.
            ConsentRevoked, ConsentExpired, ConsentNotCovering: a face may not be used any more.
        """
        row = await self._records.read(lambda connection: rows.one(connection, job, tenant=tenant))
        if row.has_ended and row.is_admitted:
            await self._ending.stop(row)
        is_kept = row.result is not None and await self._has_artifact(row.result)
        await self._records.write(
            lambda connection: moving.requeue(
                connection, job, tenant=tenant, actor=actor, most_waiting=self._most_waiting, keeps_result=is_kept
            )
        )
        self._board.ring(job)
        self._admitter.ring()
        return await self.get(job)

    async def delete(self, job: str, *, tenant: str | None, actor: str, why: str = "asked") -> None:
        """Remove a job that has ended, with its artifacts and all that was learned of faces.

        Raises:
            JobNotFound: the tenant has no such job.
            JobStateForbids: it has not ended.
        """
        row = await self._records.write(lambda connection: deleting.check_ended(connection, job, tenant=tenant))
        if row.is_admitted:
            await self._ending.stop(row)
        await self._engine.delete(job)
        await self._ending.erase_all(row)
        await self._records.write(lambda connection: deleting.forget(connection, row, actor=actor, why=why))
        self._board.ring(job)

    async def withdraw(self, tenant: str, job: str, error: MasqueradeError) -> None:
        """End a running job because a face may not be used any more; nothing of it runs or writes afterwards.

        One that has ended stays as it is, and one that is gone is no error.
        """
        try:
            row = await self._records.read(lambda connection: rows.one(connection, job, tenant=tenant))
        except JobNotFound:
            return
        failure = Failure.of(error, stage=row.state.name.lower())
        if await self._ending.withdraw(row, failure, is_stopped=False):
            self._admitter.ring()

    async def _has_artifact(self, result: Mapping[str, Any]) -> bool:
        return await self._store.stat(str(result["artifact"]["key"])) is not None

    def _views(self, connection: sa.Connection, found: Sequence[JobRow]) -> Sequence[JobView]:
        ids = [row.id for row in found]
        if not ids:
            return []
        last, history = events.last(connection, ids), events.history(connection, ids)
        places = publishing.of(connection, ids)
        return [
            JobView(row, self._progress(row, last.get(row.id)), history.get(row.id, ()), places[row.id])
            for row in found
        ]

    def _progress(self, row: JobRow, last: Snapshot | None) -> Snapshot:
        """The newest that is known: the board's of this process, or the last row."""
        written = last or Snapshot(row.state, attempt=row.attempt, time_ms=row.changed_ms)
        live = None if row.has_ended else self._board.look(row.id)
        return live if live is not None and live.sequence > written.sequence else written
