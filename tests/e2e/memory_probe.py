"""The main job on a short and on a long video, in a process of its own: bytes a frame by which memory grows.

    python -m tests.e2e.memory_probe SHORT LONG PORTRAIT FOLDER

prints JSON, by RPC: what the services hold more after each segment, what the calls for a whole video need more at once,
what the largest child needs more with the long video, and by how much the whole tree grows.

The first three count what is in use, not what the C library keeps: its holes, and the arena of ONNX Runtime, are
filled by leaps, which would drown a leak of two kilobytes a frame between any two looks. The whole tree is looked at
twice, each time by the median of all slopes between two segments, which leaps do not move. At its peak the heaps of
this process count with all that the C library has taken from the machine: which of their pages are there at a peak
changes by some megabytes with how calls happen to overlap, and on a busy machine has looked like 3 kB a frame. What is
no heap, and leaks, is seen after the segment: then this process' own pages count, once the free ones are given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from services.common.heap import give_back
from tests.e2e.mesh_driver import Driver, colour, running_driver

EVERY_S, SEGMENTS_EVERY_S = 0.01, 0.1
"""Calls for a whole video are short with a short one; looking at children costs some milliseconds."""


SEGMENT_FRAMES = 48
SHORT_RUNS = 2
LEAPS = 0.1
"""Share of the largest and of the smallest steps from segment to segment that is left out."""

FILLING = 0.25
"""Share of the first segments whose peaks are left out: heaps and arenas find their size."""

BY_SEGMENT = ("AnalyseSegment", "RenderSegment")
BY_VIDEO = ("Index", "Plan", "Assemble", "Verify")
"""Not Link: it holds a window that ten seconds do not fill. `unit/detector/test_linking.py` links 216,000 frames."""


class _HeapInUse(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = _HeapInUse


def bytes_in_use() -> int:
    """What this process has allocated and not freed, in all heaps and in mappings of their own."""
    heap = _mallinfo2()
    return int(heap.uordblks + heap.hblkhd)


def bytes_taken() -> int:
    """What the C library has taken from the machine for this process' heaps, free or not."""
    heap = _mallinfo2()
    return int(heap.arena + heap.hblkhd)


def private_bytes(pid: int) -> int:
    """Memory that one process shares with no other; 0 if it has ended."""
    return sum(size for name, size in _sizes(pid, "smaps_rollup").items() if name.startswith("Private_"))


def largest_child() -> int:
    """The most that one child has to itself. Children are forks of the nursery, which is ours."""
    nurseries = psutil.Process().children()
    return max((private_bytes(child.pid) for nursery in nurseries for child in nursery.children()), default=0)


def tree_bytes() -> int:
    """Proportional set size of this process and all its children, as if nobody else on the machine had our libraries.

    A page of a library is shared with every other Python here: a test run that ends beside us would raise our part by
    50 MiB. So pages of files count whole, for the one process of the tree that maps most of them. Of this process the
    heaps count instead of its own pages.
    """
    here = psutil.Process()
    children = [child.pid for child in here.children(recursive=True)]
    files = max(_sizes(pid, "status").get("RssFile", 0) for pid in (here.pid, *children))
    rollups = [_sizes(pid, "smaps_rollup") for pid in children]
    shared = _sizes(here.pid, "smaps_rollup").get("Pss_Shmem", 0)
    return files + shared + bytes_taken() + sum(it.get("Pss_Anon", 0) + it.get("Pss_Shmem", 0) for it in rollups)


def own_bytes() -> int:
    """Pages that are no file's and no ring's, this process' part of them, after the free ones were given back."""
    give_back()
    return _sizes(os.getpid(), "smaps_rollup").get("Pss_Anon", 0)


