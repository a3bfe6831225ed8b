"""How capable this CPU is: kernels differ by level, and so do the last bits of what a model answers."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# The levels of the x86-64 psABI, by those of their features that tell them apart, as the kernel names them.
_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("x86-64-v3", {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}),
    ("x86-64-v2", {"cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
)


@lru_cache(maxsize=1)
def cpu_level() -> str:
    """`x86-64-v1` to `x86-64-v4`; on other machines their name. Part of keys and reports beside the runtime's name."""
    machine = platform.machine()
    if machine != "x86_64" or not _CPUINFO.is_file():
        return machine
    return level_of(_CPUINFO.read_text())


def level_of(cpuinfo: str) -> str:
    """The level of the first CPU in the text of /proc/cpuinfo."""
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    for level, features in _LEVELS:
        if features <= flags:
            return level
    return "x86-64-v1"
