"""The last part of a job: its result is put into second places, each in a step of its own.

A place that fails fails the job and not its result: that is written down before, stays, and is published again by a
retry without anything being made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.common.errors import MasqueradeError
from services.common.store.objects import ObjectStore
from services.orchestrator import places
from services.orchestrator.engine.port import JsonObject, Steps
from services.orchestrator.failures import Failure, WorkFailed
from services.orchestrator.in_flight import InFlight
from services.orchestrator.ledger import Ledger
from services.orchestrator.progress import Board, JobState
from services.orchestrator.spec import JobSpec

PUBLISH = "publish"


async def check_consent(ledger: Ledger, job: str, attempt: int) -> None:
    """Stop a job whose faces may not be used any more, before anything of them appears.

    Raises:
        WorkFailed: the reason is the consent's, or CANCELLED.
    """
    try:
        await ledger.check(job, attempt)
    except MasqueradeError as error:
        raise WorkFailed(Failure.of(error, stage=PUBLISH)) from error


class Publishing:
    """Puts one job's result into its places."""

    def __init__(
        self,
        ledger: Ledger,
        store: ObjectStore,
        known: Mapping[str, Path],
        steps: Steps,
        board: Board,
        in_flight: InFlight,
    ) -> None:
        self._ledger, self._store, self._known = ledger, store, known
        self._steps, self._board, self._in_flight = steps, board, in_flight

    async def first(self, spec: JobSpec, result: JsonObject, *, attempt: int) -> None:
        """After the result was made.

        Raises:
            WorkFailed: a place failed; all others were tried.
        """
        if spec.publish:
            await self._ledger.keep(self._steps.job, attempt, result)
            await self._put(spec, result, range(len(spec.publish)), attempt)

    async def again(self, spec: JobSpec) -> JsonObject:
        """In an attempt after one whose result stands; answers that result.

        Raises:
            WorkFailed: a place failed; all others were tried.
        """
        job = self._steps.job

        async def look() -> JsonObject:
            result, left = await self._ledger.kept(job)
            return {"attempt": await self._ledger.begin(job), "result": result, "left": list(left)}

        # A step: the places that are left must be the same ones after a crash.
        begun: Any = await self._steps.call("inspect", look)
        await self._ledger.enter(job, begun["attempt"], JobState.PUBLISHING)
        self._board.enter(job, JobState.PUBLISHING, attempt=begun["attempt"], owner=self._steps)
        await self._put(spec, begun["result"], begun["left"], begun["attempt"])
        result: JsonObject = begun["result"]
        return result

    async def _put(self, spec: JobSpec, result: Any, positions: Sequence[int], attempt: int) -> None:
        failures = []
        for position in positions:
            await check_consent(self._ledger, self._steps.job, attempt)
            failure = await self._put_into(spec, position, result)
            await self._ledger.published(self._steps.job, position, failure)
            failures += [failure] if failure else []
        if failures:
            raise WorkFailed(failures[0])

    async def _put_into(self, spec: JobSpec, position: int, result: Any) -> Failure | None:
        wanted = spec.publish[position]
        name = wanted.name or f"{self._steps.job}.{spec.container}"

        async def put() -> JsonObject:
            # The record second: beside another's file of this name it would speak of what is not there.
            for each, key in ((name, result["artifact"]["key"]), (f"{name}.json", result["record"]["key"])):
                await places.publish(self._store, self._known, place=wanted.place, name=each, artifact_key=str(key))
            return {}

        try:
            await self._steps.call(PUBLISH, lambda: self._in_flight.during(self._steps.job, put))
        except WorkFailed as error:
            if error.failure.reason == "CANCELLED":
                raise
            return error.failure
        return None
