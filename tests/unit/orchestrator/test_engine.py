"""What the engine promises, whatever stands behind the port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from inspect import getsource, signature
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS
from dbos._dbos import _get_dbos_instance
from dbos._queue import queue_worker_thread
from dbos._schemas.system_database import SystemSchema
from dbos._sys_db import SystemDatabase
from dbos._utils import INTERNAL_QUEUE_NAME

from services.common.errors import DependencyMissing, InvalidSpec, NoFaceInPortrait, Unavailable
from services.orchestrator import patience
from services.orchestrator.engine import dbos_steps, dbos_takeover
from services.orchestrator.engine.dbos_engine import DbosEngine, DbosSettings
from services.orchestrator.engine.dbos_looks import Looks
from services.orchestrator.engine.dbos_setup import SEGMENTS, prepare_sqlite
from services.orchestrator.engine.port import Body, Engine, Json, JsonObject, Run, RunStatus, Standing, Steps
from tests.support.engine_process import executions
from tests.support.engines import engines
from tests.support.postgres import requires_postgres

REPOSITORY = Path(__file__).parents[3]
OpenEngine = Callable[..., AbstractAsyncContextManager[Engine]]


both = pytest.mark.parametrize(
    "open_engine", ["sqlite", pytest.param("postgres", marks=requires_postgres)], indirect=True
)


@pytest.fixture
def open_engine(request: pytest.FixtureRequest, tmp_path: Path) -> OpenEngine:
    """Opens an engine on the test's own database, as often as the test likes."""
    database = f"sqlite:///{tmp_path}/jobs.db"
    if getattr(request, "param", "sqlite") == "postgres":
        database = request.getfixturevalue("postgres").new_database()

    @asynccontextmanager
    async def opened(bodies: Mapping[str, Body], **settings: Any) -> AsyncIterator[Engine]:
        engine = DbosEngine(DbosSettings(**{"database": database, "poll_s": 0.02, "workers": 2, **settings}))
        await engine.start(bodies)
        try:
            yield engine
        finally:
            await engine.stop()

    return opened


async def ended(engine: Engine, job: str) -> Run:
    async with asyncio.timeout(20):
        while True:
            run = await engine.get(job)
            if run is not None and run.status.is_final:
                return run
            await asyncio.sleep(0.02)


async def double(steps: Steps, item: JsonObject) -> JsonObject:
    async def step() -> JsonObject:
        return {"twice": 2 * int(str(item["value"]))}

    return await steps.call("double", step)


async def sum_of_doubles(steps: Steps, spec: JsonObject) -> JsonObject:
    values = spec["values"]
    assert isinstance(values, list)
    answers = await steps.each("double", "double", [{"value": value} for value in values])
    await steps.tell({"stage": "double", "done": len(answers)})
    return {"sum": sum(int(str(answer["twice"])) for answer in answers)}


BODIES: Mapping[str, Body] = {"double": double, "sum": sum_of_doubles}


@both
async def test_a_job_answers_the_sum_of_its_segments_in_order(open_engine: OpenEngine) -> None:
    async with open_engine(BODIES) as engine:
        await engine.submit("job_a", "sum", {"values": [1, 2, 3, 4, 5]}, tenant="anna")
        run = await ended(engine, "job_a")
        assert (run.status, run.result, run.tenant) == ("done", {"sum": 30}, "anna")
        assert [event async for event in engine.watch("job_a")] == [(1, {"stage": "double", "done": 5})]
        assert [event async for event in engine.watch("job_a", offset=1)] == []


