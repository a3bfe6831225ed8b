"""Errors across the wire: a typed error becomes a google.rpc.Status, and at the peer the same typed error again.

The status carries ErrorInfo (domain `masquerade`, the reason, the fields as metadata), BadRequest where paths of the
request are to blame, RetryInfo where trying again later makes sense, and LocalizedMessage with the remedy.
"""

from __future__ import annotations

from typing import Any, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common import errors
from services.common.error_table import Code
from services.common.errors import MasqueradeError, Violation, from_reason

DOMAIN = "masquerade"
REMEDY_KEY = "remedy"
"""Metadata key under which a remedy travels when the place that raised gave its own."""

FIELD_CHARACTERS = 400
FIELDS_CHARACTERS = 3000
VIOLATIONS = 20
"""gRPC refuses more than 8 KiB of trailing metadata, which base64 swells by a third: long fields are cut."""

RETRY_AFTER_S = 1.0
"""What an overload says when the place that raised did not know better."""

_RETRIED = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE})

_BY_CODE: dict[grpc.StatusCode, type[MasqueradeError]] = {
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidSpec,
}
"""What a status without our details means: gRPC itself made it, or a stranger did."""


def to_status(error: MasqueradeError) -> status_pb2.Status:
    """The google.rpc.Status of a typed error, small enough for trailing metadata."""
    details = [_packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_metadata(error)))]
    violations = error.violations[:VIOLATIONS]
    if violations:
        bad = error_details_pb2.BadRequest()
        for violation in violations:
            bad.field_violations.add(
                field=violation.field[:FIELD_CHARACTERS], description=violation.problem[:FIELD_CHARACTERS]
            )
        details.append(_packed(bad))
    if error.explanation.code in _RETRIED and error.reason != "NO_SPACE":
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(1000 * retry_after_s(error)))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    # For clients that do not have our table: what a person can do about it.
    details.append(_packed(error_details_pb2.LocalizedMessage(locale="en", message=error.remedy[:FIELD_CHARACTERS])))
    return status_pb2.Status(code=int(error.explanation.code), message=error.text()[:1000], details=details)


def to_grpc_status(error: MasqueradeError) -> grpc.Status:
    """What `context.abort_with_status` takes."""
    return rpc_status.to_status(to_status(error))


def grpc_code(error: MasqueradeError) -> grpc.StatusCode:
    """gRPC's own enum for the code of an error."""
    return grpc.StatusCode[error.explanation.code.name]


def retry_after_s(error: MasqueradeError) -> float:
    """Seconds after which an overloaded peer may be asked again."""
    return float(error.fields.get("retry_after_s", RETRY_AFTER_S))


def from_status(status: status_pb2.Status) -> MasqueradeError | None:
    """The typed error in a status, or None when a stranger made it."""
    info: error_details_pb2.ErrorInfo | None = None
    violations: list[Violation] = []
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            candidate = error_details_pb2.ErrorInfo()
            detail.Unpack(candidate)
            if candidate.domain == DOMAIN:
                info = candidate
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations.extend(Violation(v.field, v.description) for v in bad.field_violations)
    if info is None:
        return None
    fields = dict(info.metadata)
    remedy = fields.pop(REMEDY_KEY, None)
    return from_reason(info.reason, fields, remedy=remedy, violations=violations)


def from_rpc_error(error: grpc.RpcError, *, peer: str | None = None) -> MasqueradeError:
    """The typed error that a peer raised, from what its call raised here.

    Args:
        error: a grpc.aio.AioRpcError, or the RpcError of a synchronous call.
        peer: who was called, for errors that gRPC itself made.
    """
    call = cast(Any, error)
    code: grpc.StatusCode = call.code()
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status()
            status.ParseFromString(value)
            typed = from_status(status)
            if typed is not None:
                return typed
    detail = call.details() or code.name
    error_class = _BY_CODE.get(code)
    if error_class is None:
        return errors.Internal(peer=peer, status=code.name, detail=detail)
    return error_class(peer=peer, detail=detail)


def _metadata(error: MasqueradeError) -> dict[str, str]:
    metadata: dict[str, str] = {}
    room = FIELDS_CHARACTERS
    fields = dict(error.fields)
    if error.own_remedy:
        fields[REMEDY_KEY] = error.own_remedy
    for name, value in fields.items():
        cut = value[: min(FIELD_CHARACTERS, room)]
        room -= len(cut) + len(name)
        if room <= 0:
            break
        metadata[name] = cut
    return metadata


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
