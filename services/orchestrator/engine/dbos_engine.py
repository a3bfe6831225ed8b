"""The engine on DBOS Transact: SQLite in one process, PostgreSQL with several, the same code.

Only the modules named dbos_ and this one know DBOS, and DBOS keeps one instance and one registry a process, so only one
of these engines can be started at a time. What was learned about it the hard way stands beside the line that answers
it; docs/operations/engine.md says where each of its traps is answered and tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowAttributes, SetWorkflowID
from sqlalchemy.exc import OperationalError

from services.common.errors import InvalidSpec, Unavailable
from services.orchestrator.engine import dbos_takeover
from services.orchestrator.engine.dbos_looks import Looks
from services.orchestrator.engine.dbos_rows import (
    RUNNING,
    STATUS,
    attempts_at,
    delete_in_batches,
    has_ended,
    outside,
    run_of,
    workflow_of,
)
from services.orchestrator.engine.dbos_setup import (
    BACKSTOP,
    JOBS,
    SEGMENTS,
    WORKFLOW_VERSION,
    DbosSettings,
    config_of,
    prepare_sqlite,
    quiet_logging,
    register_queues,
)
from services.orchestrator.engine.dbos_steps import PROGRESS, DbosSteps, House, Workflows, run_chunk, run_segment
from services.orchestrator.engine.port import Body, JsonObject, Run, RunStatus, Standing, Strays
from services.orchestrator.engine.quarantine import TOGETHER, Quarantine, Record
from services.orchestrator.engine.recovery import Reaper
from services.orchestrator.engine.siblings import Siblings
from services.orchestrator.keys import json_digest

__all__ = ["WORKFLOW_VERSION", "DbosEngine", "DbosSettings"]

log = logging.getLogger(__name__)

MOST_PRIORITY = 100
_PRIORITY_BITS = 24
_WRITTEN_WITHIN_S, _WRITTEN_POLL_S = 10.0, 0.02


class DbosEngine:
    """`Engine` on DBOS."""

    def __init__(self, settings: DbosSettings) -> None:
        self._settings = settings
        self._looks = Looks(settings.poll_s)
        self._siblings = Siblings()
        self._numbers: itertools.count[int] | None = None
        self._submitting = asyncio.Lock()
        self._callbacks: list[Callable[[str], None]] = []
        self._enders: set[asyncio.Task[None]] = set()
        self._suspects: set[str] | None = None
        self._is_looked_over = asyncio.Event()
        self._is_stopping = False
        self._reaper: Reaper | None = None

    async def start(self, bodies: Mapping[str, Body]) -> None:
        """Open the database and go on with what this executor was running.

        Raises:
            InvalidSetting: another process runs under the same executor's name.
            Unavailable: the database does not answer.
        """
        settings = self._settings
        quiet_logging()
        if settings.is_sqlite:
            prepare_sqlite(settings.database)
        else:
            self._reaper = Reaper(
                self,
                settings.database,
                settings.executor,
                version=settings.version,
                dead_after_s=settings.dead_after_s,
            )
            # Before anything is taken up: a process that nobody sees alive would have it taken away again.
            await self._reaper.hold()
        try:
            await self._open(bodies)
        except BaseException as error:
            if self._reaper is not None:
                await self._reaper.let_go()
            if isinstance(error, OperationalError):
                detail = " ".join(str(error.orig).split())[:200]
                raise Unavailable(peer="the engine's database", detail=detail) from error
            raise
        if self._reaper is not None:
            self._reaper.start()

    async def _open(self, bodies: Mapping[str, Body]) -> None:
        settings = self._settings
        DBOS(config=config_of(settings))
        self._register(bodies)
        # Inside the running loop, so that bodies run on it and share its channels.
        DBOS.launch()
        self._looks.decide()
        await register_queues(settings)
        if settings.is_sqlite:
            self._suspects = await self._often_started()
            # Nobody else is at this file: whatever another version began is nobody's.
            await self.recover(versions=sorted((await self.strays()).versions))
        self._is_looked_over.set()

    def _register(self, bodies: Mapping[str, Body]) -> None:
        settings = self._settings
        quarantine = Quarantine(attempts=settings.segment_attempts, look=self._record, note=self._note_alone)
        house = House(bodies, self._siblings, quarantine, self._looks)

        @DBOS.workflow(name="segment", max_recovery_attempts=BACKSTOP * settings.segment_attempts)
        async def segment(body: str, job: str, tenant: str, envelope: dict[str, Any], priority: int) -> dict[str, Any]:
            return await run_segment(house, DbosSteps(job, tenant, house, priority=priority), body, envelope)

        @DBOS.workflow(name="chunk", max_recovery_attempts=settings.job_attempts)
        async def chunk(body: str, job: str, tenant: str, envelope: dict[str, Any], priority: int) -> dict[str, Any]:
            return await run_chunk(house, self._steps(house, job, tenant, priority), body, envelope)

        @DBOS.workflow(name="job", max_recovery_attempts=settings.job_attempts)
        async def job(body: str, job: str, tenant: str, spec: dict[str, Any], priority: int) -> dict[str, Any]:
            workflow = str(DBOS.workflow_id)
            with self._siblings.alive(workflow):
                try:
                    return await bodies[body](self._steps(house, job, tenant, priority), spec)
                finally:
                    self._looks.rouse(JOBS)
                    self._watch_end(job, workflow)

        self._job, self._workflows = job, Workflows(segment, chunk)

    def _steps(self, house: House, job: str, tenant: str, priority: int) -> DbosSteps:
        return DbosSteps(job, tenant, house, priority=priority, workflows=self._workflows)

    async def stop(self) -> None:
        """Interrupt what runs, without writing an outcome, and close the database."""
        self._is_stopping = True
        if self._reaper is not None:
            await self._reaper.halt()
        await self._siblings.interrupt()
        for task in self._enders:
            task.cancel()
        loop = asyncio.get_running_loop()
        # DBOS made its own executor the loop's default; closing it would leave the loop without one.
        loop.set_default_executor(ThreadPoolExecutor(max_workers=4))
        await asyncio.to_thread(lambda: DBOS.destroy(destroy_registry=True))
        if self._reaper is not None:
            # Last of all: until then what it has taken is in its hands.
            await self._reaper.let_go()

    async def submit(
        self,
        job: str,
        body: str,
        spec: JsonObject,
        *,
        tenant: str,
        priority: int = 0,
        number: int | None = None,
        attempt: int | None = None,
    ) -> Run:
        """Begin an attempt at a job, or attach to it."""
        assert 0 <= priority <= MOST_PRIORITY, f"priority {priority}"
        digest = json_digest(spec)
        async with self._submitting:
            newest = await self.get(job)
            known = newest
            if attempt is not None and (newest is None or newest.attempt != attempt):
                known = await self._attempt(job, attempt)
            if newest is not None:
                _same(newest, digest, tenant)
            has_ended_badly = known is not None and known.status in {RunStatus.FAILED, RunStatus.CANCELLED}
            if known is not None and (attempt is not None or not has_ended_badly):
                return known
            wanted = attempt if attempt is not None else 0 if newest is None else newest.attempt + 1
            place = await self._next_number() if number is None else number
            attributes = {"tenant": tenant, "digest": digest, "number": place}
            # Timestamps of SQLite have whole seconds on this Python; the number makes the order strict.
            order = (priority << _PRIORITY_BITS) + place % (1 << _PRIORITY_BITS) + 1
            with (
                SetWorkflowID(workflow_of(job, wanted)),
                SetWorkflowAttributes(attributes),
                SetEnqueueOptions(priority=order),
            ):
                await DBOS.enqueue_workflow_async(JOBS, self._job, body, job, tenant, spec, priority)
        self._looks.rouse(JOBS)
        run = await self._attempt(job, wanted)
        assert run is not None, f"{job} was just enqueued"
        # Another process may have been faster with the same id: what was enqueued first holds.
        return _same(run, digest, tenant)

    async def _attempt(self, job: str, attempt: int) -> Run | None:
        found = await DBOS.list_workflows_async(workflow_ids=[workflow_of(job, attempt)])
        return run_of(found[0]) if found else None

    async def _next_number(self) -> int:
        """For those that keep no book: above the numbers of the newest runs."""
        if self._numbers is None:
            rows = await DBOS.list_workflows_async(
                name="job", sort_desc=True, limit=1000, load_input=False, load_output=False
            )
            self._numbers = itertools.count(max((run_of(row).number for row in rows), default=0) + 1)
        return next(self._numbers)

    async def cancel(self, job: str) -> None:
        """Interrupt the newest attempt and its segments."""
        run = await self.get(job)
        if run is not None and not run.status.is_final:
            await DBOS.cancel_workflow_async(workflow_of(job, run.attempt), cancel_children=True)
            self._tell_of_end(job)

    async def get(self, job: str) -> Run | None:
        """The newest attempt, or None."""
        runs = [run_of(row) for row in await attempts_at([job], is_whole=True)]
        return max(runs, key=lambda run: run.attempt, default=None)

    async def statuses(self, jobs: Sequence[str]) -> Mapping[str, Standing]:
        """Where the newest attempts stand, in one look."""
        runs = [run_of(row) for row in await attempts_at(jobs)]
        return {run.job: Standing(run.attempt, run.status) for run in sorted(runs, key=lambda run: run.attempt)}

    async def list(self, tenant: str, *, limit: int = 100) -> Sequence[Run]:
        """The newest jobs of a tenant, newest first."""
        # Filtered here: on SQLite the engine cannot look into attributes.
        runs = [run_of(row) for row in await DBOS.list_workflows_async(name="job", sort_desc=True)]
        newest: dict[str, Run] = {}
        for run in sorted(runs, key=lambda run: run.number, reverse=True):
            if run.tenant == tenant:
                newest.setdefault(run.job, run)
        return list(itertools.islice(newest.values(), limit))

    async def watch(self, job: str, *, offset: int = 0) -> AsyncIterator[tuple[int, JsonObject]]:
        """Events of the newest attempt from an offset on, until it ends."""
        run = await self.get(job)
        if run is None:
            return
        events = DBOS.read_stream_async(workflow_of(job, run.attempt), PROGRESS, offset=offset)
        async with contextlib.aclosing(events):
            async for event in events:
                offset += 1
                yield offset, event

    async def strays(self) -> Strays:
        """Who should be running what."""
        mine = self._settings.executor
        # Before the rows: what begins in between is then not taken for lost.
        running = self._siblings.running
        rows = await DBOS.list_workflows_async(
            status=RUNNING, app_version=self._settings.version, load_input=False, load_output=False
        )
        return Strays(
            executors=frozenset(str(row.executor_id) for row in rows if row.executor_id != mine),
            versions=await dbos_takeover.other_versions(self._settings.version),
            runs=frozenset(row.workflow_id for row in rows if row.executor_id == mine) - running,
        )

    async def recover(
        self, executors: Sequence[str] = (), *, versions: Sequence[str] = (), runs: Sequence[str] = ()
    ) -> int:
        """Take over what nobody runs."""
        recovered = 0
        if executors:
            # Underscored, but the only call that is guarded by owner and keeps the count of attempts; dbos is pinned
            # and a test says when it goes.
            recovered += len(await asyncio.to_thread(DBOS._recover_pending_workflows, list(executors)))
        for version in versions:
            if version in self._settings.adopts:
                recovered += await dbos_takeover.adopt(version, mine=self._settings.version)
                continue
            failed = await dbos_takeover.fail(version, mine=self._settings.version)
            recovered += len(failed)
            for job in failed:
                self._tell_of_end(job)
        if lost := sorted(set(runs) - self._siblings.running):
            recovered += await dbos_takeover.requeue(lost, executor=self._settings.executor)
        self._looks.rouse(JOBS, SEGMENTS)
        return recovered

    async def delete(self, *jobs: str) -> None:
        """Forget jobs that have ended, with all their attempts."""
        ended = [row.workflow_id for row in await attempts_at(jobs) if STATUS[row.status].is_final]
        await delete_in_batches(ended)

    def on_end(self, callback: Callable[[str], None]) -> None:
        """Have a function called with the id of each job of which a run ended in this process."""
        self._callbacks.append(callback)

    def _tell_of_end(self, job: str) -> None:
        for callback in self._callbacks:
            callback(job)

    def _watch_end(self, job: str, workflow: str) -> None:
        """Say of a body that is about to return that its run has ended, once the outcome is written down."""
        if self._callbacks and not self._is_stopping:
            # In an empty context: DBOS would take what the task asks for steps of the body.
            task = asyncio.create_task(self._tell_when_written(job, workflow), context=contextvars.Context())
            self._enders.add(task)
            task.add_done_callback(self._enders.discard)

    async def _tell_when_written(self, job: str, workflow: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WRITTEN_WITHIN_S):
                is_written = False
                while not is_written:
                    await asyncio.sleep(_WRITTEN_POLL_S)
                    is_written = await asyncio.to_thread(has_ended, workflow)
        self._tell_of_end(job)

    async def _often_started(self) -> set[str]:
        rows = await DBOS.list_workflows_async(
            name="segment", status=[RUNNING, "ENQUEUED"], load_input=False, load_output=False
        )
        most = min(TOGETHER, self._settings.segment_attempts)
        # One that runs by now counts this start, one that waits does not yet.
        return {row.workflow_id for row in rows if (row.recovery_attempts or 0) >= most}

    async def _record(self, segment: str) -> Record:
        """How often a segment was started. On SQLite only a start of the process can raise that: no look is needed."""
        await self._is_looked_over.wait()
        if self._suspects is not None and segment not in self._suspects:
            return Record(1)
        status = await outside(DBOS.get_workflow_status_async(segment))
        if status is None:
            return Record(1)
        return Record(status.recovery_attempts or 1, int((status.attributes or {}).get("alone", 0)))

    async def _note_alone(self, segment: str, alone: int) -> None:
        await outside(DBOS.update_workflow_attributes_async(segment, {"alone": alone}, merge=True))


def _same(run: Run, digest: str, tenant: str) -> Run:
    """The run, if it is of the same spec of the same tenant."""
    if run.digest != digest or run.tenant != tenant:
        raise InvalidSpec(job=run.job, detail="this request id was used before with another spec")
    return run
