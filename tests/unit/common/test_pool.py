"""The pool: bounded, off the event loop, and honest about what it still does."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import cv2
import pytest

from services.common import errors
from services.common.pool import Pool


async def test_results_and_errors_come_back() -> None:
    pool = Pool(2)
    assert await pool.run(divmod, 7, 2) == (3, 1)
    assert await pool.run(sorted, [2, 1], reverse=True) == [2, 1]
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 1, 0)
    await pool.close()


async def test_no_more_run_at_once_than_there_are_workers() -> None:
    pool, running, most = Pool(2), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    await asyncio.gather(*(pool.run(work) for _ in range(10)))
    assert most == 2
    assert cv2.getNumThreads() == 1
    await pool.close()


async def test_the_loop_lives_while_the_pool_works() -> None:
    pool = Pool(1)
    working = asyncio.create_task(pool.run(time.sleep, 0.2))
    begin = time.perf_counter()
    await asyncio.sleep(0.01)
    assert time.perf_counter() - begin < 0.15
    await working
    await pool.close()


async def test_a_full_queue_is_an_error() -> None:
    pool = Pool(1, waiting_at_most=1)
    go = threading.Event()
    calls = [asyncio.create_task(pool.run(go.wait, 5)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert pool.queued == 1
    with pytest.raises(errors.Overloaded):
        await pool.run(time.sleep, 0)
    go.set()
    await asyncio.gather(*calls)
    await asyncio.sleep(0.01)
    assert pool.queued == 0
    await pool.run(time.sleep, 0)
    await pool.close()


async def test_cancelled_work_that_has_not_begun_never_begins() -> None:
    pool = Pool(1)
    go, done = threading.Event(), []
    first = asyncio.create_task(pool.run(go.wait, 5))
    second = asyncio.create_task(pool.run(done.append, 1))
    await asyncio.sleep(0.01)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    await first
    await pool.close()
    assert done == []


async def test_work_sees_the_callers_context() -> None:
    pool = Pool(1)
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("mine")
    assert await pool.run(variable.get) == "mine"
    await pool.close()


async def test_closing_ends_the_wait_for_work_that_never_began() -> None:
    pool, done = Pool(1), []
    go = threading.Event()
    first = asyncio.create_task(pool.run(go.wait, 5))
    waiting = asyncio.create_task(pool.run(done.append, 1))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(pool.close())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 2)
    go.set()
    assert await first
    await closing
    assert done == []
    assert pool.queued == 0


async def test_cancelled_work_that_runs_holds_its_worker_to_its_end() -> None:
    pool = Pool(1, waiting_at_most=0)
    go = threading.Event()
    running = asyncio.create_task(pool.run(go.wait, 5))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(errors.Overloaded):
        await pool.run(time.sleep, 0)
    go.set()
    async with asyncio.timeout(2):
        while True:
            try:
                await pool.run(time.sleep, 0)
                break
            except errors.Overloaded:
                await asyncio.sleep(0.005)
    await pool.close()


async def test_gil_bound_calls_have_threads_of_their_own_half_as_many() -> None:
    pool = Pool(4)
    go, begun, done = threading.Event(), threading.Semaphore(0), []

    def craft() -> None:
        begun.release()
        go.wait(5)

    crafting = [asyncio.create_task(pool.run_gil_bound(craft)) for _ in range(3)]
    assert [await asyncio.to_thread(begun.acquire, timeout=2) for _ in range(2)] == [True, True]
    assert pool.queued == 1
    # They keep nobody waiting who does not need the GIL.
    async with asyncio.timeout(2):
        await asyncio.gather(*(pool.run(done.append, number) for number in range(4)))
    assert not begun.acquire(blocking=False)
    go.set()
    await asyncio.gather(*crafting)
    assert begun.acquire(blocking=False)
    await pool.close()


async def test_gil_bound_calls_end_as_others_do() -> None:
    pool = Pool(1, gil_bound=2)
    both = threading.Barrier(2, timeout=2)
    await asyncio.gather(pool.run_gil_bound(both.wait), pool.run_gil_bound(both.wait))
    with pytest.raises(ZeroDivisionError):
        await pool.run_gil_bound(divmod, 1, 0)
    await pool.close()
    with pytest.raises(RuntimeError):
        await pool.run_gil_bound(divmod, 1, 1)
