"""The one bounded pool for CPU work: never on the event loop, never much more at once than the machine has cores."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import cv2

from services.common import errors, metrics

P = ParamSpec("P")
R = TypeVar("R")

WAITING_PER_WORKER = 64
"""Most calls that may wait for each worker: beyond that the caller has lost its own bound, and queues only hide it."""


class Pool:
    """Runs functions in threads. Models and encoders release the GIL while they work; pixel craft asks for it often.

    Functions of hundreds of short calls of NumPy and OpenCV take the GIL from one another after each of them: two at
    once cost a tenth more CPU than one after the other, and on two cores save no time. They have threads of their own,
    half as many as there are workers, so that whoever does not need the GIL finds a worker meanwhile.
    """

    def __init__(self, workers: int, *, gil_bound: int | None = None, waiting_at_most: int | None = None) -> None:
        """Start no thread yet.

        Args:
            workers: threads for `run`.
            gil_bound: threads for `run_gil_bound`; half as many if not said.
            waiting_at_most: calls of each kind that may wait.
        """
        # OpenCV's own threads would multiply with ours; two levels of threads are slower than one.
        cv2.setNumThreads(1)
        self.workers = workers
        crafting = max(1, workers // 2) if gil_bound is None else gil_bound
        self._threads = _Threads(workers, "pool", waiting_at_most)
        self._gil_bound = _Threads(crafting, "pool-gil", waiting_at_most)
        self._is_closed = False
        metrics.POOL_WORKERS.inc(workers + crafting)

    @property
    def queued(self) -> int:
        """Calls that wait for a thread."""
        return self._threads.queued + self._gil_bound.queued

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in a worker and give its result; its errors rise here.

        A cancelled call that has not started never starts; one that has started runs to its end unheard, so what is
        given to the pool must be short (batches are sized for that) or look at a flag.
        """
        return await self._threads.run(functools.partial(function, *args, **kwargs))

    async def run_gil_bound(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for a function of many short calls."""
        return await self._gil_bound.run(functools.partial(function, *args, **kwargs))

    async def close(self) -> None:
        """Drop what waits, wait for what runs."""
        await asyncio.gather(self._threads.close(), self._gil_bound.close())
        if not self._is_closed:
            self._is_closed = True
            metrics.POOL_WORKERS.dec(self._threads.most + self._gil_bound.most)


class _Threads:
    """So many threads, and the calls that wait for one."""

    def __init__(self, most: int, name: str, waiting_at_most: int | None) -> None:
        self.most = most
        self._waiting_at_most = most * WAITING_PER_WORKER if waiting_at_most is None else waiting_at_most
        self._running = 0
        self._executor = ThreadPoolExecutor(max_workers=most, thread_name_prefix=name)

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return max(0, self._running - self.most)

    async def run(self, function: Callable[[], R]) -> R:
        """Run it in a thread."""
        if self._running >= self.most + self._waiting_at_most:
            raise errors.Overloaded(what="the worker pool", waiting=self.queued, most=self._waiting_at_most)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        call = functools.partial(contextvars.copy_context().run, function)
        work = self._executor.submit(self._work, call, loop, answer)
        self._count(+1)
        # Says nothing of work that ran: that tells us itself, with its result, in one turn of the loop.
        work.add_done_callback(
            lambda done: _tell(loop, functools.partial(self._dropped, answer)) if done.cancelled() else None
        )
        try:
            return await answer
        finally:
            work.cancel()

    def _work(self, call: Callable[[], R], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[R]) -> None:
        """In a worker: run a call and tell its caller."""
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  it rises where the call was made
            _tell(loop, functools.partial(self._failed, answer, error))
        else:
            _tell(loop, functools.partial(self._finished, answer, result))

    # The count falls when the work ends, not when the caller stops listening: cancelled work holds its worker.

    def _finished(self, answer: asyncio.Future[R], result: R) -> None:
        self._count(-1)
        if not answer.done():
            answer.set_result(result)

    def _failed(self, answer: asyncio.Future[R], error: BaseException) -> None:
        self._count(-1)
        if not answer.done():
            answer.set_exception(error)

    def _dropped(self, answer: asyncio.Future[R]) -> None:
        self._count(-1)
        answer.cancel()

    def _count(self, change: int) -> None:
        queued = self.queued
        self._running += change
        if self.queued != queued:
            metrics.POOL_QUEUED.inc(self.queued - queued)

    async def close(self) -> None:
        """Drop what waits, wait for what runs."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
