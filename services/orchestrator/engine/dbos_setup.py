"""How DBOS is set up: its settings, its queues, a database file that is fit, a log that says what we do not know."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as dbos_error

from services.common.errors import DependencyMissing
from services.orchestrator.engine.liveness import PROMPT
from services.orchestrator.failures import WorkFailed

WORKFLOW_VERSION: Final = "orchestrator-2"
"""Set by hand: the default is a hash of the source, and any edit would strand the jobs that run. Raise it only when a
body calls other steps, or in another order, than it did."""

ADOPTED_VERSIONS: Final[frozenset[str]] = frozenset()
"""Older versions whose histories this one can follow: their runs go on here. Those of all others fail, with the
reason; a retry takes them up from their finished segments."""

JOBS, SEGMENTS = "jobs", "segments"
BACKSTOP = 10
"""Starts that DBOS counts for each that we do: its count takes in those that only stood beside a segment that kills."""


@dataclass(frozen=True, slots=True)
class DbosSettings:
    """How the engine runs."""

    database: str
    """`sqlite:////path/jobs.db` or `postgresql://...`."""

    executor: str = "local"
    """Stable name of this process: after a restart it takes up what this name was running. No two may share one."""

    workers: int = 2
    """Segments in flight in this process."""

    tenant_workers: int | None = None
    """Segments of one tenant in flight in this process; None lets one tenant have all while nobody else waits. Counted
    here and not over all processes: what a dead process still holds in the database then holds nobody up."""

    jobs: int = 4
    """Jobs in flight in this process; their segments share the workers."""

    segment_attempts: int = 10
    """Starts of one segment before it is given up. Every start counts, also those that a kill interrupted, so a
    segment that kills the process cannot do so for ever. After the first few it is started alone, so that those beside
    it are not counted out with it."""

    job_attempts: int = 1000
    """Starts of one job; a job is started again at every start of the process."""

    poll_s: float = 0.25
    """How often queues and streams of an SQLite database are looked at. A look at one queue costs 2 ms of CPU: ten a
    second and queue took 5 % of a core from the frames; a job waits for two or three looks in all."""

    dead_after_s: float = 30.0
    """So long a process must have shown no sign of life before others take over what it was running. On PostgreSQL."""

    version: str = WORKFLOW_VERSION
    """Which histories this process writes and follows."""

    adopts: frozenset[str] = ADOPTED_VERSIONS
    """Which other ones it can follow."""

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is one file of one process."""
        return self.database.startswith("sqlite")


def config_of(settings: DbosSettings) -> DBOSConfig:
    """The settings as DBOS takes them."""
    config: DBOSConfig = {
        "name": "masquerade",
        "system_database_url": settings.database,
        "executor_id": settings.executor,
        "application_version": settings.version,
        # The default serializer pickles: reading a row would run whatever its writer wished.
        "serializer": DBOSPortableJSONSerializer(),
        "notification_listener_polling_interval_sec": settings.poll_s,
        "max_executor_threads": 16,
        # PostgreSQL gives a hundred connections to all replicas and services together.
        "sys_db_pool_size": 12,
        # A process that was stopped inside a transaction holds rows; nobody can take them over before this is up.
        "sys_db_idle_transaction_timeout_sec": max(1.0, settings.dead_after_s / 2),
        "enable_otlp": False,
        "log_level": "WARNING",
    }
    if not settings.is_sqlite:
        config["db_engine_kwargs"] = {"connect_args": {"application_name": "masquerade", **PROMPT}}
    return config


async def register_queues(settings: DbosSettings) -> None:
    """Make the queues, or give them these settings. None is ever deleted: older versions may still look at it."""
    # A replica of an older version that starts once more must not undo what a newer one has chosen.
    conflict = "always_update" if settings.is_sqlite else "update_if_latest_version"
    await DBOS.register_queue_async(
        JOBS,
        worker_concurrency=settings.jobs,
        polling_interval_sec=settings.poll_s,
        on_conflict=conflict,  # type: ignore[arg-type]
    )
    await DBOS.register_queue_async(
        SEGMENTS,
        worker_concurrency=settings.workers,
        # A limit a partition, which is a tenant, has them take turns at the free workers.
        partition_worker_concurrency=min(settings.tenant_workers or settings.workers, settings.workers),
        polling_interval_sec=settings.poll_s,
        on_conflict=conflict,  # type: ignore[arg-type]
    )


def prepare_sqlite(url: str) -> None:
    """Make the database file fit, before DBOS opens it.

    Raises:
        DependencyMissing: this Python's SQLite is too old for DBOS.
    """
    if sys.version_info >= (3, 12) and sqlite3.sqlite_version_info < (3, 42):
        # DBOS chooses `unixepoch('subsec')` by the version of Python, and SQLite before 3.42 answers it with NULL.
        raise DependencyMissing(
            what="SQLite 3.42",
            found=sqlite3.sqlite_version,
            remedy="use Python 3.11, or a Python that was built with SQLite 3.42 or newer",
        )
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # The default rollback journal costs almost twice as much a step; the mode stays with the file.
        connection.execute("PRAGMA journal_mode=WAL")


def quiet_logging() -> None:
    """Send DBOS's log through ours; without a handler of our own it would add one that writes to the terminal."""
    log = logging.getLogger("dbos")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    if not any(isinstance(each, _Unexpected) for each in log.filters):
        log.addFilter(_Unexpected())


class _Unexpected(logging.Filter):
    """Lets pass what DBOS alone knows.

    A failed job carries its reason and a stopped one was meant to stop: to DBOS both are errors with a trace, once for
    the job and once for each segment.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        raised = record.exc_info[1] if record.exc_info else None
        if isinstance(
            raised, (WorkFailed, dbos_error.DBOSAwaitedWorkflowCancelledError, dbos_error.DBOSWorkflowCancelledError)
        ):
            return False
        return not any(said in record.getMessage() for said in _EXPECTED)


_EXPECTED = ("Asyncio task cancelled for workflow or step", "was cancelled during execution")
