"""What can go wrong between a caller and the public door, as one class per reason."""

from __future__ import annotations

from services.common.error_base import MasqueradeError


class Unauthenticated(MasqueradeError):
    """A caller without a key, or with one that does not hold: unknown, revoked, expired, a bad token."""

    reason = "UNAUTHENTICATED"


class Forbidden(MasqueradeError):
    """A known caller that may not do this."""

    reason = "FORBIDDEN"


class RateLimited(MasqueradeError):
    """More calls than a tenant may make; comes with `retry_after_s`."""

    reason = "RATE_LIMITED"


class QuotaExceeded(MasqueradeError):
    """A limit of the tenant is reached; comes with `retry_after_s`."""

    reason = "QUOTA_EXCEEDED"


class DeadlineRequired(MasqueradeError):
    """A call that would never end by itself."""

    reason = "DEADLINE_REQUIRED"


class RequestIdReused(MasqueradeError):
    """The same request id with another content."""

    reason = "REQUEST_ID_REUSED"


class JobStateForbids(MasqueradeError):
    """A job that has not ended, or has, and cannot be retried, deleted or rendered again now."""

    reason = "JOB_STATE_FORBIDS"


class AssetNotFound(MasqueradeError):
    """No such asset of this tenant."""

    reason = "ASSET_NOT_FOUND"


class UploadConflict(MasqueradeError):
    """Another length, a gap, bytes beyond the end, another digest."""

    reason = "UPLOAD_CONFLICT"


class InUse(MasqueradeError):
    """Something that a running job, or an identity, needs."""

    reason = "IN_USE"


class ConsentRevoked(MasqueradeError):
    """The person withdrew."""

    reason = "CONSENT_REVOKED"


class ConsentExpired(MasqueradeError):
    """The time for which the person agreed is over."""

    reason = "CONSENT_EXPIRED"


class ConsentNotCovering(MasqueradeError):
    """Another use, or other portraits, than the person agreed to."""

    reason = "CONSENT_NOT_COVERING"


class PublishFailed(MasqueradeError):
    """The result could not be put into a second place; it is kept."""

    reason = "PUBLISH_FAILED"


class AuditBroken(MasqueradeError):
    """A line of the audit log was edited, deleted, moved or cut off."""

    reason = "AUDIT_BROKEN"
