"""What the two runtimes tell the operator: how long models take, how many items, what failed and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from services.common.errors import Internal, MasqueradeError

_SECONDS = Histogram(
    "masquerade_inference_seconds",
    "From the call of a model to its answer, waiting included.",
    ["model", "runtime"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
_ITEMS = Counter("masquerade_inference_items", "Pictures that models answered.", ["model", "runtime"])
_FAILURES = Counter(
    "masquerade_inference_failures", "Calls of models that ended in an error.", ["model", "runtime", "reason"]
)
# Triton's own counters leave these out: a request that meets a full queue is in none of its statistics.
_OVERFLOWS = Counter("masquerade_inference_overflows", "Requests that met a full queue on Triton.", ["model"])


@contextmanager
def observed(model: str, *, runtime: str, items: int) -> Iterator[None]:
    """Measure one call."""
    started = time.perf_counter()
    try:
        yield
    except asyncio.CancelledError:
        _FAILURES.labels(model, runtime, "CANCELLED").inc()
        raise
    except MasqueradeError as error:
        _FAILURES.labels(model, runtime, error.reason).inc()
        raise
    except Exception:
        _FAILURES.labels(model, runtime, Internal.reason).inc()
        raise
    _SECONDS.labels(model, runtime).observe(time.perf_counter() - started)
    _ITEMS.labels(model, runtime).inc(items)


def count_overflow(model: str) -> None:
    """Note that a request met a full queue."""
    _OVERFLOWS.labels(model).inc()
