"""How much CPU one thing takes beside another: both in turn, so that a machine that others use harms them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

ROUNDS = 7


def share_of(ours: Callable[[], object], other: Callable[[], object]) -> float:
    """CPU time of ours divided by the other's: the median of several rounds."""
    ours()
    other()
    return statistics.median(_spent(ours) / _spent(other) for _ in range(ROUNDS))


def _spent(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin
