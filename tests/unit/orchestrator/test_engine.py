"""What the engine promises, whatever stands behind the port."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from dbos import DBOS

from services.common.errors import InvalidSpec, NoFaceInPortrait, Unavailable
from services.orchestrator import dbos_steps
from services.orchestrator.engine import Body, Engine, Json, JsonObject, Run, RunStatus, Standing, Steps
from services.orchestrator.engine_dbos import DbosEngine, DbosSettings

REPOSITORY = Path(__file__).parents[3]
OpenEngine = Callable[[Mapping[str, Body]], AbstractAsyncContextManager[Engine]]


@pytest.fixture
def open_engine(tmp_path: Path) -> OpenEngine:
    """Opens an engine on the test's own database, as often as the test likes."""

    @asynccontextmanager
    async def opened(bodies: Mapping[str, Body]) -> AsyncIterator[Engine]:
        engine = DbosEngine(DbosSettings(database=f"sqlite:///{tmp_path}/jobs.db", poll_s=0.02, workers=2))
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


async def test_a_job_answers_the_sum_of_its_segments_in_order(open_engine: OpenEngine) -> None:
    async with open_engine(BODIES) as engine:
        await engine.submit("job_a", "sum", {"values": [1, 2, 3, 4, 5]}, tenant="anna")
        run = await ended(engine, "job_a")
        assert (run.status, run.result, run.tenant) == ("done", {"sum": 30}, "anna")
        assert [event async for event in engine.watch("job_a")] == [(1, {"stage": "double", "done": 5})]
        assert [event async for event in engine.watch("job_a", offset=1)] == []


async def test_the_same_job_again_attaches_and_with_another_spec_it_is_refused(open_engine: OpenEngine) -> None:
    async with open_engine(BODIES) as engine:
        first = await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna")
        again = await engine.submit("job_a", "sum", {"values": [1]}, tenant="anna")
        assert (first.attempt, again.attempt) == (0, 0)
        with pytest.raises(InvalidSpec):
            await engine.submit("job_a", "sum", {"values": [2]}, tenant="anna")
        await ended(engine, "job_a")


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
    monkeypatch.setattr(dbos_steps, "FIRST_PAUSE_S", 0.01)
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


def test_the_pinned_dbos_still_has_what_recovery_stands_on() -> None:
    for name in ("_recover_pending_workflows", "resume_workflow_async", "cancel_workflow_async"):
        assert callable(getattr(DBOS, name))


TOY = """
import asyncio, os, sys
from services.orchestrator.engine_dbos import DbosEngine, DbosSettings

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


def test_a_segment_that_kills_the_process_is_given_up(tmp_path: Path) -> None:
    toy = TOY.replace(
        "        await asyncio.sleep(0.05)", "        os.kill(os.getpid(), 9) if item['n'] == 3 else None", 1
    )
    for _ in range(6):
        out, errors = start_toy(tmp_path, segments=6, attempts=1, toy=toy).communicate(timeout=30)
        if out:
            break
    assert out.startswith("failed"), (out, errors)
    assert "too often" in out
