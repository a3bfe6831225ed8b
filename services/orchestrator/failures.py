"""Failures as a job carries them: typed errors that survive a database and a wire."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.common.errors import MasqueradeError, Violation, from_reason

RETRYABLE = frozenset({"UNAVAILABLE", "OVERLOADED", "RING_FULL", "LEASE_EXPIRED", "RUNTIME_UNAVAILABLE"})
"""Reasons that may be gone a moment later: a peer that restarts, a queue that is full, a ring without a free slot."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step or a job failed."""

    reason: str
    fields: dict[str, str] = field(default_factory=dict)
    remedy: str | None = None
    violations: tuple[tuple[str, str], ...] = ()
    stage: str = ""

    @classmethod
    def of(cls, error: BaseException, *, stage: str = "") -> Failure:
        """The failure that an exception is; one that nobody foresaw is a fault of ours and says its class and text."""
        if isinstance(error, WorkFailed):
            return error.failure
        if isinstance(error, MasqueradeError):
            violations = tuple((violation.field, violation.problem) for violation in error.violations)
            return cls(error.reason, dict(error.fields), error.own_remedy, violations, stage)
        return cls("INTERNAL", {"what": f"{type(error).__name__}: {error}"}, None, (), stage)

    @classmethod
    def from_json(cls, value: object) -> Failure:
        """Read back what `to_json` wrote; anything else is an internal failure that shows it."""
        if not isinstance(value, dict) or "reason" not in value:
            return cls("INTERNAL", {"what": str(value)})
        return cls(
            reason=str(value["reason"]),
            fields={str(name): str(text) for name, text in dict(value.get("fields") or {}).items()},
            remedy=value.get("remedy"),
            violations=tuple((str(path), str(problem)) for path, problem in value.get("violations") or ()),
            stage=str(value.get("stage") or ""),
        )

    def to_json(self) -> dict[str, object]:
        """JSON that `from_json` reads."""
        return {
            "reason": self.reason,
            "fields": self.fields,
            "remedy": self.remedy,
            "violations": [list(violation) for violation in self.violations],
            "stage": self.stage,
        }

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return self.reason in RETRYABLE

    def error(self) -> MasqueradeError:
        """The exception again, for a door or the command to show."""
        violations = [Violation(*violation) for violation in self.violations]
        return from_reason(self.reason, self.fields, remedy=self.remedy, violations=violations)


class WorkFailed(Exception):
    """A failure on its way through the engine; `code` and `data` are what a portable database keeps of an exception."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        self.code = failure.reason
        self.data = failure.to_json()
        super().__init__(failure.error().message())
