"""Jobs as the doors ask for them: submit, look, watch, cancel."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from services.common import metrics
from services.common.errors import InvalidSpec, JobNotFound
from services.orchestrator.engine import Engine, JsonObject, Run, RunStatus
from services.orchestrator.keys import job_id, json_digest
from services.orchestrator.progress import Board, Snapshot
from services.orchestrator.spec import read_spec
from services.orchestrator.workflow import TRANSFORM

Seen = TypeVar("Seen")

LOOK_S = 0.25
"""How often a watcher is told of frames."""

READ_S = 1.0
"""How often the engine is asked about a job whose place on the board is known: reading a row costs 5 ms of CPU."""


class Jobs:
    """What can be done with jobs, whichever door asks."""

    def __init__(
        self, engine: Engine, board: Board, *, snapshot_of: Callable[[Run, Snapshot | None], Snapshot]
    ) -> None:
        """Args:
        engine: keeps and runs them.
        board: how far those of this process are.
        snapshot_of: what a run and its place on the board say together.
        """
        self._engine, self._board, self._snapshot_of = engine, board, snapshot_of

    async def submit(self, spec: JsonObject, *, tenant: str, request_id: str, retry: bool) -> Run:
        """Accept a job, or answer the one that the same request made before.

        Args:
            spec: JSON form of a JobSpec.
            tenant: whose it is.
            request_id: the caller's id; the same id with the same spec is the same job.
            retry: take up a failed or cancelled job from its finished segments.

        Raises:
            InvalidSpec: with all violations, or the id was used for another spec.
        """
        read_spec(spec)
        job = job_id(tenant=tenant, request=request_id)
        known = await self._engine.get(job)
        if known is not None and known.digest != json_digest(spec):
            raise InvalidSpec(job=job, detail="this request id was used before with another spec")
        has_ended_badly = known is not None and known.status in (RunStatus.FAILED, RunStatus.CANCELLED)
        if known is not None and has_ended_badly and not retry:
            return known
        return await self._engine.submit(job, TRANSFORM, spec, tenant=tenant)

    async def get(self, job: str) -> tuple[Run, Snapshot]:
        """A job and how far it is.

        Raises:
            JobNotFound: there is none.
        """
        run = await self._engine.get(job)
        if run is None:
            raise JobNotFound(job=job)
        return run, self._snapshot_of(run, self._board.look(job))

    async def watch(self, job: str, *, from_sequence: int) -> AsyncIterator[Snapshot]:
        """Progress as it happens, from a place on; the last one is final."""
        shown = -1
        run, snapshot = await self.get(job)
        read_at = time.monotonic()
        while True:
            if snapshot.sequence >= max(from_sequence, shown + 1) or run.status.is_final:
                shown = snapshot.sequence
                yield snapshot
            if run.status.is_final:
                return
            await self._board.changed(timeout_s=LOOK_S)
            here = self._board.look(job)
            is_here = here is not None and run.status is RunStatus.RUNNING
            if is_here and time.monotonic() - read_at < READ_S:
                snapshot = self._snapshot_of(run, here)
            else:
                run, snapshot = await self.get(job)
                read_at = time.monotonic()

    async def cancel(self, job: str) -> tuple[Run, Snapshot]:
        """Stop a job and what it started; one that has ended stays as it is."""
        run, _ = await self.get(job)
        if not run.status.is_final:
            await self._engine.cancel(job)
            metrics.JOBS_ENDED.labels("cancelled").inc()
        return await self.get(job)
