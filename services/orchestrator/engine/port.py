"""The durable engine, as the orchestrator sees it: a narrow port, so that what stands behind it can be exchanged.

A *run* is one attempt at a job. Its *body* is an async function that does nothing but call steps, in an order that
depends on its arguments and on what steps answered: after a crash it is run again from its beginning, and each step
that has answered before answers the same without being done again. Values that cross the port are JSON, never pickles:
whoever can write to the engine's database must not be able to run code here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from services.orchestrator.failures import Failure

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it."""
        return self in {RunStatus.DONE, RunStatus.FAILED, RunStatus.CANCELLED}


@dataclass(frozen=True, slots=True)
class Run:
    """What the engine knows of the newest attempt at a job."""

    job: str
    tenant: str
    attempt: int
    status: RunStatus
    digest: str
    """Digest of the spec: the same job with another spec is a mistake of the caller."""

    number: int
    """Admission number: lower ones of the same priority start first."""

    created_ms: int
    """When it was submitted, Unix time."""

    spec: JsonObject
    changed_ms: int = 0
    """When its status last changed, Unix time."""

    result: JsonObject | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the newest attempt at a job stands: what reconciling many rows needs, and no more."""

    attempt: int
    status: RunStatus


@dataclass(frozen=True, slots=True)
class Strays:
    """Runs in flight that are not known to be in anybody's hands."""

    executors: frozenset[str] = frozenset()
    """Other processes that should be running some."""

    versions: frozenset[str] = frozenset()
    """Other versions of the software that began some."""

    runs: frozenset[str] = frozenset()
    """Those that this process should be running, and is not: it was cut off from the database while it took them."""


class Steps(Protocol):
    """What a body may do."""

    @property
    def job(self) -> str:
        """Id of the job."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    async def call(self, name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        """Do a step, or answer what it answered before.

        A step is done at least once: it is repeated when the process died before its answer was written down, and when
        a peer was away or full. So it must find its own finished output and keep it.

        Raises:
            WorkFailed: the step failed, with the reason.
        """

    async def each(
        self,
        stage: str,
        body: str,
        items: Sequence[JsonObject],
        *,
        ended: Callable[[JsonObject], object] | None = None,
    ) -> list[JsonObject]:
        """Run a registered body once for each item, as many at a time as the engine has workers; answers in order.

        When one fails, those that have not begun are not begun, and the failure of the first in order is raised.
        `ended` is called with each answer, in order; also with those that were written down before a crash.
        """

    async def tell(self, event: JsonObject) -> None:
        """Write an event down for watchers; again after a crash only if it was not written."""


Body: TypeAlias = Callable[[Steps, JsonObject], Awaitable[JsonObject]]


class Engine(Protocol):
    """Runs bodies so that nothing that was finished is lost."""

    async def start(self, bodies: Mapping[str, Body]) -> None:
        """Open the database and go on with what was running when this executor last stopped. Call inside the loop."""

    async def stop(self) -> None:
        """Stop without finishing: what runs is interrupted and goes on at the next start."""

    async def submit(
        self,
        job: str,
        body: str,
        spec: JsonObject,
        *,
        tenant: str,
        priority: int = 0,
        number: int | None = None,
        attempt: int | None = None,
    ) -> Run:
        """Begin an attempt at a job, or attach to it if it is there.

        Args:
            job: id of the job.
            body: name of a registered body.
            spec: what the body is given.
            tenant: whose it is; segments of different tenants take turns.
            priority: 0 to 100, lower ones first.
            number: admission number, lower ones of a priority first; None takes the next one of this process, which
                is for those that keep no book.
            attempt: which attempt, from 0 on: the same one again attaches to it, also when it has ended. None takes the
                newest one, or the next if that failed or was cancelled.

        Raises:
            InvalidSpec: the job is there with another spec.
        """

    async def cancel(self, job: str) -> None:
        """Interrupt the job and all that it started; steps in flight are cancelled within two seconds."""

    async def get(self, job: str) -> Run | None:
        """The newest attempt, or None."""

    async def statuses(self, jobs: Sequence[str]) -> Mapping[str, Standing]:
        """Where the newest attempts at many jobs stand, in one look; jobs that are not there are absent."""

    async def list(self, tenant: str, *, limit: int = 100) -> Sequence[Run]:
        """The newest jobs of a tenant, newest first."""

    def watch(self, job: str, *, offset: int = 0) -> AsyncIterator[tuple[int, JsonObject]]:
        """Events of the newest attempt from an offset on, until it ends; each with the offset to go on from."""

    async def strays(self) -> Strays:
        """Who should be running what; whether they live is for others to find out."""

    async def recover(
        self, executors: Sequence[str] = (), *, versions: Sequence[str] = (), runs: Sequence[str] = ()
    ) -> int:
        """Take over what nobody runs; how many runs. See `Strays`; whoever lives after all can write nothing more.

        Runs of a version whose histories cannot be followed fail, with the reason.
        """

    async def delete(self, *jobs: str) -> None:
        """Forget jobs that have ended, with all their attempts; those that have not are left alone."""

    def on_end(self, callback: Callable[[str], None]) -> None:
        """Have a function called with the id of each job of which a run ended, or was cancelled, in this process.

        It is called on the loop, after the outcome is written down. Runs that other processes end are not told of: who
        must know of those asks `statuses` now and then.
        """
