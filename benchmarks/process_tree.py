"""What a process and all it started have cost: CPU seconds, and the peak of their memory."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil

from services.common.tree_memory import proportional_mib


def cpu_seconds(root: psutil.Process) -> float:
    """User and system time of a process, its living descendants, and all descendants that were reaped."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # It ended between the listing and the reading; its parent carries its time.
        total += times.user + times.system + times.children_user + times.children_system
    return total


class TreeMeter:
    """Measures a stretch of work: `with TreeMeter() as meter: ...; meter.cpu_s, meter.wall_s, meter.peak_pss_mb`.

    Reading smaps costs time in the kernel; `watch_memory` is left off where CPU is what is measured.
    """

    def __init__(self, *, watch_memory: bool = False, every_s: float = 0.1) -> None:
        self._root = psutil.Process()
        self._watch, self._every_s = watch_memory, every_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.cpu_s = self.wall_s = self.peak_pss_mb = 0.0

    def __enter__(self) -> TreeMeter:
        if self._watch:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
        self._cpu, self._wall = cpu_seconds(self._root), time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_s = cpu_seconds(self._root) - self._cpu
        self.wall_s = time.monotonic() - self._wall
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            self.peak_pss_mb = max(self.peak_pss_mb, proportional_mib())
            self._stop.wait(self._every_s)
