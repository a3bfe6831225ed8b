"""What those who watch a job are shown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from services.common.errors import InvalidSpec, JobNotFound
from services.orchestrator import convert
from services.orchestrator.engine import JsonObject, Run, RunStatus
from services.orchestrator.failures import Failure
from services.orchestrator.jobs import Jobs
from services.orchestrator.keys import job_id, json_digest
from services.orchestrator.progress import Board, JobState, Snapshot


class Counter:
    """Frames that passed, as the metrics of a process count them."""

    def __init__(self) -> None:
        self.frames = dict.fromkeys(JobState, 1000.0)

    def __call__(self, state: JobState) -> float:
        return self.frames[state]


def shown(board: Board, job: str = "a") -> int:
    snapshot = board.look(job)
    assert snapshot is not None
    return snapshot.frames_done


def test_frames_move_within_a_segment_and_are_never_all_before_it_is_finished() -> None:
    counter = Counter()
    board = Board(live_frames=counter)
    board.enter("a", JobState.RENDERING, total=48)
    seen = []
    for _ in range(6):
        counter.frames[JobState.RENDERING] += 9
        seen.append(shown(board))
    assert seen == [9, 18, 27, 36, 45, 47]
    board.add("a", 48)
    assert shown(board) == 48


def test_frames_of_one_stage_are_not_those_of_another() -> None:
    counter = Counter()
    board = Board(live_frames=counter)
    board.enter("a", JobState.ANALYSING, total=48)
    counter.frames[JobState.ANALYSING] += 48
    board.enter("a", JobState.RENDERING, total=48)
    assert shown(board) == 0
    counter.frames[JobState.ANALYSING] += 8
    assert shown(board) == 0


def test_segments_that_were_found_finished_count_before_those_in_flight() -> None:
    counter = Counter()
    board = Board(live_frames=counter)
    board.enter("a", JobState.RENDERING, total=96)
    board.add("a", 24)
    board.add("a", 24)
    counter.frames[JobState.RENDERING] += 5
    assert shown(board) == 53


def test_frames_that_may_be_of_either_of_two_jobs_are_nobodys() -> None:
    counter = Counter()
    board = Board(live_frames=counter)
    board.enter("a", JobState.RENDERING, total=96)
    counter.frames[JobState.RENDERING] += 10
    board.enter("b", JobState.RENDERING, total=96)
    counter.frames[JobState.RENDERING] += 30
    assert (shown(board), shown(board, "b")) == (10, 0)
    board.forget("b")
    counter.frames[JobState.RENDERING] += 3
    assert shown(board) == 13
    assert board.look("b") is None


def test_an_attempt_that_ends_late_takes_nothing_from_the_next() -> None:
    board, first, second = Board(), object(), object()
    board.enter("a", JobState.RENDERING, total=9, attempt=first)
    board.enter("a", JobState.ANALYSING, total=9, attempt=second)
    board.forget("a", attempt=first)
    assert shown(board) == 0
    board.forget("a", attempt=second)
    assert board.look("a") is None


def test_the_gauge_knows_the_jobs_of_this_process() -> None:
    def linking() -> float:
        return REGISTRY.get_sample_value("masquerade_jobs", {"state": "linking"}) or 0.0

    before, board = linking(), Board()
    board.enter("a", JobState.LINKING, total=9)
    assert linking() == before + 1
    board.enter("a", JobState.RENDERING, total=9)
    assert linking() == before
    board.forget("a")


class ScriptedEngine:
    """Answers one run after another, the last one for ever."""

    def __init__(self, *runs: Run) -> None:
        self.runs = list(runs)
        self.submitted = 0

    async def get(self, job: str) -> Run | None:
        if not self.runs:
            return None
        return self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]

    async def submit(self, job: str, body: str, spec: JsonObject, *, tenant: str, priority: int = 0) -> Run:
        self.submitted += 1
        return self.runs[0]

    async def start(self, bodies: object) -> None: ...

    async def stop(self) -> None: ...

    async def cancel(self, job: str) -> None: ...

    async def list(self, tenant: str, *, limit: int = 100) -> Sequence[Run]:
        return []

    async def watch(self, job: str, *, offset: int = 0) -> AsyncIterator[tuple[int, JsonObject]]:
        nothing: list[tuple[int, JsonObject]] = []
        for event in nothing:
            yield event

    async def recover(self, executors: Sequence[str]) -> int:
        return 0

    async def delete(self, job: str) -> None: ...


SPEC: JsonObject = {"asset_key": "anna/assets/v"}
RUN = Run(
    job=job_id(tenant="anna", request="r"),
    tenant="anna",
    attempt=0,
    status=RunStatus.RUNNING,
    digest=json_digest(SPEC),
    number=1,
    created_ms=1,
    spec=SPEC,
)


def jobs_of(*runs: Run, board: Board | None = None) -> tuple[Jobs, ScriptedEngine]:
    engine = ScriptedEngine(*runs)
    return Jobs(engine, board or Board(), snapshot_of=convert.snapshot_of), engine


async def test_a_watcher_is_told_each_place_once_and_last_the_end() -> None:
    board = Board()
    board.enter(RUN.job, JobState.RENDERING, total=10)
    done = replace(RUN, status=RunStatus.DONE, result={"frames": 10})
    jobs, _ = jobs_of(RUN, RUN, RUN, done, board=board)
    seen: list[Snapshot] = []
    async for snapshot in jobs.watch(RUN.job, from_sequence=0):
        seen.append(snapshot)
        if len(seen) == 1:
            board.add(RUN.job, 4)
    assert [(each.state, each.frames_done) for each in seen] == [
        (JobState.RENDERING, 0),
        (JobState.RENDERING, 4),
        (JobState.SUCCEEDED, 10),
    ]
    assert [each.sequence for each in seen] == sorted(each.sequence for each in seen)


async def test_a_watcher_that_comes_back_is_not_told_again_what_it_knows() -> None:
    board = Board()
    board.enter(RUN.job, JobState.RENDERING, total=10)
    board.add(RUN.job, 4)
    known = board.look(RUN.job)
    assert known is not None
    jobs, _ = jobs_of(RUN, RUN, replace(RUN, status=RunStatus.CANCELLED), board=board)
    seen = [each.state async for each in jobs.watch(RUN.job, from_sequence=known.sequence + 1)]
    assert seen == [JobState.CANCELLED]


async def test_a_second_attempt_comes_after_the_first_whatever_its_state() -> None:
    failed = Snapshot(JobState.FAILED, 10, 10, attempt=0)
    assert Snapshot(JobState.QUEUED, attempt=1).sequence > failed.sequence


async def test_a_failed_job_is_taken_up_only_when_asked() -> None:
    jobs, engine = jobs_of(replace(RUN, status=RunStatus.FAILED, failure=Failure("NOT_A_VIDEO")))
    await jobs.submit(SPEC, tenant="anna", request_id="r", retry=False)
    assert engine.submitted == 0
    await jobs.submit(SPEC, tenant="anna", request_id="r", retry=True)
    assert engine.submitted == 1


async def test_a_request_id_stands_for_one_spec_also_after_a_failure() -> None:
    jobs, _ = jobs_of(replace(RUN, status=RunStatus.FAILED, failure=Failure("NOT_A_VIDEO")))
    with pytest.raises(InvalidSpec):
        await jobs.submit({"asset_key": "anna/assets/w"}, tenant="anna", request_id="r", retry=False)


async def test_a_job_that_is_not_there_is_an_error() -> None:
    jobs, _ = jobs_of()
    with pytest.raises(JobNotFound):
        await jobs.get("job_b")


@pytest.mark.parametrize(
    ("step", "stage"), [("compositor.RenderSegment", "rendering"), ("detector.Link", "linking"), ("toy.Do", "toy.Do")]
)
def test_a_failure_says_in_which_state_the_job_was(step: str, stage: str) -> None:
    assert convert.failure(Failure("CORRUPT_MEDIA", {"path": "v.mp4"}, stage=step)).stage == stage


def test_every_step_has_a_state() -> None:
    from services.orchestrator.client import _SERVICES
    from services.orchestrator.progress import STATE_OF_STEP

    for step in STATE_OF_STEP:
        service, _, method = step.partition(".")
        assert not method or method in _SERVICES[service].methods_by_name
