"""What a call failed with: a stable reason for programs, two sentences for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from masquerade.v1 import errors_pb2, job_pb2

DOMAIN = "masquerade"
_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of the request that is wrong, by its path, and what is wrong with it."""

    field: str
    problem: str


class ClientError(Exception):
    """A call that did not succeed.

    Attributes:
        reason: a name of the enum Reason in errors.proto without its prefix; `UNAVAILABLE`, `DEADLINE_EXCEEDED` and
            the other names of gRPC's codes where nobody of ours answered.
        code: gRPC's status code.
        text: what is wrong.
        remedy: what to do about it; may be empty.
        fields: what the server knows about the case.
        violations: every field of the request that is wrong.
        retry_after_s: when the same call may succeed; None where waiting does not help.
    """

    def __init__(
        self,
        reason: str,
        text: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        remedy: str = "",
        fields: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        self.reason = reason
        self.code = code
        self.text = text
        self.remedy = remedy
        self.fields = dict(fields or {})
        self.violations = violations
        self.retry_after_s = retry_after_s
        super().__init__(f"{reason}: {text}" + (f": {remedy}" if remedy else ""))


class JobFailed(ClientError):
    """A job that ended without a result.

    Attributes:
        job: as it is now; its `failure` says stage and frame.
    """

    def __init__(self, job: job_pb2.Job) -> None:
        self.job = job
        failure = job.failure
        if job.state == job_pb2.JOB_STATE_CANCELLED:
            super().__init__("CANCELLED", f"the job {job.id} was cancelled", remedy="retry it to go on")
        else:
            name = errors_pb2.Reason.Name(failure.reason).removeprefix("REASON_")
            super().__init__(name, failure.message or f"the job {job.id} failed", remedy=failure.remedy)


@dataclass(slots=True)
class _Details:
    reason: str = ""
    remedy: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    retry_after_s: float | None = None


def from_rpc_error(error: Any) -> ClientError:
    """The error in what a stub raised."""
    code: grpc.StatusCode = error.code()
    found = _Details()
    text = error.details() or code.name
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            status = status_pb2.Status()
            try:
                status.ParseFromString(value)
            except DecodeError:
                continue
            text = status.message or text
            _read(status, found)
    return ClientError(
        found.reason or code.name,
        text,
        code=code,
        remedy=found.remedy,
        fields=found.fields,
        violations=tuple(found.violations),
        retry_after_s=found.retry_after_s,
    )


def _read(status: status_pb2.Status, found: _Details) -> None:
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            if info.domain == DOMAIN:
                found.reason, found.fields = info.reason, dict(info.metadata)
                found.fields.pop("remedy", None)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            found.violations += [Violation(each.field, each.description) for each in bad.field_violations]
        elif detail.Is(error_details_pb2.LocalizedMessage.DESCRIPTOR):
            said = error_details_pb2.LocalizedMessage()
            detail.Unpack(said)
            found.remedy = said.message
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            found.retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
