"""Processes that tests start and kill, and what of them is left."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "STARTED_BY_TEST"
"""Environment variable that all descendants of a process inherit, whatever session or parent they end up with."""

_PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def marked(mark: str) -> list[int]:
    """Living processes that were started with a mark, and their descendants."""
    found = []
    for process in _numbers():
        with contextlib.suppress(*_GONE):
            environment = (_PROC / str(process) / "environ").read_bytes().split(b"\0")
            if f"{MARK}={mark}".encode() in environment:
                found.append(process)
    return found


def gone_within(mark: str, *, seconds: float) -> bool:
    """Whether all processes with a mark end in time."""
    until = time.monotonic() + seconds
    while marked(mark):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def shared_memory() -> set[str]:
    """Names in /dev/shm that no living process has mapped: nobody will remove them.

    Not those of PostgreSQL, whose servers other tests crash beside this one.
    """
    names = {name for name in os.listdir("/dev/shm") if not name.startswith("PostgreSQL.")}
    mapped = set()
    for process in _numbers():
        with contextlib.suppress(*_GONE):
            maps = (_PROC / str(process) / "maps").read_text()
            mapped |= {name for name in names if f"/dev/shm/{name}" in maps}
    return names - mapped


def _numbers() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROC) if name.isdecimal())
