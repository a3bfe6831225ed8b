"""When a queue is looked into."""

from __future__ import annotations

from services.orchestrator.engine.dbos_looks import AFTER, Looks


def test_a_queue_is_looked_into_at_the_polls_after_something_happened_to_it_and_no_other_queue() -> None:
    looks = Looks(poll_s=3600)
    assert [looks.is_due("jobs") for _ in range(3)] == [True, False, False], "once at the start, to find what waits"
    assert [looks.is_due("segments") for _ in range(3)] == [True, False, False]
    looks.rouse("segments")
    assert not looks.is_due("jobs")
    assert [looks.is_due("segments") for _ in range(AFTER + 1)] == [True] * AFTER + [False]
    looks.rouse("jobs", "segments")
    looks.rouse("jobs")
    assert [looks.is_due("jobs") for _ in range(AFTER + 1)] == [True] * AFTER + [False]


def test_a_queue_to_which_nothing_happens_is_looked_into_now_and_then() -> None:
    looks = Looks(poll_s=0.0)
    assert all(looks.is_due("jobs") for _ in range(3))
