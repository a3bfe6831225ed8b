"""Hands jobs to the engine when their turn has come, and sees to it that what ended there has ended in the book.

A loop with a bell: it looks when a job comes or ends in this process, and twice a second for what others did. Crash
anywhere between book and engine, and the next look mends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final

from services.common import metrics
from services.common.errors import MasqueradeError, Unavailable
from services.common.records.database import Records
from services.orchestrator.book import admission, events, moving, rows
from services.orchestrator.book.admission import Limits
from services.orchestrator.book.rows import JobRow
from services.orchestrator.ending import Ending
from services.orchestrator.engine.port import Engine, Standing
from services.orchestrator.failures import Failure
from services.orchestrator.progress import JobState
from services.orchestrator.workflow import REPUBLISH, TRANSFORM

log = logging.getLogger(__name__)

TICK_S: Final = 0.5
RECONCILE_S: Final = 3.0
GRACE_MS: Final = 5000
"""An admitted job that the engine does not know after this time was never handed over: whoever was to do it died."""

AT_ONCE: Final = 200
"""Jobs that the engine is asked about in one look."""


class Admitter:
    """Admits and reconciles, from `start` to `stop`."""

    def __init__(
        self, *, records: Records, engine: Engine, ending: Ending, limits: Limits, tick_s: float = TICK_S
    ) -> None:
        self._records, self._engine, self._ending, self._limits = records, engine, ending, limits
        self._tick_s = tick_s
        self._bell = asyncio.Event()
        self._ended: set[str] = set()
        self._loop: asyncio.Task[None] | None = None
        self._reconciled_at = float("-inf")

    def start(self) -> None:
        """Begin; the engine runs already. What an earlier life left undone is mended first."""
        self._engine.on_end(self._note_end)
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop looking."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    def ring(self) -> None:
        """Look now: a job came, or a place is free."""
        self._bell.set()

    def _note_end(self, job: str) -> None:
        self._ended.add(job)
        self._bell.set()

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Unavailable as error:
                log.warning("the book cannot be read now", extra={"fields": {"reason": str(error)}})
            except Exception:
                log.exception("a look at the book failed")
            # Not wait_for: where the wait ends in the moment of being cancelled, that one forgets the cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._bell.wait()
            self._bell.clear()

    async def look(self) -> None:
        """End what has ended, admit what may begin."""
        ended, self._ended = self._ended, set()
        for job in ended:
            with _alone(job):
                await self._settle(job)
        if time.monotonic() - self._reconciled_at >= RECONCILE_S:
            await self.reconcile()
            self._reconciled_at = time.monotonic()
        await self.admit()

    async def admit(self) -> Sequence[JobRow]:
        """Hand over those whose turn it is."""
        if not await self._records.read(admission.anyone_waits):
            return []
        admitted = await self._records.write(lambda connection: admission.admit(connection, self._limits))
        for row in admitted:
            if not row.attempt:
                metrics.ADMISSION_SECONDS.observe((row.changed_ms - row.created_ms) / 1000)
            with _alone(row.id):
                await self._hand_over(row)
        return admitted

    async def reconcile(self) -> None:
        """Compare what the book thinks is running with what the engine knows of it."""
        counts = await self._records.read(admission.counts)
        metrics.JOBS_WAITING.set(counts.get(JobState.QUEUED, 0))
        admitted = await self._records.read(admission.admitted)
        for begin in range(0, len(admitted), AT_ONCE):
            batch = admitted[begin : begin + AT_ONCE]
            standings = await self._engine.statuses([row.id for row in batch])
            for row in batch:
                with _alone(row.id):
                    await self._compare(row, standings.get(row.id))

    async def _compare(self, row: JobRow, standing: Standing | None) -> None:
        is_known = standing is not None and standing.attempt >= row.attempt
        if row.has_ended:
            # It was cancelled, and whoever did so died before the engine was told.
            await self._ending.stop(row)
        elif not is_known:
            if events.now_ms() - row.changed_ms > GRACE_MS:
                await self._hand_over(row)
        elif standing is not None and standing.status.is_final:
            await self._settle(row.id)

    async def _hand_over(self, row: JobRow) -> None:
        now = await self._records.read(lambda connection: rows.find(connection, row.id))
        if now is None or now.has_ended or now.attempt != row.attempt:
            # Cancelled or deleted since it was chosen.
            return
        body = TRANSFORM if row.result is None else REPUBLISH
        try:
            run = await self._engine.submit(
                row.id,
                body,
                row.spec,
                tenant=row.tenant,
                priority=row.priority,
                number=row.number,
                attempt=row.attempt,
            )
        except Unavailable:
            raise
        except MasqueradeError as error:
            # The engine knows another job of this id, from a time before the book.
            failure = Failure.of(error)
            keep_ms = self._ending.keep_ms
            await self._records.write(
                lambda connection: moving.end(
                    connection, row.id, row.attempt, JobState.FAILED, failure=failure, keep_ms=keep_ms
                )
            )
            return
        if run.status.is_final:
            await self._settle(row.id)

    async def _settle(self, job: str) -> None:
        if await self._ending.settle(job):
            self.ring()


@contextlib.contextmanager
def _alone(job: str) -> Iterator[None]:
    """What fails for one job is logged, tried again at a later look, and stops no other."""
    try:
        yield
    except Unavailable:
        raise
    except Exception:
        log.exception("a job could not be moved", extra={"job": job})
