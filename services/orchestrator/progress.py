"""How far jobs are, in memory: what the process that runs a job knows at once, and nobody needs to keep.

What must survive a crash is the finished segments, and the engine keeps those; a board that is lost with its process is
filled again while the workflow is replayed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

_WINDOW_S = 8.0
_STATE_BITS, _FRAME_BITS = 4, 44


class JobState(IntEnum):
    """States of a job, by the numbers of the contract; they only move forward."""

    QUEUED = 1
    ANALYSING = 2
    LINKING = 3
    RENDERING = 4
    ASSEMBLING = 5
    VERIFYING = 6
    PUBLISHING = 7
    SUCCEEDED = 8
    FAILED = 9
    CANCELLED = 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a job is at one time."""

    state: JobState
    frames_done: int = 0
    frames_total: int = 0
    frames_per_second: float = 0.0
    seconds_left: float | None = None
    attempt: int = 0

    @property
    def sequence(self) -> int:
        """A number that grows as the job moves on; it is the same for the same place, also in another process."""
        return (((self.attempt << _STATE_BITS) | int(self.state)) << _FRAME_BITS) | self.frames_done


@dataclass(slots=True)
class _Stage:
    state: JobState
    total: int
    done: int = 0
    marks: deque[tuple[float, int]] = field(default_factory=deque)


class Board:
    """Progress of the jobs of this process, and a bell for those who watch."""

    def __init__(self, *, live_frames: Callable[[JobState], float] | None = None) -> None:
        """Make an empty board.

        Args:
            live_frames: a counter of frames done in a stage by this process, of all jobs, finer than segments; its
                growth since the last finished segment is added to what is shown.
        """
        self._stages: dict[str, _Stage] = {}
        self._counted: dict[str, float] = {}
        self._live = live_frames
        self._rung = asyncio.Event()

    def enter(self, job: str, state: JobState, *, total: int = 0) -> None:
        """A job begins a stage of so many frames."""
        self._stages[job] = _Stage(state, total, marks=deque([(time.monotonic(), 0)]))
        self._recount(job, state)
        self._ring()

    def add(self, job: str, frames: int) -> None:
        """So many more frames of the job's stage are done."""
        stage = self._stages.get(job)
        if stage is not None:
            stage.done = min(stage.done + frames, stage.total)
            self._recount(job, stage.state)
            self._ring()

    def forget(self, job: str) -> None:
        """The job is no longer run here."""
        self._stages.pop(job, None)
        self._counted.pop(job, None)
        self._ring()

    def look(self, job: str) -> Snapshot | None:
        """How far a job of this process is."""
        stage = self._stages.get(job)
        if stage is None:
            return None
        done = self._shown(job, stage)
        now = time.monotonic()
        if not stage.marks or done > stage.marks[-1][1]:
            stage.marks.append((now, done))
        while len(stage.marks) > 2 and now - stage.marks[0][0] > _WINDOW_S:
            stage.marks.popleft()
        began, before = stage.marks[0]
        rate = (done - before) / (now - began) if now > began else 0.0
        left = (stage.total - done) / rate if rate > 0 else None
        return Snapshot(stage.state, done, stage.total, rate, left)

    async def changed(self, *, timeout_s: float) -> None:
        """Return when something changed, or after a while."""
        try:
            await asyncio.wait_for(self._rung.wait(), timeout_s)
        except TimeoutError:
            return

    def _shown(self, job: str, stage: _Stage) -> int:
        if self._live is None or len(self._stages) > 1:
            return stage.done
        # Segments in flight are not finished: never show more than a frame less than all.
        live = int(self._live(stage.state) - self._counted.get(job, 0.0))
        return max(stage.done, min(live, max(stage.total - 1, 0)))

    def _recount(self, job: str, state: JobState) -> None:
        if self._live is not None and job not in self._counted:
            self._counted[job] = self._live(state)

    def _ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()


def with_attempt(snapshot: Snapshot, attempt: int) -> Snapshot:
    """The snapshot of a certain attempt at the job."""
    return replace(snapshot, attempt=attempt)


STATE_OF_STAGE: Mapping[str, JobState] = {
    "analyse": JobState.ANALYSING,
    "link": JobState.LINKING,
    "render": JobState.RENDERING,
    "assemble": JobState.ASSEMBLING,
    "verify": JobState.VERIFYING,
    "finalise": JobState.PUBLISHING,
}
