"""Until when the caller of this work waits; set by the server for each call, read by the channels to the peers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

from services.common.errors import DeadlineExceeded

MARGIN_S = 0.05
"""What a peer's answer needs to come back while somebody still waits for it."""

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""On time.monotonic's clock."""


def set_remaining(seconds: float | None) -> None:
    """Say how long the caller of this task still waits; None for as long as it takes."""
    _deadline.set(None if seconds is None else time.monotonic() + seconds)


def remaining_s() -> float | None:
    """Seconds until the caller leaves, less the margin; None where nobody set a deadline. DeadlineExceeded if over."""
    deadline = _deadline.get()
    if deadline is None:
        return None
    left = deadline - time.monotonic() - MARGIN_S
    if left <= 0:
        raise DeadlineExceeded(what="this call")
    return left


@contextlib.contextmanager
def without_deadline() -> Iterator[None]:
    """For work that a call starts and that outlives it: tasks made in the block do not inherit the call's deadline."""
    before = _deadline.get()
    _deadline.set(None)
    try:
        yield
    finally:
        _deadline.set(before)
