"""Packed messages: what comes out is what went in, or a typed error, and never more than the limit."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib

import pytest

from services.common import errors
from services.common.access.unpacking import unpacked

MiB = 1 << 20


@pytest.mark.parametrize("message", [b"", b"\n\x03abc", bytes(100_000), os.urandom(100_000)])
def test_packed_or_not_it_is_the_same_message(message: bytes) -> None:
    assert unpacked(message, bytes_at_most=MiB) == message
    assert unpacked(gzip.compress(message), bytes_at_most=MiB) == message


def test_the_limit_is_the_last_size_that_is_taken() -> None:
    assert len(unpacked(gzip.compress(bytes(MiB)), bytes_at_most=MiB)) == MiB
    with pytest.raises(errors.QuotaExceeded):
        unpacked(gzip.compress(bytes(MiB + 1)), bytes_at_most=MiB)


def test_two_hundred_megabytes_of_zeros_take_no_more_than_the_limit() -> None:
    engine, packed = zlib.compressobj(wbits=31), b""
    for _ in range(200):
        packed += engine.compress(bytes(1_000_000))
    packed += engine.flush()
    assert len(packed) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(errors.QuotaExceeded):
            unpacked(packed, bytes_at_most=4 * MiB)
        assert tracemalloc.get_traced_memory()[1] < 16 * MiB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [1, 4, 8, 15])
def test_what_was_cut_or_has_more_behind_it_is_refused(cut: int) -> None:
    whole = gzip.compress(b"hello")
    for damaged in (whole[:-cut], whole + b"x" * cut, whole[:10] + b"\xff" * cut):
        with pytest.raises(errors.InvalidSpec):
            unpacked(damaged, bytes_at_most=MiB)
