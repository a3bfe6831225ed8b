"""The engine on DBOS Transact: SQLite in one process, PostgreSQL with several, the same code.

Only this module knows DBOS, and DBOS keeps one instance and one registry a process, so only one of these engines can
be started at a time. What was learned about it the hard way stands beside the line that answers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbos import (
    DBOS,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    SetEnqueueOptions,
    SetWorkflowAttributes,
    SetWorkflowID,
    WorkflowStatus,
)
from dbos import error as dbos_error

from services.common.errors import DependencyMissing, InvalidSpec
from services.orchestrator.dbos_steps import DbosSteps, Siblings, has_ended, run_segment
from services.orchestrator.engine import Body, JsonObject, Run, RunStatus, Standing
from services.orchestrator.failures import Failure, WorkFailed
from services.orchestrator.keys import json_digest

WORKFLOW_VERSION = "orchestrator-1"
"""Set by hand: the default is a hash of the source, and any edit would strand the jobs that run. Raise it only when a
body calls other steps, or in another order, than it did."""

JOBS, SEGMENTS = "jobs", "segments"
_PROGRESS = "progress"
_STATUS = {
    "ENQUEUED": RunStatus.QUEUED,
    "DELAYED": RunStatus.QUEUED,
    "PENDING": RunStatus.RUNNING,
    "SUCCESS": RunStatus.DONE,
    "ERROR": RunStatus.FAILED,
    "CANCELLED": RunStatus.CANCELLED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": RunStatus.FAILED,
}
_PRIORITY_BITS = 24
_WRITTEN_WITHIN_S, _WRITTEN_POLL_S = 10.0, 0.02


@dataclass(frozen=True, slots=True)
class DbosSettings:
    """How the engine runs."""

    database: str
    """`sqlite:////path/jobs.db` or `postgresql://...`."""

    executor: str = "local"
    """Stable name of this process: after a restart it takes up what this name was running."""

    workers: int = 2
    """Segments in flight in this process."""

    jobs: int = 4
    """Jobs in flight in this process; their segments share the workers."""

    segment_attempts: int = 10
    """Starts of one segment before it is given up. Every start counts, also those that a kill interrupted, so a
    segment that kills the process cannot do so for ever."""

    job_attempts: int = 1000
    """Starts of one job; a job is started again at every start of the process."""

    poll_s: float = 0.25
    """How often queues and streams of an SQLite database are looked at. A look at one queue costs 2 ms of CPU: ten a
    second and queue took 5 % of a core from the frames; a job waits for two or three looks in all."""


class DbosEngine:
    """`Engine` on DBOS."""

    def __init__(self, settings: DbosSettings) -> None:
        self._settings = settings
        self._siblings = Siblings()
        self._numbers = itertools.count(1)
        self._submitting = asyncio.Lock()
        self._callbacks: list[Callable[[str], None]] = []
        self._enders: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def start(self, bodies: Mapping[str, Body]) -> None:
        """Open the database and go on with what this executor was running."""
        settings = self._settings
        if settings.database.startswith("sqlite"):
            _prepare_sqlite(settings.database)
        _quiet_logging()
        config: DBOSConfig = {
            "name": "masquerade",
            "system_database_url": settings.database,
            "executor_id": settings.executor,
            "application_version": WORKFLOW_VERSION,
            # The default serializer pickles: reading a row would run whatever its writer wished.
            "serializer": DBOSPortableJSONSerializer(),
            "notification_listener_polling_interval_sec": settings.poll_s,
            "max_executor_threads": 16,
            "enable_otlp": False,
            "log_level": "WARNING",
        }
        DBOS(config=config)
        self._register(bodies)
        # Inside the running loop, so that bodies run on it and share its channels.
        DBOS.launch()
        await DBOS.register_queue_async(
            JOBS, worker_concurrency=settings.jobs, polling_interval_sec=settings.poll_s, on_conflict="always_update"
        )
        await DBOS.register_queue_async(
            SEGMENTS,
            worker_concurrency=settings.workers,
            polling_interval_sec=settings.poll_s,
            on_conflict="always_update",
        )
        newest = await DBOS.list_workflows_async(name="job", load_input=False, load_output=False)
        numbers = [int((status.attributes or {}).get("number", 0)) for status in newest]
        self._numbers = itertools.count(max(numbers, default=0) + 1)

    def _register(self, bodies: Mapping[str, Body]) -> None:
        siblings, settings = self._siblings, self._settings

        @DBOS.workflow(name="segment", max_recovery_attempts=settings.segment_attempts)
        async def segment(body: str, job: str, tenant: str, item: dict[str, Any]) -> dict[str, Any]:
            return await run_segment(bodies[body], DbosSteps(job, tenant, siblings), item)

        @DBOS.workflow(name="job", max_recovery_attempts=settings.job_attempts)
        async def job(body: str, job: str, tenant: str, spec: dict[str, Any]) -> dict[str, Any]:
            steps = DbosSteps(job, tenant, siblings, segment=segment, queue=SEGMENTS)
            with siblings.alive():
                try:
                    return await bodies[body](steps, spec)
                finally:
                    self._watch_end(job, str(DBOS.workflow_id))

        self._job = job

    async def stop(self) -> None:
        """Interrupt what runs, without writing an outcome, and close the database."""
        self._is_stopping = True
        await self._siblings.interrupt()
        for task in self._enders:
            task.cancel()
        loop = asyncio.get_running_loop()
        # DBOS made its own executor the loop's default; closing it would leave the loop without one.
        loop.set_default_executor(ThreadPoolExecutor(max_workers=4))
        await asyncio.to_thread(lambda: DBOS.destroy(destroy_registry=True))

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
        digest = json_digest(spec)
        async with self._submitting:
            known = await self._find(job, attempt)
            if known is not None:
                return _same(known, digest, tenant)
            newest = await self.get(job)
            if newest is not None:
                _same(newest, digest, tenant)
            wanted = attempt if attempt is not None else 0 if newest is None else newest.attempt + 1
            place = next(self._numbers) if number is None else number
            attributes = {"tenant": tenant, "digest": digest, "number": place}
            with (
                SetWorkflowID(_workflow(job, wanted)),
                SetWorkflowAttributes(attributes),
                # Timestamps of SQLite have whole seconds on this Python; the number makes the order strict.
                SetEnqueueOptions(priority=(priority << _PRIORITY_BITS) + place % (1 << _PRIORITY_BITS)),
            ):
                await DBOS.enqueue_workflow_async(JOBS, self._job, body, job, tenant, spec)
        run = await self._find(job, wanted)
        assert run is not None, f"{job} was just enqueued"
        # Another process may have been faster with the same id: what was enqueued first holds.
        return _same(run, digest, tenant)

    async def _find(self, job: str, attempt: int | None) -> Run | None:
        """An attempt to attach to: that one, or the newest unless it ended badly."""
        if attempt is not None:
            found = await DBOS.list_workflows_async(name="job", workflow_ids=[_workflow(job, attempt)])
            return _run(found[0]) if found else None
        newest = await self.get(job)
        return None if newest is None or newest.status in {RunStatus.FAILED, RunStatus.CANCELLED} else newest

    async def cancel(self, job: str) -> None:
        """Interrupt the newest attempt and its segments."""
        run = await self.get(job)
        if run is not None and not run.status.is_final:
            await DBOS.cancel_workflow_async(_workflow(job, run.attempt), cancel_children=True)
            self._tell_of_end(job)

    async def get(self, job: str) -> Run | None:
        """The newest attempt, or None."""
        attempts = await DBOS.list_workflows_async(name="job", workflow_id_prefix=f"{job}.")
        return max((_run(status) for status in attempts), key=lambda run: run.attempt, default=None)

    async def statuses(self, jobs: Sequence[str]) -> Mapping[str, Standing]:
        """Where the newest attempts stand, in one look."""
        if not jobs:
            return {}
        attempts = await DBOS.list_workflows_async(
            name="job", workflow_id_prefix=[f"{job}." for job in jobs], load_input=False, load_output=False
        )
        newest: dict[str, Standing] = {}
        for run in sorted((_run(status) for status in attempts), key=lambda run: run.attempt):
            newest[run.job] = Standing(run.attempt, run.status)
        return newest

    async def list(self, tenant: str, *, limit: int = 100) -> Sequence[Run]:
        """The newest jobs of a tenant, newest first."""
        # Filtered here: on SQLite the engine cannot look into attributes.
        runs = [_run(status) for status in await DBOS.list_workflows_async(name="job", sort_desc=True)]
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
        events = DBOS.read_stream_async(_workflow(job, run.attempt), _PROGRESS, offset=offset)
        async with contextlib.aclosing(events):
            async for event in events:
                offset += 1
                yield offset, event

    async def recover(self, executors: Sequence[str]) -> int:
        """Take over what dead executors were running."""
        # Underscored, but the only call that is guarded by owner and keeps the count of attempts; dbos is pinned and
        # a test says when it goes.
        handles = await asyncio.to_thread(DBOS._recover_pending_workflows, list(executors))
        return len(handles)

    async def delete(self, *jobs: str) -> None:
        """Forget jobs that have ended, with all their attempts."""
        if not jobs:
            return
        attempts = await DBOS.list_workflows_async(
            name="job", workflow_id_prefix=[f"{job}." for job in jobs], load_input=False, load_output=False
        )
        ended = [status.workflow_id for status in attempts if _STATUS[status.status].is_final]
        if ended:
            await DBOS.delete_workflows_async(ended, delete_children=True)

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


def _same(run: Run, digest: str, tenant: str) -> Run:
    """The run, if it is of the same spec of the same tenant."""
    if run.digest != digest or run.tenant != tenant:
        raise InvalidSpec(job=run.job, detail="this request id was used before with another spec")
    return run


def _workflow(job: str, attempt: int) -> str:
    return f"{job}.{attempt:03d}"


def _run(status: WorkflowStatus) -> Run:
    job, _, attempt = status.workflow_id.rpartition(".")
    attributes = status.attributes or {}
    positional = (status.input or {"args": ()})["args"]
    failure = None
    if status.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        failure = Failure("INTERNAL", {"what": "the job was started too often without ending"})
    elif status.error is not None:
        failure = failure_of(status.error)
    return Run(
        job=job,
        tenant=str(attributes.get("tenant", "")),
        attempt=int(attempt),
        status=_STATUS[status.status],
        digest=str(attributes.get("digest", "")),
        number=int(attributes.get("number", 0)),
        created_ms=status.created_at or 0,
        changed_ms=status.updated_at or status.created_at or 0,
        spec=positional[3] if len(positional) > 3 else {},
        result=status.output if isinstance(status.output, dict) else None,
        failure=failure,
    )


def failure_of(error: Exception) -> Failure:
    """The failure in an exception that came out of the database, where `WorkFailed` has become portable."""
    if isinstance(error, WorkFailed):
        return error.failure
    data = getattr(error, "data", None)
    return Failure.from_json(data) if isinstance(data, dict) and "reason" in data else Failure.of(error)


def _prepare_sqlite(url: str) -> None:
    """Make the database file fit, before DBOS opens it."""
    if sys.version_info >= (3, 12) and sqlite3.sqlite_version_info < (3, 42):
        # DBOS chooses `unixepoch('subsec')` by the version of Python, and SQLite before 3.42 answers it with NULL.
        raise DependencyMissing(
            what="SQLite 3.42",
            found=sqlite3.sqlite_version,
            remedy="use Python 3.11, or a Python that was built with SQLite 3.42 or newer",
        )
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # The default rollback journal costs almost twice as much a step; the mode stays with the file.
        connection.execute("PRAGMA journal_mode=WAL")


def _quiet_logging() -> None:
    """Send DBOS's log through ours; without a handler of our own it would add one that writes to the terminal."""
    log = logging.getLogger("dbos")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    if not any(isinstance(each, _Unexpected) for each in log.filters):
        log.addFilter(_Unexpected())


class _Unexpected(logging.Filter):
    """Lets pass what DBOS alone knows.

    A failed job carries its reason and a stopped one was meant to stop: to DBOS both are errors with a trace, once for
    the job and once for each segment.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        raised = record.exc_info[1] if record.exc_info else None
        if isinstance(
            raised, (WorkFailed, dbos_error.DBOSAwaitedWorkflowCancelledError, dbos_error.DBOSWorkflowCancelledError)
        ):
            return False
        return not any(said in record.getMessage() for said in _EXPECTED)


_EXPECTED = ("Asyncio task cancelled for workflow or step", "was cancelled during execution")
