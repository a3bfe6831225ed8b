"""The only place where a message becomes plain data and back: JSON for durable rows, jobs for those who ask.

Numbers stay numbers and what is unset stays out: protobuf's own JSON turns 64-bit integers into text and enums into
names, and durable rows want neither.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from masquerade.v1 import errors_pb2, job_pb2, media_pb2, timeline_pb2
from services.orchestrator.engine import Run, RunStatus
from services.orchestrator.failures import Failure
from services.orchestrator.progress import STATE_OF_STEP, JobState, Snapshot

AnyMessage = TypeVar("AnyMessage", bound=Message)


def to_json(message: Message) -> dict[str, Any]:
    """The fields of a message by name; fields without presence are always there, others only when they are set."""
    value: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            value[field.name] = _repeated(field, getattr(message, field.name))
        elif not field.has_presence or message.HasField(field.name):
            value[field.name] = _single(field, getattr(message, field.name))
    return value


def from_json(value: dict[str, Any], message: type[AnyMessage]) -> AnyMessage:
    """The message that `to_json` was given."""
    return json_format.ParseDict(value, message())


def _repeated(field: FieldDescriptor, values: Any) -> Any:
    if _is_map(field):
        return dict(values)
    return [_single(field, value) for value in values]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _single(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return to_json(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        raise TypeError(f"{field.full_name} holds bytes: they belong into the store, not into a row")
    return value


_FINAL_STATES = {
    RunStatus.DONE: JobState.SUCCEEDED,
    RunStatus.FAILED: JobState.FAILED,
    RunStatus.CANCELLED: JobState.CANCELLED,
}


def snapshot_of(run: Run, live: Snapshot | None) -> Snapshot:
    """How far a run is: what its row says once it has ended, else what the board of this process knows.

    Args:
        run: from the engine.
        live: from the board; None where another process runs it, or nobody does yet.
    """
    if run.status in _FINAL_STATES:
        frames = int(str((run.result or {}).get("frames") or 0))
        return Snapshot(_FINAL_STATES[run.status], frames, frames, attempt=run.attempt)
    # An attempt that waits has no place yet; what the board may still show is the one before it.
    if live is not None and run.status is not RunStatus.QUEUED:
        return Snapshot(
            live.state, live.frames_done, live.frames_total, live.frames_per_second, live.seconds_left, run.attempt
        )
    return Snapshot(JobState.QUEUED if run.status is RunStatus.QUEUED else JobState.ANALYSING, attempt=run.attempt)


def progress(snapshot: Snapshot) -> job_pb2.Progress:
    """One step of progress."""
    return job_pb2.Progress(
        sequence=snapshot.sequence,
        state=_state(snapshot),
        frames_done=snapshot.frames_done,
        frames_total=snapshot.frames_total,
        frames_per_second=snapshot.frames_per_second,
        seconds_left=snapshot.seconds_left,
    )


def job(run: Run, snapshot: Snapshot) -> job_pb2.Job:
    """A job as its owner sees it."""
    result: dict[str, Any] = dict(run.result or {})
    message = job_pb2.Job(
        id=run.job,
        spec=from_json(dict(run.spec), job_pb2.JobSpec),
        state=_state(snapshot),
        progress=progress(snapshot),
        failure=None if run.failure is None else failure(run.failure),
    )
    message.create_time.FromMilliseconds(run.created_ms)
    message.update_time.FromMilliseconds(run.changed_ms)
    for name, field in (("artifact", message.artifact), ("record", message.record), ("report", message.report)):
        if result.get(name):
            field.CopyFrom(from_json(result[name], media_pb2.ObjectRef))
    if result.get("timeline"):
        message.timeline.CopyFrom(from_json(result["timeline"], timeline_pb2.TimelineSummary))
    return message


def failure(failed: Failure) -> errors_pb2.Failure:
    """Why a job failed: the reason for programs, the sentences for people."""
    error, state = failed.error(), STATE_OF_STEP.get(failed.stage)
    return errors_pb2.Failure(
        reason=f"REASON_{failed.reason}",
        message=error.message(),
        remedy=error.remedy,
        stage=failed.stage if state is None else state.name.lower(),
    )


def _state(snapshot: Snapshot) -> str:
    return f"JOB_STATE_{snapshot.state.name}"
