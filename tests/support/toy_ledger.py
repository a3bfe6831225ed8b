"""A book of one job for tests of workflows: it writes down what it is told, and says no when it is told to."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import MasqueradeError
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.failures import Failure
from services.orchestrator.progress import JobState, Snapshot


class ToyLedger:
    """`Ledger` in memory."""

    def __init__(self, *, attempt: int = 0) -> None:
        self.attempt = attempt
        self.entered: list[JobState] = []
        self.places: list[Snapshot] = []
        self.checks = 0
        self.refuses: MasqueradeError | None = None
        self.result: JsonObject = {}
        self.publications: dict[int, Failure | None] = {}

    async def begin(self, job: str) -> int:
        return self.attempt

    async def enter(self, job: str, attempt: int, state: JobState, *, total: int = 0) -> None:
        self.entered.append(state)

    def finished(self, job: str, place: Snapshot) -> None:
        self.places.append(place)

    async def check(self, job: str, attempt: int) -> None:
        self.checks += 1
        if self.refuses is not None:
            raise self.refuses

    async def keep(self, job: str, attempt: int, result: JsonObject) -> None:
        self.result = result

    async def kept(self, job: str) -> tuple[JsonObject, Sequence[int]]:
        return self.result, [position for position, failure in self.publications.items() if failure is not None]

    async def published(self, job: str, position: int, failure: Failure | None) -> None:
        self.publications[position] = failure
