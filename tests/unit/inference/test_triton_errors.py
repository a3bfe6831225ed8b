"""Triton's texts, as a real server wrote them, become the right errors."""

from __future__ import annotations

import pytest

from services.common.errors import (
    DeadlineExceeded,
    ModelContractMismatch,
    ModelMissing,
    Overloaded,
    RuntimeUnavailable,
)
from services.common.inference.triton_errors import is_region_lost, typed_error


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("UNAVAILABLE", "Exceeds maximum queue size", Overloaded),
        ("UNAVAILABLE", "Request timeout expired", Overloaded),
        ("UNAVAILABLE", "failed to connect to all addresses; connection refused", RuntimeUnavailable),
        ("UNAVAILABLE", "Server is stopping, scheduler for model has stopped accepting", RuntimeUnavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded),
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", ModelMissing),
        ("NOT_FOUND", "Request for unknown model: 'x' has no available versions", ModelMissing),
        ("INVALID_ARGUMENT", "unexpected shape for input 'image' for model 'x'", ModelContractMismatch),
        ("INTERNAL", "Stub process 'x_0_0' is not healthy.", RuntimeUnavailable),
        ("", "no call was made", RuntimeUnavailable),
    ],
)
def test_each_refusal_becomes_the_error_that_tells_what_to_do(code, message, expected):
    error = typed_error(code, message, model="x", target="triton:8001")
    assert type(error) is expected


def test_a_full_queue_says_when_to_come_again():
    error = typed_error("UNAVAILABLE", "Exceeds maximum queue size", model="x", target="t")
    assert float(error.fields["retry_after_s"]) > 0


def test_a_lost_region_is_known_by_its_text():
    assert is_region_lost("Unable to find shared memory region: 'masquerade-1'")
    assert not is_region_lost("Invalid shared memory region: 'masquerade-1'")
