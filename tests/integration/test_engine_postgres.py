"""Engines in processes of their own on one database: what is lost when they die, or it does. It must be nothing."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import executions, most_at_once, overlaps
from tests.support.engines import engines, until
from tests.support.postgres import PostgresServer, postgres_server, requires_postgres

pytestmark = requires_postgres

DEAD_AFTER_S = 4.0
"""Much less than an operator would choose: a process that hangs for two seconds is called dead."""

JOBS_OF_TWO_TENANTS = ("anna", "berta")


def a_job(name: str, *, tenant: str = "anna", **spec: Any) -> dict[str, Any]:
    return {"id": f"job_{name}", "tenant": tenant, "spec": spec}


def rows(server: PostgresServer, url: str, what: str) -> list[tuple[Any, ...]]:
    return server.execute(url.rpartition("/")[2], what)


def statuses(server: PostgresServer, url: str) -> dict[str, str]:
    """Of the jobs' attempts, by the engine's own words."""
    found = rows(server, url, "SELECT workflow_uuid, status FROM dbos.workflow_status WHERE name = 'job'")
    return dict(found)


def began(folder: Path) -> int:
    return len(executions(folder))


def ended_well(outcome: list[dict[str, Any]], *, jobs: int, segments: int) -> None:
    ends = [line for line in outcome if "job" in line]
    assert [end["status"] for end in ends] == ["done"] * jobs, ends
    assert all(end["result"] == {"sum": sum(range(segments)), "told": segments} for end in ends), ends


def three_engines_and_random_kills(
    postgres: PostgresServer, folder: Path, *, segments: int, sleep_s: float, kills: int, seconds: float
) -> None:
    chance = random.Random(7)
    jobs = [a_job(tenant, tenant=tenant, segments=segments, sleep_s=sleep_s) for tenant in JOBS_OF_TWO_TENANTS]
    url = postgres.new_database()
    with engines(folder, database=url, dead_after_s=DEAD_AFTER_S, workers=3, tenant_workers=2) as running:
        for name in ("e0", "e1", "e2"):
            running.start(name, jobs=jobs if name == "e0" else [])
        for name in ("e0", "e1", "e2"):
            running.ready(name)
        for kill in range(kills):
            wanted = began(folder) + 4
            until(lambda wanted=wanted: began(folder) >= wanted, seconds=40, what=f"work goes on after {kill} kills")
            victim = chance.choice(["e0", "e1"])
            running.kill(victim)
            # The last victim stays away: what it had is taken over by the others.
            if kill < kills - 1:
                running.start(victim)
        until(lambda: set(statuses(postgres, url).values()) == {"SUCCESS"}, seconds=seconds, what="all jobs end")
        # Before the processes are ended: what they run until then is to be seen.
        found = executions(folder)
        killed = dict(running.killed)
    done = Counter((each.job, each.segment) for each in found if each.ended is not None)
    assert set(done) == {(job["id"], segment) for job in jobs for segment in range(segments)}, "a segment was lost"
    assert not overlaps(found, killed), "a segment was executed twice at the same time"
    assert len(found) <= 2 * segments + kills * 3, "more was done again than was in flight"
    for process in {each.process for each in found}:
        here = [each for each in found if each.process == process]
        assert most_at_once(here, killed) <= 3, "the process's cap was not held"
        for job in jobs:
            of_tenant = [each for each in here if each.job == job["id"]]
            assert most_at_once(of_tenant, killed) <= 2, "the tenant's cap was not held"


def test_three_engines_lose_nothing_when_random_ones_are_killed(postgres: PostgresServer, tmp_path: Path) -> None:
    three_engines_and_random_kills(postgres, tmp_path, segments=16, sleep_s=0.2, kills=2, seconds=40)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_three_engines_lose_nothing_in_ten_kills(postgres: PostgresServer, tmp_path: Path) -> None:
    three_engines_and_random_kills(postgres, tmp_path, segments=150, sleep_s=0.2, kills=10, seconds=400)


def test_a_database_that_crashes_in_the_middle_of_a_job_costs_time_and_nothing_else(tmp_path: Path) -> None:
    # A server of its own: the crash would meet the tests beside this one.
    with postgres_server() as server:
        url = server.new_database()
        job = a_job("a", segments=12, sleep_s=0.2)
        with engines(tmp_path, database=url, dead_after_s=DEAD_AFTER_S) as running:
            running.start("e0", jobs=[job], until="done")
            running.start("e1")
            running.ready("e0")
            running.ready("e1")
            until(lambda: began(tmp_path) >= 4, seconds=20, what="the job is on its way")
            server.restart(immediate=True, away_s=1.0)
            ended_well(running.outcome("e0", seconds=60), jobs=1, segments=12)
            assert "taken over" not in running.said("e0") + running.said("e1"), "the living were called dead"
        found = executions(tmp_path)
        assert {each.segment for each in found if each.ended is not None} == set(range(12))


@pytest.mark.slow
def test_a_database_that_crashes_while_work_is_taken_over_strands_none_of_it(tmp_path: Path) -> None:
    with postgres_server() as server:
        url = server.new_database()
        jobs = [a_job(str(number), segments=4, sleep_s=0.3) for number in range(3)]
        with engines(tmp_path, database=url, dead_after_s=DEAD_AFTER_S) as running:
            running.start("e0", jobs=jobs)
            running.ready("e0")
            until(lambda: began(tmp_path) >= 2, seconds=20, what="the jobs are on their way")
            running.kill("e0")
            running.start("e1")
            running.ready("e1")
            until(lambda: "taken over" in running.said("e1"), seconds=30, what="the dead one is noticed")
            server.restart(immediate=True, away_s=0.5)

            def all_done() -> bool:
                return set(statuses(server, url).values()) == {"SUCCESS"}

            until(all_done, seconds=60, what="all jobs end")


@pytest.mark.slow
def test_a_process_that_sleeps_and_wakes_up_writes_no_second_result(postgres: PostgresServer, tmp_path: Path) -> None:
    url, segments = postgres.new_database(), 8
    with engines(tmp_path, database=url, dead_after_s=DEAD_AFTER_S) as running:
        running.start("e0", jobs=[a_job("a", segments=segments, sleep_s=0.3)])
        running.ready("e0")
        until(lambda: began(tmp_path) >= 3, seconds=20, what="the job is on its way")
        running.signal("e0", signal.SIGSTOP)
        running.start("e1")
        running.ready("e1")
        took_s = until(lambda: set(statuses(postgres, url).values()) == {"SUCCESS"}, seconds=60, what="the job ends")
        assert took_s < 60, "work of a dead process stayed where it was"
        written = results(postgres, url)
        stopped = running.processes["e0"].pid

        def late() -> int:
            return sum(each.process == stopped and each.ended is not None for each in executions(tmp_path))

        before = late()
        running.signal("e0", signal.SIGCONT)
        # It believes in what it was doing, ends it, and is refused.
        until(lambda: late() > before, seconds=20, what="what was in flight is ended by the late one")
        time.sleep(1)
        assert results(postgres, url) == written, "a late writer changed what was written down"
        assert len(written) == segments + 1, "exactly one result a segment, and the job's"
        assert running.processes["e0"].poll() is None, "a refused write ended the process"


@pytest.mark.soak
@pytest.mark.timeout(200)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_work_of_a_dead_process_is_taken_over_within_a_minute(
    postgres: PostgresServer, tmp_path: Path, how: signal.Signals
) -> None:
    """With the time that operators have, and with nobody who comes back."""
    url = postgres.new_database()
    with engines(tmp_path, database=url) as running:
        running.start("e0", jobs=[a_job("a", segments=24, sleep_s=1)])
        running.ready("e0")
        # Before there is another one: the job itself, and not only segments of it, is what is left behind.
        until(lambda: began(tmp_path) >= 1, seconds=20, what="the job is on its way")
        running.start("e1")
        running.ready("e1")
        running.signal("e0", how)
        took_s = until(lambda: "taken over" in running.said("e1"), seconds=60, what="the dead one is relieved")
        assert took_s > 25, "it was called dead too early"
        until(lambda: set(statuses(postgres, url).values()) == {"SUCCESS"}, seconds=30, what="the job ends")
        print(f"{how.name}: relieved after {took_s:.0f} s")


def results(server: PostgresServer, url: str) -> list[tuple[Any, ...]]:
    what = """SELECT s.workflow_uuid, s.status, s.executor_id, o.output FROM dbos.workflow_status s
              JOIN dbos.workflow_output o USING (workflow_uuid) ORDER BY 1"""
    return rows(server, url, what)


def thousand_segments(database: str, folder: Path) -> tuple[float, float, int]:
    """Seconds from ready until a job of a thousand segments is replayed, in its middle and at its end; peak MiB."""
    segments = 1000
    job = a_job("a", segments=segments, hold_s=2.0, answer_bytes=200)

    def noted(kind: str) -> int:
        log = folder / "log"
        return sum(line.startswith(kind) for line in log.read_text().splitlines()) if log.exists() else 0

    with engines(folder, database=database, workers=16, poll_s=0.05) as running:
        running.start("e0", jobs=[job])
        running.ready("e0")
        until(lambda: noted("ended") >= 480, seconds=120, what="the middle of the job")
        running.kill("e0")
        told = noted("told")
        running.start("e0", jobs=[job])
        running.ready("e0")
        # Its owner hears of each finished segment again, in order.
        middle_s = until(lambda: noted("told") >= told + min(told, 480), seconds=60, what="the replay in the middle")
        until(lambda: noted("collected") >= 1, seconds=200, what="the whole job")
        running.kill("e0")
        running.start("e0", jobs=[job], until="done")
        running.ready("e0")
        end_s = until(lambda: noted("collected") >= 2, seconds=60, what="the replay at the end")
        outcome = running.outcome("e0", seconds=60)
    ended_well(outcome, jobs=1, segments=segments)
    assert len(executions(folder)) <= segments + 2 * 16, "finished segments were done again"
    return middle_s, end_s, int(outcome[-1]["peak_rss_mb"])


TABLES = ("workflow_status", "operation_outputs", "workflow_input", "workflow_output")
ROWS_OF_A_THOUSAND = {
    "workflow_status": 1011,
    "operation_outputs": 3021,
    "workflow_input": 1011,
    "workflow_output": 1011,
}
"""A row for each segment, chunk and job; of steps one in each segment, two for each child, and the job's own."""


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_job_of_a_thousand_segments_is_replayed_in_seconds(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    middle_s, end_s, peak_mb = thousand_segments(url, tmp_path)
    assert max(middle_s, end_s) < 15
    assert peak_mb < 200
    counted = {name: rows(postgres, url, f"SELECT count(*) FROM dbos.{name}")[0][0] for name in TABLES}
    assert counted == ROWS_OF_A_THOUSAND
    print(f"replayed in {middle_s:.1f} s in the middle, {end_s:.1f} s at the end; {peak_mb} MiB")


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_job_of_a_thousand_segments_is_replayed_in_seconds_from_a_file(tmp_path: Path) -> None:
    middle_s, end_s, peak_mb = thousand_segments(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    assert max(middle_s, end_s) < 15
    assert peak_mb < 200
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        counted = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}
    assert counted == ROWS_OF_A_THOUSAND
    print(f"replayed in {middle_s:.1f} s in the middle, {end_s:.1f} s at the end; {peak_mb} MiB")


def test_the_same_request_at_two_replicas_at_once_is_one_run(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    jobs = [a_job(str(number), segments=2) for number in range(5)]
    with engines(tmp_path, database=url, dead_after_s=DEAD_AFTER_S) as running:
        running.start("e0", jobs=jobs, until="done")
        running.start("e1", jobs=jobs, until="done")
        for name in ("e0", "e1"):
            running.ready(name)
            ended_well(running.outcome(name), jobs=5, segments=2)
    assert len(statuses(postgres, url)) == 5
    assert len(executions(tmp_path)) == 10, "a request was run twice"


def test_two_processes_of_one_name_are_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    with engines(tmp_path, database=postgres.new_database(), dead_after_s=1.0) as running:
        running.start("e0")
        running.ready("e0")
        running.processes["the first"] = running.processes.pop("e0")
        second = running.start("e0")
        assert second.wait(60) != 0
        assert "another process runs under the name e0" in running.said("e0")


@pytest.mark.parametrize(
    ("kind", "adopted"),
    [
        ("postgres", True),
        ("sqlite", False),
        pytest.param("postgres", False, marks=pytest.mark.soak),
        pytest.param("sqlite", True, marks=pytest.mark.soak),
    ],
)
def test_a_job_of_an_older_version_goes_on_or_fails_and_never_hangs(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, adopted: bool
) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    if kind == "postgres":
        url = request.getfixturevalue("postgres").new_database()
    job = a_job("a", segments=8, sleep_s=0.2)
    with engines(tmp_path, database=url, dead_after_s=2.0, workers=1) as running:
        running.start("e0", jobs=[job], version="toy-1")
        running.ready("e0")
        until(lambda: began(tmp_path) >= 3, seconds=20, what="the job is on its way")
        running.kill("e0")
        running.start("e0", jobs=[job], until="done", version="toy-2", adopts=["toy-1"] if adopted else [])
        running.ready("e0")
        if not adopted and kind == "sqlite":
            # It has failed before the process was ready; the same request again is the next attempt.
            ended_well(running.outcome("e0"), jobs=1, segments=8)
            return
        outcome = running.outcome("e0")
        if adopted:
            ended_well(outcome, jobs=1, segments=8)
            assert len(executions(tmp_path)) <= 9, "finished segments were done again"
        else:
            assert outcome[0]["status"] == "failed"
            assert "toy-1" in outcome[0]["failure"]["fields"]["detail"]
            assert "retry" in outcome[0]["failure"]["remedy"]


def test_an_older_version_that_lives_keeps_its_jobs(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    with engines(tmp_path, database=url, dead_after_s=1.0) as running:
        running.start("e0", jobs=[a_job("a", segments=20, sleep_s=0.3)], until="done", version="toy-1")
        running.start("e1", version="toy-2")
        running.ready("e0")
        running.ready("e1")
        ended_well(running.outcome("e0"), jobs=1, segments=20)
