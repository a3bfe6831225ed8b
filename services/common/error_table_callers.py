"""What can go wrong between a caller and the public door: who it is, what it may, what it said before."""

from __future__ import annotations

from services.common.explanations import Code, Explanation, fault, refused

CALLERS: dict[str, Explanation] = {
    "UNAUTHENTICATED": refused(
        "the caller is not known[: {problem}]",
        "send a key as `authorization: Bearer KEY`; the operator makes one with `masquerade keys add`",
        Code.UNAUTHENTICATED,
    ),
    "FORBIDDEN": refused(
        "this caller may not do that[: {what}]",
        "ask the operator for a key that may",
        Code.PERMISSION_DENIED,
    ),
    "RATE_LIMITED": refused(
        "more calls than allowed[: at most {most} a second][: at most {at_once} at once]",
        "wait for the time that the answer names, then go on more slowly",
        Code.RESOURCE_EXHAUSTED,
    ),
    "QUOTA_EXCEEDED": refused(
        "a limit is reached[: {limit}][, {value} of {most}]",
        "wait until jobs have ended, or delete what is no longer needed; the operator can raise the limit",
        Code.RESOURCE_EXHAUSTED,
    ),
    "DEADLINE_REQUIRED": refused(
        "the call has no deadline[: {rpc}]",
        "set one: a call that nobody waits for must end by itself",
    ),
    "REQUEST_ID_REUSED": refused(
        "this request id was used before for something else[: {request_id}]",
        "use a new id for a new request; the same id is for sending the same request again",
        Code.ALREADY_EXISTS,
    ),
    "JOB_STATE_FORBIDS": refused(
        "the job[ {job}][ ({state})] cannot be {what|changed}[: {detail}]",
        "look at it with `masquerade jobs show`; what runs is cancelled before it is deleted or tried again",
        Code.FAILED_PRECONDITION,
    ),
    "ASSET_NOT_FOUND": refused(
        "no asset has the id {asset|that was given}",
        "list the assets; one that nobody used for some days is deleted: upload it again",
        Code.NOT_FOUND,
    ),
    "UPLOAD_CONFLICT": refused(
        "the upload[ {upload_id}] contradicts what was said before[: {problem}]",
        "ask how many bytes are confirmed and go on from there, or begin anew under another upload id",
        Code.FAILED_PRECONDITION,
    ),
    "IN_USE": refused(
        "{what|it} is still in use[ by the job {job}, which has not ended][ by the identity {identity}]",
        "wait for the job, or cancel it first",
        Code.FAILED_PRECONDITION,
    ),
    "CONSENT_REVOKED": refused(
        "the consent to use this face was withdrawn[: {identity}]",
        "nothing was published; the face may not be used any more",
        Code.FAILED_PRECONDITION,
    ),
    "CONSENT_EXPIRED": refused(
        "the consent to use this face has expired[: {identity}][ on {expired}]",
        "ask the person again and enrol the face anew",
        Code.FAILED_PRECONDITION,
    ),
    "CONSENT_NOT_COVERING": refused(
        "the consent does not cover this[: {what}]",
        "ask the person for this use; a consent covers the portraits and the uses that it names",
        Code.FAILED_PRECONDITION,
    ),
    "PUBLISH_FAILED": fault(
        "the result is done, but could not be put into {place|its second place}[: {detail}]",
        "the result is kept: download it, or mend the place and retry the job",
        Code.UNAVAILABLE,
    ),
    "AUDIT_BROKEN": fault(
        "the audit log is not what was written[: {problem}][ at entry {sequence}]",
        "keep the database as it is and compare with the anchored heads; see docs/operations/jobs.md",
        Code.DATA_LOSS,
    ),
}
"""Reason without its REASON_ prefix, to what it means."""
