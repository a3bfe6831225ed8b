"""Buckets of calls: a pace in the long run, a burst after a pause, and no more buckets than there may be."""

from __future__ import annotations

import pytest

from services.common.access.rates import Buckets


def test_a_burst_and_then_a_pace() -> None:
    buckets = Buckets(per_s=10, burst=3)
    assert [buckets.wait_s("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.wait_s("a", 0.0) == pytest.approx(0.1)
    assert buckets.wait_s("a", 0.05) == pytest.approx(0.05)
    assert buckets.wait_s("a", 0.1) == 0
    assert buckets.wait_s("a", 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize("pace", [1.0, 7.0, 50.0])
def test_who_never_waits_gets_the_pace_and_no_more(pace: float) -> None:
    buckets = Buckets(per_s=pace, burst=5)
    served = sum(buckets.wait_s("a", step / 1000) == 0 for step in range(10_000))
    assert served == pytest.approx(5 + 10 * pace, abs=1)


def test_who_waits_as_told_is_served() -> None:
    buckets, now = Buckets(per_s=3, burst=1), 0.0
    for _ in range(50):
        wait_s = buckets.wait_s("a", now)
        now += wait_s + 1e-9
        if wait_s:
            assert buckets.wait_s("a", now) == 0


def test_a_pause_fills_a_bucket_but_not_beyond_its_brim() -> None:
    buckets = Buckets(per_s=10, burst=3)
    buckets.wait_s("a", 0.0)
    assert [buckets.wait_s("a", 1e6) == 0 for _ in range(4)] == [True, True, True, False]


def test_one_tenants_bucket_is_not_anothers() -> None:
    buckets = Buckets(per_s=0.001, burst=1)
    assert buckets.wait_s("a", 0.0) == 0
    assert buckets.wait_s("a", 0.0) > 0
    assert buckets.wait_s("b", 0.0) == 0


def test_there_are_never_more_buckets_than_allowed_and_the_busy_ones_stay() -> None:
    buckets = Buckets(per_s=0.001, burst=1, buckets=10)
    assert buckets.wait_s("busy", 0.0) == 0
    for number in range(1000):
        buckets.wait_s(f"tenant {number}", 0.0)
        assert buckets.wait_s("busy", 0.0) > 0
        assert len(buckets) <= 10