async def test_an_engine_without_work_seldom_looks_for_any_and_finds_it_at_once(
    open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[float] = []
    is_due = Looks.is_due

    def counted(looks: Looks, queue: str) -> bool:
        if found := is_due(looks, queue):
            looked.append(time.monotonic())
        return found

    monkeypatch.setattr(Looks, "is_due", counted)
    async with open_engine(BODIES, poll_s=0.1) as engine:
        await asyncio.sleep(0.8)
        looked.clear()
        await asyncio.sleep(1.6)
        # Two queues, 16 polls each: one in four of them.
        assert 2 <= len(looked) <= 12
        begin = time.monotonic()
        await engine.submit("job_a", "sum", {"values": [1, 2]}, tenant="anna")
        await ended(engine, "job_a")
        assert any(at - begin < 0.35 for at in looked if at > begin), "what was put in is looked for at the next poll"


@both
async def test_the_same_job_again_attaches_and_with_another_spec_it_is_refused(open_engine: OpenEngine) -> None:
    async with open_engine(BODIES) as engine:
        first = await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna")
        again = await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna")
        assert (first.attempt, again.attempt) == (0, 0)
        with pytest.raises(InvalidSpec):
            await engine.submit("job_a", "sum", {"values": [2]}, tenant="anna")
        await ended(engine, "job_a")


@both
async def test_a_typed_failure_of_a_segment_is_the_failure_of_the_job(open_engine: OpenEngine) -> None:
    begun: list[Json] = []

    async def body(steps: Steps, item: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            begun.append(item["value"])
            if item["value"] == 1:
                raise NoFaceInPortrait(portrait="anna.jpg", remedy="look at the camera")
            await asyncio.sleep(0.2)
            return {"twice": 0}

        return await steps.call("look", step)

    async with open_engine({**BODIES, "double": body}) as engine:
        await engine.submit("job_a", "sum", {"values": list(range(12))}, tenant="anna")
        run = await ended(engine, "job_a")
        assert run.failure is not None
        error = run.failure.error()
        assert isinstance(error, NoFaceInPortrait)
        assert (error.fields["portrait"], error.remedy) == ("anna.jpg", "look at the camera")
        assert len(begun) < 12, "segments went on after one had failed"


async def test_a_failed_job_is_tried_once_more_under_the_same_id(open_engine: OpenEngine) -> None:
    asked = 0

    async def body(steps: Steps, spec: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise NoFaceInPortrait(portrait="anna.jpg")
            return {"asked": asked}

        return await steps.call("look", step)

    async with open_engine({"one": body}) as engine:
        await engine.submit("job_a", "one", {}, tenant="anna")
        assert (await ended(engine, "job_a")).status == "failed"
        await engine.submit("job_a", "one", {}, tenant="anna")
        run = await ended(engine, "job_a")
        assert (run.status, run.attempt, run.result) == ("done", 1, {"asked": 2})


async def test_a_peer_that_is_away_is_asked_again_and_a_wrong_request_is_not(
    open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    asked: list[str] = []

    async def body(steps: Steps, spec: JsonObject) -> JsonObject:
        async def away() -> JsonObject:
            asked.append("away")
            if len(asked) < 3:
                raise Unavailable(service="detector")
            return {}

        async def wrong() -> JsonObject:
            asked.append("wrong")
            raise InvalidSpec(field="keep")

        await steps.call("away", away)
        return await steps.call("wrong", wrong)

    async with open_engine({"one": body}) as engine:
        await engine.submit("job_a", "one", {}, tenant="anna")
        run = await ended(engine, "job_a")
        assert asked == ["away", "away", "away", "wrong"]
        assert run.failure is not None
        assert (run.failure.reason, run.failure.stage) == ("INVALID_SPEC", "wrong")


async def test_a_failure_that_has_its_reason_is_not_logged_as_a_fault(
    open_engine: OpenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(steps: Steps, item: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            raise NoFaceInPortrait(portrait="anna.jpg")

        return await steps.call("look", step)

    async with open_engine({**BODIES, "double": body}) as engine:
        await engine.submit("job_a", "sum", {"values": [1, 2]}, tenant="anna")
        assert (await ended(engine, "job_a")).status == "failed"
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@both
async def test_cancelling_reaches_the_step_in_flight_within_two_seconds(open_engine: OpenEngine) -> None:
    inside, left = asyncio.Event(), asyncio.Event()

    async def body(steps: Steps, item: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            inside.set()
            try:
                await asyncio.sleep(60)
            finally:
                left.set()
            return {}

        return await steps.call("sleep", step)

    async with open_engine({**BODIES, "double": body}) as engine:
        await engine.submit("job_a", "sum", {"values": [1, 2, 3]}, tenant="anna")
        await asyncio.wait_for(inside.wait(), 5)
        await engine.cancel("job_a")
        await asyncio.wait_for(left.wait(), 2)
        assert (await ended(engine, "job_a")).status == "cancelled"


@both
async def test_a_stopped_engine_goes_on_where_it_was(open_engine: OpenEngine) -> None:
    done: list[str] = []
    inside, hold = asyncio.Event(), asyncio.Event()

    async def body(steps: Steps, spec: JsonObject) -> JsonObject:
        async def first() -> JsonObject:
            done.append("first")
            return {}

        async def second() -> JsonObject:
            done.append("second")
            inside.set()
            await hold.wait()
            return {"done": list(done)}

        await steps.call("first", first)
        return await steps.call("second", second)

    async with open_engine({"one": body}) as engine:
        await engine.submit("job_a", "one", {}, tenant="anna")
        await asyncio.wait_for(inside.wait(), 5)
    hold.set()
    async with open_engine({"one": body}) as engine:
        run = await ended(engine, "job_a")
        assert run.result == {"done": ["first", "second", "second"]}, "the first step was done again"


async def test_a_deleted_job_is_forgotten(open_engine: OpenEngine) -> None:
    async with open_engine(BODIES) as engine:
        await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna")
        await ended(engine, "job_a")
        assert [run.job for run in await engine.list("anna")] == ["job_a"]
        assert await engine.list("berta") == []
        await engine.delete("job_a")
        assert await engine.get("job_a") is None


@both
async def test_many_jobs_are_looked_at_at_once_and_the_end_of_one_is_told(open_engine: OpenEngine) -> None:
    async with open_engine(BODIES) as engine:
        told: asyncio.Queue[str] = asyncio.Queue()
        engine.on_end(told.put_nowait)
        await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna", number=7)
        assert await asyncio.wait_for(told.get(), 10) == "job_a"
        standings = await engine.statuses(["job_a", "job_b"])
        assert standings == {"job_a": Standing(attempt=0, status=RunStatus.DONE)}, "it was told before it was written"
        assert await engine.statuses([]) == {}
        run = await engine.get("job_a")
        assert run is not None
        assert run.number == 7


@both
async def test_an_attempt_that_is_named_is_begun_once(open_engine: OpenEngine) -> None:
    async with open_engine(BODIES) as engine:
        await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna", attempt=0)
        await ended(engine, "job_a")
        again = await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna", attempt=0)
        assert (again.attempt, again.status) == (0, "done")
        assert (await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna", attempt=1)).attempt == 1
        await ended(engine, "job_a")


async def test_a_cancelled_job_that_waits_is_told_of_too(open_engine: OpenEngine) -> None:
    hold = asyncio.Event()

    async def body(steps: Steps, spec: JsonObject) -> JsonObject:
        await hold.wait()
        return {}

    async with open_engine({"one": body}) as engine:
        told: asyncio.Queue[str] = asyncio.Queue()
        engine.on_end(told.put_nowait)
        for number in range(6):
            await engine.submit(f"job_{number}", "one", {}, tenant="anna")
        await engine.cancel("job_5")
        assert await asyncio.wait_for(told.get(), 5) == "job_5"
        hold.set()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbos_steps, "MOST_CHILDREN", 6)
    monkeypatch.setattr(dbos_steps, "CHUNK", 4)
    monkeypatch.setattr(dbos_steps, "CHUNKS_AT_ONCE", 2)


@both
@pytest.mark.usefixtures("small_chunks")
async def test_a_long_job_is_cut_into_chunks_and_answers_in_order(open_engine: OpenEngine) -> None:
    told: list[int] = []

    async def long(steps: Steps, spec: JsonObject) -> JsonObject:
        items: list[JsonObject] = [{"value": value} for value in range(18)]
        answers = await steps.each(
            "double", "double", items, ended=lambda answer: told.append(int(str(answer["twice"])))
        )
        return {"twice": [answer["twice"] for answer in answers]}

    async with open_engine({**BODIES, "long": long}, workers=8) as engine:
        await engine.submit("job_a", "long", {}, tenant="anna")
        run = await ended(engine, "job_a")
        assert run.result == {"twice": [2 * value for value in range(18)]}
        assert told == [2 * value for value in range(18)]
        assert await rows_of(engine, "job_a") == {"job": 1, "chunk": 5, "segment": 18}
        await engine.delete("job_a", "job_b")
        assert await rows_of(engine, "job_a") == {}, "something of a deleted job stayed"
        assert await engine.get("job_a") is None


async def rows_of(engine: Engine, job: str) -> dict[str, int]:
    """How many rows of each kind there are of a job."""
    rows = await DBOS.list_workflows_async(workflow_id_prefix=f"{job}.")
    return dict(Counter(row.name for row in rows))


@both
@pytest.mark.usefixtures("small_chunks")
async def test_a_failure_in_a_chunk_calls_off_what_waits_in_all_of_them(open_engine: OpenEngine) -> None:
    begun: list[Json] = []

    async def body(steps: Steps, item: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            begun.append(item["value"])
            if item["value"] == 1:
                raise NoFaceInPortrait(portrait="anna.jpg")
            await asyncio.sleep(0.3)
            return {"twice": 0}

        return await steps.call("look", step)

    async with open_engine({**BODIES, "double": body}) as engine:
        await engine.submit("job_a", "sum", {"values": list(range(18))}, tenant="anna")
        run = await ended(engine, "job_a")
        assert run.failure is not None
        assert run.failure.reason == "NO_FACE_IN_PORTRAIT"
        assert len(begun) <= 6, "segments went on after one had failed"


@both
@pytest.mark.usefixtures("small_chunks")
async def test_cancelling_a_long_job_stops_its_chunks_and_their_segments(open_engine: OpenEngine) -> None:
    inside, left = asyncio.Event(), asyncio.Event()

    async def body(steps: Steps, item: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            inside.set()
            try:
                await asyncio.sleep(60)
            finally:
                left.set()
            return {}

        return await steps.call("sleep", step)

    async with open_engine({**BODIES, "double": body}) as engine:
        await engine.submit("job_a", "sum", {"values": list(range(18))}, tenant="anna")
        await asyncio.wait_for(inside.wait(), 5)
        await engine.cancel("job_a")
        await asyncio.wait_for(left.wait(), 2)
        rows = await DBOS.list_workflows_async(workflow_id_prefix="job_a.")
        assert {row.status for row in rows} == {"CANCELLED"}, "something of a cancelled job may still begin"


@pytest.mark.usefixtures("small_chunks")
async def test_a_stopped_long_job_is_replayed_at_once(open_engine: OpenEngine) -> None:
    begun: list[Json] = []
    hold, reached = asyncio.Event(), asyncio.Event()

    async def body(steps: Steps, item: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            begun.append(item["value"])
            if item["value"] == 14:
                reached.set()
                await hold.wait()
            return {"twice": 1}

        return await steps.call("look", step)

    bodies = {**BODIES, "double": body}
    async with open_engine(bodies) as engine:
        await engine.submit("job_a", "sum", {"values": list(range(16))}, tenant="anna")
        await asyncio.wait_for(reached.wait(), 20)
        while len(begun) < 16:  # noqa: ASYNC110  the others of the chunk end beside it
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
    hold.set()
    began = time.monotonic()
    async with open_engine(bodies) as engine:
        assert (await ended(engine, "job_a")).result == {"sum": 16}
        assert time.monotonic() - began < 8, "finished children were waited for, one by one"
    assert len(begun) == 17, "finished segments were done again"


@both
async def test_a_flood_of_one_tenant_does_not_hold_another_up(open_engine: OpenEngine) -> None:
    order: list[str] = []

    async def body(steps: Steps, item: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            order.append(steps.tenant)
            await asyncio.sleep(0.03)
            return {"twice": 0}

        return await steps.call("look", step)

    async with open_engine({**BODIES, "double": body}, workers=4, tenant_workers=3) as engine:
        await engine.submit("job_flood", "sum", {"values": list(range(60))}, tenant="anna")
        while order.count("anna") < 3:  # noqa: ASYNC110  the flood is on its way
            await asyncio.sleep(0.01)
        await engine.submit("job_small", "sum", {"values": list(range(5))}, tenant="berta")
        run = await ended(engine, "job_small")
        assert run.status == "done"
        assert order.count("anna") < 50, "the small job waited for the flood"
        await engine.cancel("job_flood")


async def test_a_job_with_a_lower_priority_number_goes_first(open_engine: OpenEngine) -> None:
    order: list[str] = []
    inside, hold = asyncio.Event(), asyncio.Event()

    async def body(steps: Steps, spec: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            order.append(steps.job)
            inside.set()
            await hold.wait()
            return {}

        return await steps.call("look", step)

    async with open_engine({"one": body}, jobs=1) as engine:
        await engine.submit("job_first", "one", {}, tenant="anna", priority=5)
        await asyncio.wait_for(inside.wait(), 5)
        for name, priority, number in (("late", 5, 9), ("early", 5, 8), ("urgent", 0, 10)):
            await engine.submit(f"job_{name}", "one", {}, tenant="anna", priority=priority, number=number)
        hold.set()
        for name in ("late", "early", "urgent"):
            await ended(engine, f"job_{name}")
    assert order == ["job_first", "job_urgent", "job_early", "job_late"]


async def test_attempts_beyond_a_look_and_with_gaps_are_found(open_engine: OpenEngine) -> None:
    async with open_engine(BODIES) as engine:
        for attempt in (3, 20, 33, 60):
            await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna", attempt=attempt)
            await ended(engine, "job_a")
        run = await engine.get("job_a")
        assert run is not None
        assert run.attempt == 60
        await engine.delete("job_a")
        assert await rows_of(engine, "job_a") == {}


@both
async def test_what_this_process_lost_is_begun_again(open_engine: OpenEngine) -> None:
    async def body(steps: Steps, spec: JsonObject) -> JsonObject:
        async def step() -> JsonObject:
            return {"done": True}

        return await steps.call("look", step)

    async with open_engine({"one": body}, jobs=1) as engine:
        await engine.submit("job_a", "one", {}, tenant="anna")
        await ended(engine, "job_a")
        # As if the database had gone away between taking a run and hearing of it.
        database = _get_dbos_instance()._sys_db
        status = database.tables.workflow_status
        with database.engine.begin() as connection:
            connection.execute(sa.update(status).values(status="PENDING", owner_xid="nobody", queue_name="jobs"))
        strays = await engine.strays()
        assert strays.runs == {"job_a.000"}
        assert await engine.recover(runs=sorted(strays.runs)) == 1
        assert (await ended(engine, "job_a")).status == "done"


@requires_postgres
@pytest.mark.parametrize("open_engine", ["postgres"], indirect=True)
async def test_an_older_version_does_not_undo_what_a_newer_one_chose_for_the_queues(open_engine: OpenEngine) -> None:
    for name, workers in (("toy-1", 2), ("toy-2", 5), ("toy-1", 2)):
        async with open_engine(BODIES, version=name, workers=workers):
            pass
    async with open_engine(BODIES, version="toy-1", workers=2):
        queue = await DBOS.retrieve_queue_async(SEGMENTS)
        assert queue is not None
        assert await queue.get_worker_concurrency_async() == 5


def test_the_pinned_dbos_still_has_what_recovery_stands_on() -> None:
    """All that is not public, or was changed before: with another DBOS this is read first."""
    assert version("dbos").startswith("3.4."), "read docs/operations/engine.md, then the tests of recovery"
    for name in (
        "_recover_pending_workflows",
        "resume_workflows_async",
        "cancel_workflow_async",
        "cancel_workflows_async",
        "update_workflow_attributes_async",
        "list_application_versions_async",
    ):
        assert callable(getattr(DBOS, name))
    assert "cancel_children" in signature(DBOS.cancel_workflow_async).parameters
    assert {"partition_worker_concurrency", "worker_concurrency", "on_conflict"} <= set(
        signature(DBOS.register_queue_async).parameters
    )
    assert {"parent_workflow_id", "app_version", "workflow_ids", "status"} <= set(
        signature(DBOS.list_workflows_async).parameters
    )
    columns = {"application_version", "owner_xid", "executor_id", "queue_name", "started_at_epoch_ms"}
    assert columns <= set(SystemSchema.workflow_status.columns.keys())
    assert INTERNAL_QUEUE_NAME == dbos_takeover.INTERNAL_QUEUE
    assert list(signature(SystemDatabase.dequeue_scopes).parameters) == ["self", "queue_name"]
    assert "scopes = dbos._sys_db.dequeue_scopes(queue.name)" in getsource(queue_worker_thread)
    assert "latest = dbos._sys_db.get_queue(queue.name)" in getsource(queue_worker_thread)


@both
async def test_the_public_way_to_recover_still_works(open_engine: OpenEngine) -> None:
    """Should the underscored call go: runs of a dead process, found by its name, are resumed. Under one leader only."""

    async def body(steps: Steps, spec: JsonObject) -> JsonObject:
        return await steps.call("look", lambda: asyncio.sleep(0, {"done": True}))

    async with open_engine({"one": body}) as engine:
        await engine.submit("job_a", "one", {}, tenant="anna")
        await ended(engine, "job_a")
        database = _get_dbos_instance()._sys_db
        with database.engine.begin() as connection:
            values = {"status": "PENDING", "owner_xid": "of the dead", "executor_id": "dead"}
            connection.execute(sa.update(database.tables.workflow_status).values(**values))
        rows = await DBOS.list_workflows_async(status="PENDING", executor_id=["dead"])
        await DBOS.resume_workflows_async([row.workflow_id for row in rows], queue_name="jobs")
        assert (await ended(engine, "job_a")).result == {"done": True}


def test_values_are_written_as_json_and_never_as_pickles(tmp_path: Path) -> None:
    with engines(tmp_path, database=f"sqlite:///{tmp_path}/jobs.db") as running:
        running.start("e0", jobs=[{"id": "job_a", "tenant": "anna", "spec": {"segments": 2}}], until="done")
        running.ready("e0")
        running.outcome("e0")
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        written = [
            value
            for table, column in (("workflow_input", "inputs"), ("workflow_output", "output"))
            for (value,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
        ]
    assert len(written) == 6
    assert all(json.loads(value) for value in written)


def test_an_sqlite_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    with pytest.raises(DependencyMissing, match=r"3\.42"):
        prepare_sqlite(f"sqlite:///{tmp_path}/jobs.db")


TOY = """
import asyncio, os, sys
from services.orchestrator.engine.dbos_engine import DbosEngine, DbosSettings

folder, segments = sys.argv[1], int(sys.argv[2])

async def segment(steps, item):
    async def step():
        with open(f"{folder}/starts", "a") as log:
            print(item["n"], file=log)
        await asyncio.sleep(0.05)
        return {"n": item["n"]}
    return await steps.call("work", step)

async def job(steps, spec):
    answers = await steps.each("work", "segment", [{"n": n} for n in range(spec["segments"])])
    return {"sum": sum(answer["n"] for answer in answers)}

async def main():
    engine = DbosEngine(DbosSettings(database=f"sqlite:///{folder}/jobs.db", poll_s=0.02, workers=2,
                                     segment_attempts=int(sys.argv[3])))
    await engine.start({"segment": segment, "job": job})
    await engine.submit("job_a", "job", {"segments": segments}, tenant="anna")
    while not (run := await engine.get("job_a")).status.is_final:
        await asyncio.sleep(0.05)
    print(run.status.value, run.result, run.failure and run.failure.fields)
    await engine.stop()

asyncio.run(main())
"""


def start_toy(folder: Path, *, segments: int, attempts: int = 20, toy: str = TOY) -> subprocess.Popen[str]:
    (folder / "toy.py").write_text(toy)
    return subprocess.Popen(
        [sys.executable, str(folder / "toy.py"), str(folder), str(segments), str(attempts)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_kill_9_loses_no_finished_segment(tmp_path: Path) -> None:
    segments, kills = 24, 1
    starts = tmp_path / "starts"
    for kill in range(kills):
        toy = start_toy(tmp_path, segments=segments)
        wanted = (kill + 1) * 6
        while not starts.exists() or len(starts.read_text().split()) < wanted:
            assert toy.poll() is None, toy.communicate()
            time.sleep(0.01)
        os.kill(toy.pid, signal.SIGKILL)
        toy.communicate()
    out, errors = start_toy(tmp_path, segments=segments).communicate(timeout=40)
    assert out.startswith(f"done {{'sum': {sum(range(segments))}}}"), (out, errors)
    assert len(starts.read_text().split()) <= segments + kills * 3, "finished segments were done again"


@pytest.mark.slow
@pytest.mark.timeout(110)
def test_a_segment_that_kills_the_process_is_given_up_and_harms_nobody_beside_it(tmp_path: Path) -> None:
    """Each start ends both jobs' segments; only the one that does it is counted out."""
    poisoned = {"id": "job_a", "tenant": "anna", "spec": {"segments": 3, "sleep_s": 0.2, "poison": 1}}
    healthy = {"id": "job_b", "tenant": "anna", "spec": {"segments": 8, "sleep_s": 0.4}}
    with engines(tmp_path, database=f"sqlite:///{tmp_path}/jobs.db", workers=2, segment_attempts=5) as running:
        starts = 0
        while True:
            starts += 1
            assert starts < 15, "it is tried for ever"
            process = running.start("e0", jobs=[poisoned, healthy], until="done")
            if process.wait(40) == 0:
                break
            assert process.returncode == -9, running.said("e0")
            assert process.stdout is not None
            process.stdout.close()
        ends = {line["job"]: line for line in running.outcome("e0") if "job" in line}
    assert ends["job_a"]["status"] == "failed"
    assert "too often" in ends["job_a"]["failure"]["fields"]["detail"]
    assert ends["job_b"]["status"] == "done", ends["job_b"]
    guilty = [each for each in executions(tmp_path) if (each.job, each.segment) == ("job_a", 1)]
    assert len(guilty) == 5, "it was started more often than is allowed, or less"
