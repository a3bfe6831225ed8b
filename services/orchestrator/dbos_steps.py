"""What a body may do, on DBOS: durable steps, children on a queue, events."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from dbos import error as dbos_error

from services.orchestrator.engine import Body, JsonObject
from services.orchestrator.failures import Failure, WorkFailed

log = logging.getLogger(__name__)

MOST_TRIES = 6
FIRST_PAUSE_S = 0.5
_RESULT_POLL_S = 0.05
_NOTICE_S = 1.0

SegmentWorkflow = Callable[[str, str, str, dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]


class Siblings:
    """What the bodies of this process know of each other without asking the database.

    DBOS learns of a finished child by polling. A child that ran in this process rings a bell instead, so that its
    parent looks at once; one that ran elsewhere is noticed a second later.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._bells: dict[str, asyncio.Event] = {}
        self._broken: set[str] = set()

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Count the current task among those to interrupt at a stop."""
        task = asyncio.current_task()
        assert task is not None, "a body runs in a task"
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def interrupt(self) -> None:
        """Cancel every body. DBOS writes no outcome for a cancelled task, so each goes on at the next start."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    def bell(self, child: str) -> asyncio.Event:
        """Rings when a child of this process has ended."""
        return self._bells.setdefault(child, asyncio.Event())

    def forget(self, children: Sequence[str]) -> None:
        """Drop the bells of children whose answers were fetched."""
        for child in children:
            self._bells.pop(child, None)

    def break_off(self, batch: str) -> None:
        """Say that a child of a batch failed: those that have not begun need not begin."""
        self._broken.add(batch)

    def is_broken(self, batch: str) -> bool:
        """Whether a child of the batch has failed in this process."""
        return batch in self._broken

    def mend(self, batch: str) -> None:
        """Forget that a batch is broken."""
        self._broken.discard(batch)


class DbosSteps:
    """`Steps` inside a DBOS workflow."""

    def __init__(
        self,
        job: str,
        tenant: str,
        siblings: Siblings,
        *,
        segment: SegmentWorkflow | None = None,
        queue: str = "",
    ) -> None:
        self._job = job
        self._tenant = tenant
        self.siblings = siblings
        self._segment = segment
        self._queue = queue

    @property
    def job(self) -> str:
        """Id of the job."""
        return self._job

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self._tenant

    async def call(self, name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        """Do a step once, or answer what it answered before."""

        async def attempt() -> JsonObject:
            return await _with_patience(name, step)

        try:
            # Preemptible: cancelling the job cancels the call in flight, and with it the peer's work.
            return await DBOS.run_step_async({"name": name, "preemptible": True}, attempt)
        except Exception as error:
            raise _work_failed(error) from error

    async def each(
        self,
        stage: str,
        body: str,
        items: Sequence[JsonObject],
        *,
        ended: Callable[[JsonObject], object] | None = None,
    ) -> list[JsonObject]:
        """Run a body for each item on the queue; answers in order."""
        assert self._segment is not None, "only a job's body has children"
        batch = f"{DBOS.workflow_id}.{stage}"
        ids = [f"{batch}.{number:06d}" for number in range(len(items))]
        handles = []
        for child, item in zip(ids, items, strict=True):
            # The id makes it idempotent: after a crash the same child is found, not started again.
            with SetWorkflowID(child), SetEnqueueOptions(priority=_priority(child)):
                handle = await DBOS.enqueue_workflow_async(
                    self._queue, self._segment, body, self._job, self._tenant, {"batch": batch, "item": item}
                )
            handles.append(handle)
        answers: list[JsonObject] = []
        failures: list[Failure] = []
        try:
            # In order, whatever ends first: the order of recorded steps must be the same after a crash.
            for child, handle in zip(ids, handles, strict=True):
                await self._notice(child)
                try:
                    answers.append(await handle.get_result(polling_interval_sec=_RESULT_POLL_S))
                    if ended is not None:
                        ended(answers[-1])
                except Exception as error:  # noqa: BLE001  whatever a child raised is its failure, and is kept
                    self.siblings.break_off(batch)
                    failures.append(_work_failed(error).failure)
        finally:
            self.siblings.forget(ids)
            self.siblings.mend(batch)
        if failures:
            raise WorkFailed(next((failure for failure in failures if failure.reason != "CANCELLED"), failures[0]))
        return answers

    async def _notice(self, child: str) -> None:
        """Wait until a child has ended, here or elsewhere, without polling the database all the time."""
        bell = self.siblings.bell(child)
        while not bell.is_set():
            # Not wait_for: where the wait ends in the moment of being cancelled, that one forgets the cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NOTICE_S):
                    await bell.wait()
                return
            if await asyncio.to_thread(has_ended, child):
                return

    async def tell(self, event: JsonObject) -> None:
        """Write an event down for watchers."""
        await DBOS.write_stream_async("progress", event)


async def run_segment(body: Body, steps: DbosSteps, envelope: dict[str, Any]) -> dict[str, Any]:
    """Run a child's body and ring its parent's bell, whichever way it ends."""
    child, batch = DBOS.workflow_id, str(envelope["batch"])
    assert child is not None, "a segment runs in a workflow"
    try:
        with steps.siblings.alive():
            if steps.siblings.is_broken(batch):
                raise WorkFailed(Failure("CANCELLED", {"what": "another segment of the job failed"}))
            return await body(steps, envelope["item"])
    except WorkFailed:
        steps.siblings.break_off(batch)
        raise
    finally:
        steps.siblings.bell(child).set()


async def _with_patience(name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
    """Repeat a step whose peer is away or full; everything else fails at once.

    Not DBOS's own retries: when those are used up it raises an error of its own, and the reason is lost.
    """
    pause_s = FIRST_PAUSE_S
    for attempt in range(1, MOST_TRIES + 1):
        try:
            return await step()
        except Exception as error:
            failure = Failure.of(error, stage=name)
            if not failure.is_retryable or attempt == MOST_TRIES:
                raise WorkFailed(failure) from error
            log.warning("step failed, trying again", extra={"step": name, "attempt": attempt, "reason": failure.reason})
        await asyncio.sleep(pause_s)
        pause_s *= 2
    raise AssertionError("the last attempt returns or raises")


def _work_failed(error: Exception) -> WorkFailed:
    """What a step or child failed with, also when it comes from the database and not from the step itself."""
    if isinstance(error, WorkFailed):
        return error
    data = getattr(error, "data", None)
    if isinstance(data, dict) and "reason" in data:
        return WorkFailed(Failure.from_json(data))
    name = type(error).__name__
    if "MaxRecoveryAttempts" in name:
        return WorkFailed(Failure("INTERNAL", {"what": "a segment was started too often without ending"}))
    if isinstance(error, dbos_error.DBOSException) and "Cancelled" in name:
        return WorkFailed(Failure("CANCELLED"))
    return WorkFailed(Failure.of(error))


def _priority(child: str) -> int:
    """Lower segments first: assembling waits for all, but a person who watches sees the beginning grow."""
    return int(child.rpartition(".")[2]) + 1


def has_ended(child: str) -> bool:
    """Whether a workflow has an outcome that is written down."""
    # In an empty context: inside a workflow's the look would be recorded as a step, at a time that differs each run.
    status = contextvars.Context().run(DBOS.get_workflow_status, child)
    return status is not None and status.status not in {"ENQUEUED", "DELAYED", "PENDING"}
