"""When a queue is looked into."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from services.orchestrator.engine import dbos_looks
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


@pytest.mark.parametrize(("poll_s", "reads"), [(3600, 1), (0.0, 3)])
def test_a_queues_row_is_read_no_more_often_than_it_is_looked_into(
    poll_s: float, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[object] = [None]
    asked: list[str] = []

    def get_queue(name: str) -> object:
        asked.append(name)
        return rows[0]

    database = SimpleNamespace(dequeue_scopes=lambda queue: [queue], get_queue=get_queue)
    monkeypatch.setattr(dbos_looks, "_get_dbos_instance", lambda: SimpleNamespace(_sys_db=database))
    Looks(poll_s).decide()
    assert database.get_queue("jobs") is None
    assert database.get_queue("jobs") is None, "one that is not there yet is asked for again"
    rows[0], asked[:] = "row", []
    assert [database.get_queue("jobs") for _ in range(3)] == ["row"] * 3
    assert asked == ["jobs"] * reads
    assert database.dequeue_scopes("jobs") == ["jobs"]
    assert database.dequeue_scopes("jobs") == ([] if poll_s else ["jobs"])
