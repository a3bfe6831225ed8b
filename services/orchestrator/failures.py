"""Failures as a job carries them: typed errors that survive a database and a wire."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.common.errors import MasqueradeError, Violation, from_reason

RETRYABLE = frozenset({"UNAVAILABLE", "OVERLOADED", "RING_FULL", "LEASE_EXPIRED", "RUNTIME_UNAVAILABLE"})
"""Reasons that may be gone a moment later: a peer that restarts, a queue that is full, a ring without a free slot."""


_FRAME: Final = re.compile(r"\bframe (\d+)\b")
_WHERE: Final = ("at", "detail", "asked")
"""Fields in which errors about media say the place: "frame 12", "a packet behind frame 12"."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step or a job failed."""

    reason: str
    fields: dict[str, str] = field(default_factory=dict)
    remedy: str | None = None
    violations: tuple[tuple[str, str], ...] = ()
    stage: str = ""
    frame: int | None = None
    """Where no frame is to blame: None."""

    @classmethod
    def of(cls, error: BaseException, *, stage: str = "") -> Failure:
        """The failure that an exception is; one that nobody foresaw is a fault of ours and says its class and text."""
        if isinstance(error, WorkFailed):
            return error.failure
        if isinstance(error, MasqueradeError):
            violations = tuple((violation.field, violation.problem) for violation in error.violations)
            frame = _frame_of(error.fields)
            return cls(error.reason, dict(error.fields), error.own_remedy, violations, stage, frame)
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
            frame=_number(value.get("frame")),
        )

    def to_json(self) -> dict[str, object]:
        """JSON that `from_json` reads."""
        return {
            "reason": self.reason,
            "fields": self.fields,
            "remedy": self.remedy,
            "violations": [list(violation) for violation in self.violations],
            "stage": self.stage,
            "frame": self.frame,
        }

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return self.reason in RETRYABLE

    def error(self) -> MasqueradeError:
        """The exception again, for a door or the command to show."""
        violations = [Violation(*violation) for violation in self.violations]
        return from_reason(self.reason, self.fields, remedy=self.remedy, violations=violations)


def _frame_of(fields: Mapping[str, str]) -> int | None:
    """The frame that an error names; errors cross wires as text, so it is read from there."""
    if "frame" in fields:
        return _number(fields["frame"])
    for name in _WHERE:
        found = _FRAME.search(fields.get(name, ""))
        if found:
            return int(found[1])
    return None


def _number(value: Any) -> int | None:
    text = "" if value is None else str(value)
    return int(text) if text.isdecimal() else None


class WorkFailed(Exception):
    """A failure on its way through the engine; `code` and `data` are what a portable database keeps of an exception."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        self.code = failure.reason
        self.data = failure.to_json()
        super().__init__(failure.error().message())
