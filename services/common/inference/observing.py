"""What both runtimes tell the operator of a call: how long it took, how many items it had, or why it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.common.errors import Cancelled, Internal, MasqueradeError
from services.common.metrics import INFERENCE_FAILURES, inference_timed


@contextmanager
def observed(model: str, *, runtime: str, items: int) -> Iterator[None]:
    """Measure one call; what it raises is counted by its reason and rises on."""
    try:
        with inference_timed(model, runtime, items=items):
            yield
    except BaseException as error:
        INFERENCE_FAILURES.labels(model, runtime, _reason(error)).inc()
        raise


def _reason(error: BaseException) -> str:
    if isinstance(error, MasqueradeError):
        return error.reason
    return Cancelled.reason if isinstance(error, asyncio.CancelledError) else Internal.reason
