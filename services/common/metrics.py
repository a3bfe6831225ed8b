"""All metrics of the project, in one place: dashboards and alert rules are tested against this file.

No label grows with use: stages, models, methods and reasons are few; jobs and files belong into logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import AsyncIterator, Iterator

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from services.common.errors import InvalidSetting

_RPC = ("grpc_type", "grpc_service", "grpc_method")
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

# The names of go-grpc-prometheus, so that public dashboards work.
RPC_STARTED = Counter("grpc_server_started", "RPCs started.", _RPC)
RPC_HANDLED = Counter("grpc_server_handled", "RPCs ended, by status.", (*_RPC, "grpc_code"))
RPC_RECEIVED = Counter("grpc_server_msg_received", "Messages received.", _RPC)
RPC_SENT = Counter("grpc_server_msg_sent", "Messages sent.", _RPC)
RPC_SECONDS = Histogram("grpc_server_handling_seconds", "Duration of RPCs.", _RPC, buckets=_SECONDS)
RPC_IN_FLIGHT = Gauge("masquerade_rpcs_in_flight", "RPCs that are being served.")

REFUSED = Counter("masquerade_calls_refused", "Calls turned away at a public door, by what was wrong.", ("problem",))
CERTIFICATE_EXPIRES = Gauge(
    "masquerade_tls_certificate_expires_seconds", "Time until a certificate does not hold any more.", ("certificate",)
)

ERRORS = Counter("masquerade_errors", "Errors that left a service, by reason.", ("reason",))
FRAMES = Counter("masquerade_frames", "Frames that passed a stage.", ("stage",))
SEGMENT_SECONDS = Histogram(
    "masquerade_segment_seconds",
    "Duration of one segment in one stage.",
    ("stage",),
    buckets=(0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640),
)
INFERENCE_SECONDS = Histogram(
    "masquerade_inference_seconds", "Duration of one call to a model.", ("model", "runtime"), buckets=_SECONDS
)
INFERENCE_BATCH = Histogram(
    "masquerade_inference_batch_size", "Items in one call to a model.", ("model",), buckets=(1, 2, 4, 8, 16, 32, 64)
)
INFERENCE_FAILURES = Counter(
    "masquerade_inference_failures", "Calls to a model that ended in an error.", ("model", "runtime", "reason")
)
# Triton counts these nowhere: a request that meets a full queue is in none of its statistics.
INFERENCE_OVERFLOWS = Counter("masquerade_inference_overflows", "Requests that met a full queue on Triton.", ("model",))
RING_BYTES_USED = Gauge("masquerade_ring_bytes_used", "Shared memory for frames that is lent out.")
RING_BYTES_TOTAL = Gauge("masquerade_ring_bytes_total", "Shared memory for frames in all.")
CHILDREN = Counter("masquerade_children", "Children that worked on hostile bytes, by how they ended.", ("outcome",))
JOBS = Gauge("masquerade_jobs", "Jobs that this process runs, by state.", ("state",))
JOBS_WAITING = Gauge("masquerade_jobs_waiting", "Jobs in the book that have not begun, of all processes.")
ADMISSION_SECONDS = Histogram(
    "masquerade_job_admission_seconds",
    "Time from accepting a job to handing it to the engine.",
    buckets=(0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 14400),
)
JOBS_ENDED = Counter("masquerade_jobs_ended", "Jobs that ended, by state.", ("state",))
LOOP_LAG = Gauge("masquerade_event_loop_lag_seconds", "Longest time in the last seconds that the event loop was held.")
POOL_QUEUED = Gauge("masquerade_pool_queued", "Calls that wait for a worker of the CPU pool.")
POOL_WORKERS = Gauge("masquerade_pool_workers", "Workers of the CPU pool.")

LAG_PROBE_S = 0.1
LAG_WINDOW_S = 5.0


def segment_done(stage: str, *, since: float) -> None:
    """A segment has passed a stage; one that was found done is not told.

    Args:
        stage: analyse or render.
        since: time.perf_counter() at its beginning.
    """
    SEGMENT_SECONDS.labels(stage).observe(time.perf_counter() - since)


def frames_passed(stage: str, frames: int = 1) -> None:
    """Frames have passed a stage, one by one or in groups, long before their segment has."""
    FRAMES.labels(stage).inc(frames)


def frames_so_far(stage: str) -> float:
    """Frames that passed a stage in this process, of all jobs."""
    samples = (sample for family in FRAMES.collect() for sample in family.samples)
    wanted = ("masquerade_frames_total", {"stage": stage})
    return sum(sample.value for sample in samples if (sample.name, sample.labels) == wanted)


class RingUsage:
    """Told used and total bytes of one ring; the gauges hold the sum of all rings of the process."""

    def __init__(self) -> None:
        self._used = 0
        self._total = 0

    def __call__(self, used_bytes: int, total_bytes: int) -> None:
        RING_BYTES_USED.inc(used_bytes - self._used)
        RING_BYTES_TOTAL.inc(total_bytes - self._total)
        self._used, self._total = used_bytes, total_bytes


@contextlib.contextmanager
def inference_timed(model: str, runtime: str, *, items: int) -> Iterator[None]:
    """Observe one call to a model."""
    begin = time.perf_counter()
    yield
    INFERENCE_SECONDS.labels(model, runtime).observe(time.perf_counter() - begin)
    INFERENCE_BATCH.labels(model).observe(items)


class _LagWatch:
    """The one watch over a loop, and for how many it is kept."""

    def __init__(self) -> None:
        self.users = 0
        self.task: asyncio.Task[None] | None = None


_lag_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LagWatch] = weakref.WeakKeyDictionary()


@contextlib.asynccontextmanager
async def loop_lag_watched() -> AsyncIterator[None]:
    """Keep LOOP_LAG up to date while the block lasts. Servers that share a loop share one watch: six would overwrite
    each other's worst."""
    watch = _lag_watches.setdefault(asyncio.get_running_loop(), _LagWatch())
    watch.users += 1
    if watch.task is None:
        watch.task = asyncio.create_task(_watch_lag())
    try:
        yield
    finally:
        watch.users -= 1
        if not watch.users:
            task, watch.task = watch.task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _watch_lag() -> None:
    worst, since = 0.0, time.monotonic()
    while True:
        begin = time.monotonic()
        await asyncio.sleep(LAG_PROBE_S)
        now = time.monotonic()
        worst = max(worst, now - begin - LAG_PROBE_S)
        LOOP_LAG.set(worst)
        if now - since > LAG_WINDOW_S:
            worst, since = 0.0, now


class Exposition:
    """/metrics over HTTP, in a thread of its own: it answers even while the event loop is held."""

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        try:
            self._server, self._thread = start_http_server(int(port), addr=host.strip("[]") or "0.0.0.0")
        except (OSError, ValueError, OverflowError) as error:
            raise InvalidSetting(setting="metrics_listen", value=listen, problem=str(error)) from error

    @property
    def port(self) -> int:
        """The port that is served, also where the setting said 0."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
