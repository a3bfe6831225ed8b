"""What a body may do, on DBOS: durable steps, children on a queue, events."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

from services.orchestrator.engine.dbos_looks import Looks
from services.orchestrator.engine.dbos_rows import ENDED, outside, work_failed
from services.orchestrator.engine.dbos_setup import SEGMENTS
from services.orchestrator.engine.port import Body, JsonObject
from services.orchestrator.engine.quarantine import Quarantine
from services.orchestrator.engine.siblings import Siblings
from services.orchestrator.failures import Failure, WorkFailed

log = logging.getLogger(__name__)

PROGRESS: Final = "progress"
MOST_CHILDREN: Final = 200
"""A body is replayed from its beginning, two rows a child: on PostgreSQL ten seconds for five hundred of them. Above
this many there is a level of chunks between, and only chunks that had not ended are replayed."""

CHUNK: Final = 100
CHUNKS_AT_ONCE: Final = 4
_RESULT_POLL_S = 0.05
_LOOK_S = 1.0
_PRIORITY_BITS = 24

Child: TypeAlias = Callable[[str, str, str, dict[str, Any], int], Coroutine[Any, Any, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Workflows:
    """What bodies start, as DBOS has registered it."""

    segment: Child
    chunk: Child


@dataclass(frozen=True, slots=True)
class House:
    """What the bodies of this process share."""

    bodies: Mapping[str, Body]
    siblings: Siblings
    quarantine: Quarantine
    looks: Looks


class DbosSteps:
    """`Steps` inside a DBOS workflow."""

    def __init__(
        self, job: str, tenant: str, house: House, *, priority: int = 0, workflows: Workflows | None = None
    ) -> None:
        """Args:
        job: id of the job.
        tenant: whose it is.
        house: what this process's bodies share.
        priority: of the job; its segments go before those of jobs with a higher number.
        workflows: what may be started; None for a segment, which starts nothing.
        """
        self._job, self._tenant, self._priority = job, tenant, priority
        self._house, self._workflows = house, workflows

    @property
    def job(self) -> str:
        """Id of the job."""
        return self._job

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self._tenant

    async def call(self, name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        """Do a step once, or answer what it answered before."""

        async def attempt() -> JsonObject:
            return await self._house.siblings.patience.bear(name, step)

        try:
            # Preemptible: cancelling the job cancels the call in flight, and with it the peer's work.
            return await DBOS.run_step_async({"name": name, "preemptible": True}, attempt)
        except Exception as error:
            raise work_failed(error) from error

    async def each(
        self,
        stage: str,
        body: str,
        items: Sequence[JsonObject],
        *,
        ended: Callable[[JsonObject], object] | None = None,
    ) -> list[JsonObject]:
        """Run a body for each item on the queue; answers in order."""
        batch = f"{DBOS.workflow_id}.{stage}"
        with self._house.siblings.listening(batch, ended):
            if len(items) <= MOST_CHILDREN:
                return await self.some(batch, 0, body, items)
            return await self._chunks(batch, body, items)

    async def some(self, batch: str, first: int, body: str, items: Sequence[JsonObject]) -> list[JsonObject]:
        """Run a body for items of a batch, which are numbered from `first` on, as children of this workflow."""
        assert self._workflows is not None, "only a job's body has children"
        siblings, segment = self._house.siblings, self._workflows.segment
        ids = [f"{batch}.{first + place:06d}" for place in range(len(items))]
        handles = []
        async with self._noticed(ids) as bells:
            for place, (child, item) in enumerate(zip(ids, items, strict=True)):
                # Lower segments first: a person who watches sees the beginning grow.
                priority = (self._priority << _PRIORITY_BITS) + first + place + 1
                # The id makes it idempotent: after a crash the same child is found, not started again.
                with (
                    SetWorkflowID(child),
                    SetEnqueueOptions(priority=priority, queue_partition_key=self._tenant or "-"),
                ):
                    handle = await DBOS.enqueue_workflow_async(
                        SEGMENTS, segment, body, self._job, self._tenant, {"batch": batch, "item": item}, self._priority
                    )
                handles.append(handle)
                self._house.looks.rouse(SEGMENTS)
            answers: list[JsonObject] = []
            failures: list[Failure] = []
            # In order, whatever ends first: the order of recorded steps must be the same after a crash.
            for place, (child, handle) in enumerate(zip(ids, handles, strict=True)):
                await bells[child].wait()
                try:
                    answers.append(await handle.get_result(polling_interval_sec=_RESULT_POLL_S))
                    siblings.tell(batch, first + place, answers[-1])
                except Exception as error:  # noqa: BLE001  whatever a child raised is its failure, and is kept
                    siblings.break_off(batch)
                    failures.append(work_failed(error).failure)
        if failures:
            raise WorkFailed(_first(failures))
        return answers

    async def _chunks(self, batch: str, body: str, items: Sequence[JsonObject]) -> list[JsonObject]:
        """The same with a level between: a few chunks at a time, each started when an earlier one has ended."""
        assert self._workflows is not None, "only a job's body has children"
        chunk = self._workflows.chunk
        firsts = list(range(0, len(items), CHUNK))
        ids = [f"{batch}.c{first:06d}" for first in firsts]
        handles: list[Any] = []

        async def start() -> None:
            first = firsts[len(handles)]
            envelope: dict[str, Any] = {"batch": batch, "first": first, "items": list(items[first : first + CHUNK])}
            with SetWorkflowID(ids[len(handles)]):
                handles.append(
                    await DBOS.start_workflow_async(chunk, body, self._job, self._tenant, envelope, self._priority)
                )

        answers: list[JsonObject] = []
        failures: list[Failure] = []
        async with self._noticed(ids) as bells:
            for _ in range(min(CHUNKS_AT_ONCE, len(ids))):
                await start()
            for number, child in enumerate(ids):
                if number == len(handles):
                    break
                await bells[child].wait()
                try:
                    answer = await handles[number].get_result(polling_interval_sec=_RESULT_POLL_S)
                    for place, each in enumerate(answer["answers"]):
                        # A chunk that ran in another process told nobody here.
                        self._house.siblings.tell(batch, firsts[number] + place, each)
                    answers += answer["answers"]
                except Exception as error:  # noqa: BLE001  whatever a child raised is its failure, and is kept
                    failures.append(work_failed(error).failure)
                if not failures and len(handles) < len(ids):
                    await start()
        if failures:
            raise WorkFailed(_first(failures))
        return answers

    @contextlib.asynccontextmanager
    async def _noticed(self, children: Sequence[str]) -> AsyncIterator[dict[str, asyncio.Event]]:
        """Bells that ring when children have ended, wherever they ran and whenever that was."""
        with self._house.siblings.bells(children) as bells:
            # In an empty context: in the body's own the looks would be recorded as its steps.
            looks = asyncio.create_task(_ring_for_ended(bells), context=contextvars.Context())
            try:
                yield bells
            finally:
                looks.cancel()

    async def tell(self, event: JsonObject) -> None:
        """Write an event down for watchers."""
        await DBOS.write_stream_async(PROGRESS, event)


async def _ring_for_ended(bells: Mapping[str, asyncio.Event]) -> None:
    """Look now and then which children have ended: some did so before this process began, or run in another one."""
    while True:
        silent = [child for child, bell in bells.items() if not bell.is_set()]
        if not silent:
            return
        try:
            rows = await DBOS.list_workflows_async(
                workflow_ids=silent, status=list(ENDED), load_input=False, load_output=False
            )
        except Exception:
            # Whoever waits for the bells would wait for ever: the database may be back at the next look.
            log.warning("could not look which segments have ended", exc_info=True)
            rows = []
        for row in rows:
            bells[row.workflow_id].set()
        await asyncio.sleep(_LOOK_S)


async def run_segment(house: House, steps: DbosSteps, body: str, envelope: dict[str, Any]) -> dict[str, Any]:
    """Run a segment's body; when it fails, those of its batch that wait are called off."""
    child, batch = str(DBOS.workflow_id), str(envelope["batch"])
    siblings = house.siblings
    with siblings.alive(child):
        try:
            async with house.quarantine.entered(child):
                if siblings.is_broken(batch):
                    raise WorkFailed(Failure("CANCELLED", {"what": "another segment of the job failed"}))
                return await house.bodies[body](steps, envelope["item"])
        except WorkFailed as error:
            siblings.break_off(batch)
            if error.failure.reason != "CANCELLED":
                await outside(_call_off(batch))
            raise
        finally:
            house.looks.rouse(SEGMENTS)


async def run_chunk(house: House, steps: DbosSteps, body: str, envelope: dict[str, Any]) -> dict[str, Any]:
    """Run the segments of a chunk."""
    with house.siblings.alive(str(DBOS.workflow_id)):
        return {"answers": await steps.some(envelope["batch"], envelope["first"], body, envelope["items"])}


async def _call_off(batch: str) -> None:
    """Cancel the segments of a batch that wait, also those that another process would take."""
    parent = batch.rpartition(".")[0]
    parents = [parent]
    for row in await DBOS.list_workflows_async(parent_workflow_id=parent, load_input=False, load_output=False):
        if row.workflow_id.startswith(f"{batch}.c"):
            parents.append(row.workflow_id)
    waiting = await DBOS.list_workflows_async(
        parent_workflow_id=parents, status="ENQUEUED", load_input=False, load_output=False
    )
    if ids := [row.workflow_id for row in waiting if row.workflow_id.startswith(f"{batch}.")]:
        await DBOS.cancel_workflows_async(ids)


def _first(failures: Sequence[Failure]) -> Failure:
    """The failure of the first in order that was not merely called off because of another."""
    return next((failure for failure in failures if failure.reason != "CANCELLED"), failures[0])