def _sizes(pid: int, table: str) -> dict[str, int]:
    """The figures of a table of a process that the kernel gives in KiB, in bytes; none if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/{table}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in fields}


@dataclass
class Call:
    """What was in use before, at most during and after one RPC, by its largest child, and what the whole tree had."""

    rpc: str
    before: int
    most: int = 0
    after: int = 0
    child: int = 0
    tree: int = 0
    own: int = 0


class Watch:
    """Looks at the process and its children in a thread of its own, during the calls of one job."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._begins = threading.Event()
        self._has_ended = False

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """While the block lasts."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._has_ended = True
            self._begins.set()
            thread.join()

    def _look(self) -> None:
        wait_s = EVERY_S
        while not self._has_ended:
            # A call that begins is looked at soon, however slowly the one before it was.
            if self._begins.wait(wait_s):
                self._begins.clear()
                wait_s = EVERY_S
            elif self.calls:
                call = self.calls[-1]
                call.most = max(call.most, bytes_in_use())
                call.child = max(call.child, largest_child())
                wait_s = EVERY_S
                if call.rpc in BY_SEGMENT:
                    call.tree = max(call.tree, tree_bytes())
                    wait_s = SEGMENTS_EVERY_S

    async def watched(self, rpc: str, answer: Awaitable[Any]) -> Any:
        """Await one RPC and keep its figures."""
        before = bytes_in_use()
        # A call may be over before anybody looks at it.
        call = Call(rpc, before, most=before)
        self.calls.append(call)
        self._begins.set()
        answered = await answer
        call.after = bytes_in_use()
        call.most = max(call.most, call.after)
        if rpc in BY_SEGMENT:
            call.own = await asyncio.to_thread(own_bytes)
        return answered

    def of(self, rpc: str) -> list[Call]:
        """The calls of one RPC."""
        return [call for call in self.calls if call.rpc == rpc]


class _Watched:
    """A stub whose calls are watched."""

    def __init__(self, stub: Any, watch: Watch) -> None:
        self._stub, self._watch = stub, watch

    def __getattr__(self, rpc: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._stub, rpc)
        return lambda *given, **named: self._watch.watched(rpc, method(*given, **named))


class WatchedDriver(Driver):
    """A driver whose calls are watched."""

    watch = Watch()

    def _stub(self, service: str, stub: Any) -> Any:
        return _Watched(super()._stub(service, stub), self.watch)


async def main(short: Path, long: Path, portrait: Path, folder: Path) -> None:
    """The short video some times, the first to fill models, rings and caches; then the long one."""
    frames: dict[Path, int] = {}
    async with running_driver(folder, workers=2) as plain:
        driver = WatchedDriver(plain.mesh, plain.folder, at_once=1)

        async def job(clip: Path) -> Watch:
            driver.watch = Watch()
            with driver.watch.looking():
                result = await driver.transform(
                    clip, faces=[portrait], background=colour(0x00FF00), segment_frames=SEGMENT_FRAMES, reads_rows=False
                )
            frames[clip] = result.verified.frames
            return driver.watch

        few = [await job(short) for _ in range(1 + SHORT_RUNS)][1:]
        many = await job(long)
    print(json.dumps({"frames": [frames[short], frames[long]], **growth(few, many, frames[long] - frames[short])}))


def growth(few: list[Watch], many: Watch, more: int) -> dict[str, float]:
    """Bytes a frame, by RPC."""
    found: dict[str, float] = {}
    # Children of a short video live for some 30 ms and are seen by chance: each is held against the largest of all.
    small = max(call.child for watch in few for call in watch.calls)
    for rpc in BY_SEGMENT:
        steps = np.sort(np.diff([call.after for call in many.of(rpc)]))
        leaps = round(len(steps) * LEAPS)
        found[f"{rpc}, kept"] = float(steps[leaps : len(steps) - leaps].mean()) / SEGMENT_FRAMES
        sizes = {"peak": [call.tree for call in many.of(rpc)], "own": [call.own for call in many.of(rpc)]}
        for name, of_calls in sizes.items():
            found[f"{rpc}, {name}"] = slope(of_calls, skip=round(len(of_calls) * FILLING)) / SEGMENT_FRAMES
    for rpc in BY_VIDEO:
        rises = [max(call.most - call.before for watch in of for call in watch.of(rpc)) for of in ([many], few)]
        found[f"{rpc}, at once"] = (rises[0] - rises[1]) / more
    for rpc in (*BY_SEGMENT, *BY_VIDEO):
        found[f"{rpc}, children"] = (max(call.child for call in many.of(rpc)) - small) / more
    return found


def slope(sizes: Sequence[int], *, skip: int) -> float:
    """The median of the slopes between any two, but for the first few (Theil and Sen); a step by call."""
    points = list(enumerate(sizes))[skip:]
    return float(np.median([(size - before) / (x - x0) for (x0, before), (x, size) in combinations(points, 2)]))


if __name__ == "__main__":
    asyncio.run(main(*(Path(given) for given in sys.argv[1:5])))
