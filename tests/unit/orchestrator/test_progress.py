"""What those who watch a job are shown."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from services.orchestrator import convert
from services.orchestrator.failures import Failure
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
    board.enter("a", JobState.RENDERING, total=9, owner=first)
    board.enter("a", JobState.ANALYSING, total=9, owner=second)
    board.forget("a", owner=first)
    assert shown(board) == 0
    board.forget("a", owner=second)
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


async def test_a_second_attempt_comes_after_the_first_whatever_its_state() -> None:
    failed = Snapshot(JobState.FAILED, 10, 10, attempt=0)
    assert Snapshot(JobState.QUEUED, attempt=1).sequence > failed.sequence


async def test_a_bell_rings_for_its_job_alone_and_also_for_what_happened_before_the_wait() -> None:
    board = Board()
    bell, other = board.bell("a"), board.bell("b")
    board.enter("a", JobState.LINKING, total=9)
    await asyncio.wait_for(bell.wait(), 1)
    assert not other.is_set()
    assert not board.bell("a").is_set(), "the next change rings again"


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
