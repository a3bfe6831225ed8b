"""How far it is, on a terminal as a bar, elsewhere as a line now and then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

QUIET_S = 5.0
"""Seconds between lines of one stage where no terminal is."""

WORDS = {
    "queued": "waiting",
    "analysing": "looking at the video",
    "linking": "following faces",
    "rendering": "making frames",
    "assembling": "putting the file together",
    "verifying": "proving the file",
    "publishing": "writing the record",
    "succeeded": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class Step:
    """How far a job is, for people."""

    stage: str
    frames_done: int
    frames_total: int
    frames_per_second: float
    seconds_left: float | None


class View(Protocol):
    """Shows steps; a context that leaves the terminal as it was."""

    def show(self, step: Step) -> None:
        """The job is this far."""

    def say(self, text: str) -> None:
        """Something else is being done."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def view() -> View:
    """A bar on a terminal; elsewhere lines on standard output, so that standard error holds errors alone."""
    errors = Console(stderr=True)
    return Bar(errors) if errors.is_terminal else Lines(Console())


def figures(step: Step) -> str:
    """Frames, frames per second and time left, as far as known."""
    if not step.frames_total:
        return ""
    parts = [f"{step.frames_done}/{step.frames_total} frames"]
    if step.frames_per_second > 0:
        parts.append(f"{step.frames_per_second:.1f} frames/s")
    if step.seconds_left is not None:
        minutes, seconds = divmod(round(step.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return ", ".join(parts)


class Bar:
    """One line that moves."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID = self._progress.add_task("starting", total=None, figures="")

    def show(self, step: Step) -> None:
        """See View."""
        self._progress.update(
            self._task,
            description=WORDS.get(step.stage, step.stage),
            total=step.frames_total or None,
            completed=step.frames_done,
            figures=figures(step),
        )

    def say(self, text: str) -> None:
        """See View."""
        self._progress.update(self._task, description=text, total=None, figures="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class Lines:
    """A line for each stage, and one now and then while it lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._told_at = 0.0

    def show(self, step: Step) -> None:
        """See View."""
        if step.stage in ("succeeded", "failed", "cancelled"):
            return
        now = time.monotonic()
        if step.stage == self._stage and now - self._told_at < QUIET_S:
            return
        self._stage, self._told_at = step.stage, now
        known = figures(step)
        self._print(WORDS.get(step.stage, step.stage) + (f": {known}" if known else ""))

    def say(self, text: str) -> None:
        """See View."""

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""
