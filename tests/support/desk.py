"""The book of jobs with an engine that runs nothing: a test says what became of each attempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.common.errors import Unavailable
from services.common.records.database import Records
from services.common.store.folder import FolderStore
from services.orchestrator.admitting import Admitter
from services.orchestrator.book import rows
from services.orchestrator.book.admission import Limits
from services.orchestrator.ending import Ending, Keeping
from services.orchestrator.engine.port import Engine, JsonObject, Run, RunStatus, Standing
from services.orchestrator.in_flight import InFlight
from services.orchestrator.jobs import Jobs
from services.orchestrator.keys import json_digest
from services.orchestrator.ledger import BookLedger
from services.orchestrator.progress import Board
from services.orchestrator.retention import Retention, Rules


class ToyEngine:
    """Runs nothing: a test says what became of each attempt."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, int], Run] = {}
        self.submitted: list[str] = []
        self.bodies: list[str] = []
        self.cancelled: list[str] = []
        self.is_away = False

    async def submit(self, job: str, body: str, spec: JsonObject, **options: Any) -> Run:
        if self.is_away:
            raise Unavailable(peer="engine")
        self.submitted.append(job)
        self.bodies.append(body)
        attempt = int(options["attempt"])
        fresh = Run(job, options["tenant"], attempt, RunStatus.QUEUED, json_digest(spec), options["number"], 1, spec)
        return self.runs.setdefault((job, attempt), fresh)

    def finish(self, job: str, status: RunStatus, *, attempt: int = 0, **outcome: Any) -> None:
        """An attempt ends."""
        known = self.runs[job, attempt]
        self.runs[job, attempt] = Run(
            job, known.tenant, attempt, status, known.digest, known.number, 1, known.spec, 1, **outcome
        )

    async def get(self, job: str) -> Run | None:
        mine = [run for (name, _), run in self.runs.items() if name == job]
        return max(mine, key=lambda run: run.attempt, default=None)

    async def statuses(self, jobs: Sequence[str]) -> Mapping[str, Standing]:
        found = {job: await self.get(job) for job in jobs}
        return {job: Standing(run.attempt, run.status) for job, run in found.items() if run is not None}

    async def cancel(self, job: str) -> None:
        self.cancelled.append(job)
        run = await self.get(job)
        if run is not None and not run.status.is_final:
            self.finish(job, RunStatus.CANCELLED, attempt=run.attempt)

    def on_end(self, callback: Callable[[str], None]) -> None: ...

    async def delete(self, *jobs: str) -> None:
        self.runs = {(job, attempt): run for (job, attempt), run in self.runs.items() if job not in jobs}


class Desk:
    """A book, a toy engine, and what stands between them."""

    def __init__(self, records: Records, store: FolderStore, limits: Limits, keeping: Keeping | None = None) -> None:
        self.records, self.store, self.engine, self.board = records, store, ToyEngine(), Board()
        engine: Engine = self.engine  # type: ignore[assignment]
        self.ending = Ending(
            records=records,
            engine=engine,
            store=store,
            board=self.board,
            ledger=BookLedger(records),
            keeping=keeping or Keeping(),
            in_flight=InFlight(),
        )
        self.admitter = Admitter(records=records, engine=engine, ending=self.ending, limits=limits)
        self.jobs = Jobs(
            records=records,
            engine=engine,
            store=store,
            board=self.board,
            admitter=self.admitter,
            ending=self.ending,
            most_waiting=9,
        )

    async def retention(self, **rules: float) -> Counter[str]:
        """One sweep by these rules; what is not named is kept for years."""
        chosen = Rules(**{"face_days": 999, "abandoned_hours": 9999, "uploads_days": 999, "sweep_s": 600, **rules})
        return await self.sweeper(chosen).sweep()

    def sweeper(self, rules: Rules) -> Retention:
        """Sweeps."""
        return Retention(records=self.records, store=self.store, jobs=self.jobs, ending=self.ending, rules=rules)

    async def put(self, job: str, *names: str, tenant: str = "anna") -> None:
        """Write objects of a job."""
        for name in names:
            await self.store.put_bytes(f"{tenant}/jobs/{job}/{name}", name.encode())

    async def left(self, prefix: str) -> list[str]:
        """Objects below a prefix."""
        return [each.key.removeprefix(prefix) for each in await self.store.list(prefix)]

    async def row(self, job: str) -> rows.JobRow:
        """A job."""
        return await self.records.read(lambda connection: rows.one(connection, job))
