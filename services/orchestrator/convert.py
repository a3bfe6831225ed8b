"""The only place where a message becomes plain data and back: JSON for durable rows, jobs for those who ask.

Numbers stay numbers and what is unset stays out: protobuf's own JSON turns 64-bit integers into text and enums into
names, and durable rows want neither.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from masquerade.v1 import errors_pb2, job_pb2, media_pb2, timeline_pb2
from services.common.errors import InvalidSpec, Violation
from services.orchestrator.book.events import Change, now_ms
from services.orchestrator.book.publishing import Published
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.failures import Failure
from services.orchestrator.jobs import JobView
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
        return value.ToJsonString() if isinstance(value, Timestamp) else to_json(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        raise TypeError(f"{field.full_name} holds bytes: they belong into the store, not into a row")
    return value


def spec_json(spec: job_pb2.JobSpec) -> JsonObject:
    """A spec as plain data.

    Raises:
        InvalidSpec: a time in it is none.
    """
    try:
        return to_json(spec)
    except ValueError as error:
        raise InvalidSpec(violations=[Violation("spec.identities", f"a consent's expire_time: {error}")]) from error


def progress(snapshot: Snapshot) -> job_pb2.Progress:
    """One step of progress."""
    message = job_pb2.Progress(
        sequence=snapshot.sequence,
        state=_state(snapshot.state),
        frames_done=snapshot.frames_done,
        frames_total=snapshot.frames_total,
        frames_per_second=snapshot.frames_per_second,
        seconds_left=snapshot.seconds_left,
    )
    message.time.FromMilliseconds(snapshot.time_ms or now_ms())
    return message


def job(view: JobView, *, is_brief: bool = False) -> job_pb2.Job:
    """A job as its owner sees it; in lists without what analysis found, which may be long."""
    row = view.row
    message = job_pb2.Job(
        id=row.id,
        spec=from_json(row.asked, job_pb2.JobSpec),
        state=_state(view.progress.state),
        progress=progress(view.progress),
        failure=None if row.failure is None else failure(row.failure),
        request_id=row.request_id,
        rerender_of=row.rerender_of,
        history=[_change(change) for change in view.history],
        publications=[_publication(each) for each in view.publications],
    )
    message.create_time.FromMilliseconds(row.created_ms)
    message.update_time.FromMilliseconds(row.changed_ms)
    if row.expires_ms is not None:
        message.expire_time.FromMilliseconds(row.expires_ms)
    if row.state in (JobState.SUCCEEDED, JobState.FAILED):
        _put_result(message, row.result or {})
    if is_brief:
        message.ClearField("timeline")
    return message


def _put_result(message: job_pb2.Job, result: JsonObject) -> None:
    for name, field in (("artifact", message.artifact), ("record", message.record), ("report", message.report)):
        value = result.get(name)
        if isinstance(value, dict):
            field.CopyFrom(from_json(value, media_pb2.ObjectRef))
    timeline = result.get("timeline")
    if isinstance(timeline, dict):
        message.timeline.CopyFrom(from_json(timeline, timeline_pb2.TimelineSummary))


def _change(change: Change) -> job_pb2.StateChange:
    message = job_pb2.StateChange(state=_state(change.state), attempt=change.attempt)
    message.time.FromMilliseconds(change.time_ms)
    return message


def _publication(published: Published) -> job_pb2.PublicationState:
    message = job_pb2.PublicationState(
        publication=job_pb2.Publication(place=published.place, name=published.name or None),
        done=published.done_ms is not None,
        failure=None if published.failure is None else failure(published.failure),
    )
    if published.done_ms is not None:
        message.publish_time.FromMilliseconds(published.done_ms)
    return message


def failure(failed: Failure) -> errors_pb2.Failure:
    """Why a job failed: the reason for programs, the sentences for people."""
    error, state = failed.error(), STATE_OF_STEP.get(failed.stage)
    return errors_pb2.Failure(
        reason=f"REASON_{failed.reason}",
        message=error.message(),
        remedy=error.remedy,
        stage=failed.stage if state is None else state.name.lower(),
        frame=failed.frame,
    )


def _state(state: JobState) -> str:
    return f"JOB_STATE_{state.name}"
