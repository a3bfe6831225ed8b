"""How far jobs are, in memory: what the process that runs a job knows at once, and nobody needs to keep.

What must survive a crash is the finished segments, and the engine keeps those; a board that is lost with its process is
filled again while the workflow is replayed.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from services.common import metrics

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

    @property
    def is_final(self) -> bool:
        """Whether an attempt at a job ends with it."""
        return self >= JobState.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a job is at one time."""

    state: JobState
    frames_done: int = 0
    frames_total: int = 0
    frames_per_second: float = 0.0
    seconds_left: float | None = None
    attempt: int = 0
    time_ms: int = 0
    """When it was so, Unix time; 0 means now."""

    @property
    def sequence(self) -> int:
        """A number that grows as the job moves on; it is the same for the same place, also in another process."""
        return (((self.attempt << _STATE_BITS) | int(self.state)) << _FRAME_BITS) | self.frames_done


@dataclass(slots=True)
class _Stage:
    state: JobState
    total: int
    attempt: int = 0
    owner: object = None
    done: int = 0
    """Frames of finished segments."""

    finished: list[int] = field(default_factory=list)
    """How many frames were done at the end of each finished segment."""

    live: float = 0.0
    """The same as `done` and those of segments in flight; never less."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def shown(self) -> int:
        """Segments in flight are not finished: never a frame more than all but one."""
        return max(self.done, min(int(self.live), self.total - 1))


class Board:
    """Progress of the jobs of this process, and a bell for those who watch."""

    def __init__(self, *, live_frames: Callable[[JobState], float] | None = None) -> None:
        """Make an empty board.

        Args:
            live_frames: a counter of frames that passed a stage in this process, of all jobs, finer than segments. Its
                growth belongs to the one job that is in the stage; while several are, nobody knows whose it is, and
                each shows its finished segments.
        """
        self._stages: dict[str, _Stage] = {}
        self._live_frames = live_frames
        self._counted: dict[JobState, float] = {}
        self._bells: weakref.WeakValueDictionary[str, asyncio.Event] = weakref.WeakValueDictionary()

    def enter(self, job: str, state: JobState, *, total: int = 0, attempt: int = 0, owner: object = None) -> None:
        """A job begins a stage.

        Args:
            job: its id.
            state: the stage.
            total: frames of it in all; 0 while unknown.
            attempt: number of the attempt, for snapshots.
            owner: whatever tells one run of the job in this process from the next.
        """
        self._count()
        self._leave(job)
        self._stages[job] = _Stage(state, total, attempt, owner, marks=deque([(time.monotonic(), 0)]))
        metrics.JOBS.labels(state.name.lower()).inc()
        self.ring(job)

    def add(self, job: str, frames: int) -> None:
        """So many more frames of the job's stage are done, in a finished segment."""
        self._count()
        stage = self._stages.get(job)
        if stage is not None:
            stage.done = min(stage.done + frames, stage.total)
            stage.finished.append(stage.done)
            # A segment that was found finished passed no counter.
            stage.live = max(stage.live, stage.done)
            self.ring(job)

    def forget(self, job: str, *, owner: object = None) -> None:
        """The job is no longer run here by this owner; by the next one it may be already."""
        stage = self._stages.get(job)
        if stage is None or stage.owner is not owner:
            return
        self._count()
        self._leave(job)
        self.ring(job)

    def look(self, job: str) -> Snapshot | None:
        """How far a job of this process is."""
        self._count()
        stage = self._stages.get(job)
        if stage is None:
            return None
        done = stage.shown
        now = time.monotonic()
        if not stage.marks or done > stage.marks[-1][1]:
            stage.marks.append((now, done))
        while len(stage.marks) > 2 and now - stage.marks[0][0] > _WINDOW_S:
            stage.marks.popleft()
        began, before = stage.marks[0]
        rate = (done - before) / (now - began) if now > began else 0.0
        left = (stage.total - done) / rate if rate > 0 else None
        return Snapshot(stage.state, done, stage.total, rate, left, stage.attempt)

    def since(self, job: str, sequence: int) -> list[Snapshot]:
        """Places of a job of this process from a number on: ends of segments, and where it is now."""
        now = self.look(job)
        stage = self._stages.get(job)
        if now is None or stage is None:
            return []
        ends = [Snapshot(stage.state, done, stage.total, attempt=stage.attempt) for done in stage.finished]
        places = {place.sequence: place for place in [*ends, now] if place.sequence >= sequence}
        return [places[number] for number in sorted(places)]

    def bell(self, job: str) -> asyncio.Event:
        """Rings at the next change of a job. Taken before looking, so that no change falls between look and wait."""
        bell = self._bells.get(job)
        if bell is None:
            bell = self._bells[job] = asyncio.Event()
        return bell

    def ring(self, job: str) -> None:
        """Wake those who watch a job."""
        bell = self._bells.pop(job, None)
        if bell is not None:
            bell.set()

    def _count(self) -> None:
        """Give the frames that passed since the last time to the job that they must be of."""
        if self._live_frames is None:
            return
        for state in _COUNTED:
            now = self._live_frames(state)
            growth = now - self._counted.get(state, now)
            self._counted[state] = now
            inside = [stage for stage in self._stages.values() if stage.state is state]
            if len(inside) == 1:
                inside[0].live += growth

    def _leave(self, job: str) -> None:
        stage = self._stages.pop(job, None)
        if stage is not None:
            metrics.JOBS.labels(stage.state.name.lower()).dec()


_COUNTED = (JobState.ANALYSING, JobState.RENDERING)


def frames_counted(state: JobState) -> float:
    """Frames that passed a stage in this process."""
    return metrics.frames_so_far("analyse" if state is JobState.ANALYSING else "render")


STATE_OF_STEP: Mapping[str, JobState] = {
    "inspect": JobState.ANALYSING,
    "ingest.Index": JobState.ANALYSING,
    "ingest.Plan": JobState.ANALYSING,
    "detector.Enroll": JobState.ANALYSING,
    "detector.AnalyseSegment": JobState.ANALYSING,
    "detector.Link": JobState.LINKING,
    "compositor.RenderSegment": JobState.RENDERING,
    "compositor.Assemble": JobState.ASSEMBLING,
    "compositor.Verify": JobState.VERIFYING,
    "compositor.Finalise": JobState.PUBLISHING,
    "publish": JobState.PUBLISHING,
    "adopt": JobState.ANALYSING,
    "report": JobState.PUBLISHING,
}
"""In which state a job is while it does a step: what people are told of where it failed."""
