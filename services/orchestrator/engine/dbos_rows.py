"""What stands in DBOS's rows, and the few looks at them that no step of a body may be made of."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from dbos import DBOS, WorkflowStatus
from dbos import error as dbos_error

from services.orchestrator.engine.port import Run, RunStatus
from services.orchestrator.failures import Failure, WorkFailed

T = TypeVar("T")

RUNNING = "PENDING"
WAITING = ("ENQUEUED", "DELAYED")
IN_FLIGHT = (RUNNING, *WAITING)
DEAD_LETTER = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
STATUS: Mapping[str, RunStatus] = {
    "ENQUEUED": RunStatus.QUEUED,
    "DELAYED": RunStatus.QUEUED,
    "PENDING": RunStatus.RUNNING,
    "SUCCESS": RunStatus.DONE,
    "ERROR": RunStatus.FAILED,
    "CANCELLED": RunStatus.CANCELLED,
    DEAD_LETTER: RunStatus.FAILED,
}
ENDED = tuple(name for name, status in STATUS.items() if status.is_final)
FAILURE = "failure"
"""Attribute of a run that was not its body's fault: why it was ended from outside."""

_ATTEMPTS_AT_ONCE = 32
_JOBS_AT_ONCE = 500


def workflow_of(job: str, attempt: int) -> str:
    """Id of an attempt's row; those of its children begin with it."""
    return f"{job}.{attempt:03d}"


def job_of(workflow: str) -> tuple[str, int]:
    """The job and the attempt that an id of an attempt's row names."""
    job, _, attempt = workflow.rpartition(".")
    return job, int(attempt)


async def outside(call: Coroutine[Any, Any, T]) -> T:
    """Ask DBOS something without its being recorded as a step of the body that asks.

    What others do meanwhile differs from run to run, and a recorded step must not.
    """
    return await asyncio.create_task(call, context=contextvars.Context())


async def attempts_at(jobs: Iterable[str], *, is_whole: bool = False) -> list[WorkflowStatus]:
    """Rows of all attempts at jobs; `is_whole` with what went in and came out.

    By their ids, and not by what these begin with: that would read every row there is, on either database.
    """
    found: list[WorkflowStatus] = []
    wanted, first = list(jobs), 0
    while wanted:
        rows: list[WorkflowStatus] = []
        for batch in _batches(wanted, _JOBS_AT_ONCE):
            ids = [workflow_of(job, first + more) for job in batch for more in range(_ATTEMPTS_AT_ONCE)]
            rows += await DBOS.list_workflows_async(workflow_ids=ids, load_input=is_whole, load_output=is_whole)
        found += rows
        # Attempts may be missing between others; only one that comes near the window's end has perhaps more behind it.
        near = first + _ATTEMPTS_AT_ONCE // 2
        wanted = sorted({job for job, attempt in (job_of(row.workflow_id) for row in rows) if attempt >= near})
        first += _ATTEMPTS_AT_ONCE
    return found


async def descendants_of(workflows: Sequence[str]) -> list[str]:
    """Ids of all that workflows have started, and of what those have, the youngest generation first."""
    generations: list[list[str]] = [list(workflows)]
    while generations[-1]:
        rows: list[WorkflowStatus] = []
        for batch in _batches(generations[-1], _JOBS_AT_ONCE):
            rows += await DBOS.list_workflows_async(parent_workflow_id=list(batch), load_input=False, load_output=False)
        generations.append([row.workflow_id for row in rows])
    return list(itertools.chain.from_iterable(reversed(generations[1:])))


async def delete_in_batches(workflows: Sequence[str], *, at_once: int = 200) -> None:
    """Delete ended workflows with all that they started: in small transactions, children first.

    A job of a thousand segments in one transaction would hold every writer of an SQLite file up. Whoever is
    interrupted in the middle finds the parents still there, and what is left by them.
    """
    for batch in _batches([*await descendants_of(workflows), *workflows], at_once):
        await DBOS.delete_workflows_async(list(batch))


def run_of(row: WorkflowStatus) -> Run:
    """What an attempt's row says."""
    job, attempt = job_of(row.workflow_id)
    attributes = row.attributes or {}
    positional = (row.input or {"args": ()})["args"]
    status, failure = STATUS[row.status], None
    if row.status == DEAD_LETTER:
        failure = Failure("INTERNAL", {"detail": "the job was started too often without ending"})
    elif attributes.get(FAILURE) is not None and status is RunStatus.CANCELLED:
        status, failure = RunStatus.FAILED, Failure.from_json(attributes[FAILURE])
    elif row.error is not None:
        failure = work_failed(row.error).failure
    return Run(
        job=job,
        tenant=str(attributes.get("tenant", "")),
        attempt=attempt,
        status=status,
        digest=str(attributes.get("digest", "")),
        number=int(attributes.get("number", 0)),
        created_ms=row.created_at or 0,
        changed_ms=row.updated_at or row.created_at or 0,
        spec=positional[3] if len(positional) > 3 else {},
        result=row.output if isinstance(row.output, dict) else None,
        failure=failure,
    )


def work_failed(error: Exception) -> WorkFailed:
    """What a body, a step or a child failed with; in the database `WorkFailed` has become a portable exception."""
    if isinstance(error, WorkFailed):
        return error
    data = getattr(error, "data", None)
    if isinstance(data, dict) and "reason" in data:
        return WorkFailed(Failure.from_json(data))
    name = type(error).__name__
    if "MaxRecoveryAttempts" in name:
        return WorkFailed(Failure("INTERNAL", {"detail": "a segment was started too often without ending"}))
    if isinstance(error, dbos_error.DBOSException) and "Cancelled" in name:
        return WorkFailed(Failure("CANCELLED"))
    return WorkFailed(Failure.of(error))


def has_ended(workflow: str) -> bool:
    """Whether a workflow has an outcome that is written down. Blocks."""
    # In an empty context: inside a workflow's the look would be recorded as a step, at a time that differs each run.
    status = contextvars.Context().run(DBOS.get_workflow_status, workflow)
    return status is not None and status.status not in IN_FLIGHT


def _batches(values: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (values[at : at + size] for at in range(0, len(values), size))
