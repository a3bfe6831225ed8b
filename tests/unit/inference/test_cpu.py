"""The level of a CPU is read from what the kernel says of it."""

from __future__ import annotations

import pytest

from services.common.inference.cpu import cpu_level, level_of

V2 = "cx16 popcnt sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx2 bmi1 bmi2 f16c fma movbe"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu sse2", "x86-64-v1"),
        (V2, "x86-64-v2"),
        (V3, "x86-64-v3"),
        (V3 + " avx512f", "x86-64-v3"),
        (V4, "x86-64-v4"),
    ],
)
def test_the_highest_level_whose_features_are_all_there_counts(flags, level):
    assert level_of(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n") == level


def test_this_machine_has_a_level():
    assert cpu_level()
