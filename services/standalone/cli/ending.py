"""How a command ends: an error as one line on standard error, an exit status that says whose fault it was."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from services.common.error_base import MasqueradeError

if TYPE_CHECKING:
    from services.standalone.jobs import JobFailed

T = TypeVar("T")
FAULT, INTERRUPTED = 1, 130


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Typed errors and interrupts below end the process; anything else is a fault of ours and shows its trace."""
    try:
        yield
    except MasqueradeError as error:
        leave(error.reason, error.text(), error.remedy, error.exit_code)
    except (KeyboardInterrupt, asyncio.CancelledError):
        leave("CANCELLED", "it was interrupted", "run the same command again to go on", INTERRUPTED)


def leave(reason: str, text: str, remedy: str, code: int) -> NoReturn:
    """Say why in one line, and exit."""
    stop = "" if text.endswith((".", "?", "!")) else "."
    line = " ".join(f"{reason}: {text}{stop} {remedy}".split())
    print(line, file=sys.stderr, flush=True)
    sys.exit(code)


def leave_failed(failed: JobFailed, *, data: Path) -> NoReturn:
    """Say why a job failed; where the fault is ours, also where the details are."""
    is_ours = failed.exit_code == FAULT
    remedy = f"{failed.remedy} (the log is {data / 'masquerade.log'})" if is_ours else failed.remedy
    leave(failed.reason, failed.text, remedy, failed.exit_code)


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine until it ends or the process is told to stop.

    SIGINT and SIGTERM cancel it and wait until it has put its things in order; a second one does not wait.

    Raises:
        KeyboardInterrupt: it was told to stop.
    """
    return asyncio.run(_until_told(work))


async def _until_told(work: Callable[[], Awaitable[T]]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    told: list[int] = []

    def stop(number: int) -> None:
        if told:
            # Children die with their parent, and a lock with its owner: leaving at once leaves nothing behind.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        told.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await work()
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
