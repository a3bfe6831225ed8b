"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, Final, TypeVar

T = TypeVar("T")
_END: Final = object()
STOP_S: Final = 10.0
_LAST_WORDS_S: Final = 0.1
"""So long after a call was left gRPC still tells its loop that it has ended. Telling a closed loop is an error, and the
loop of another client in this process would get it."""


class LoopThread:
    """Runs coroutines for other threads."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._unended = 0

    def start(self) -> None:
        """Begin to run coroutines."""
        if self._loop is not None:
            raise RuntimeError("the client is in use: make another one for another `with` block")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="masquerade-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for it; an interrupt cancels it.

        Raises:
            RuntimeError: outside of the `with` block, or in a callback, which would wait for itself.
        """
        if self._loop is None or threading.current_thread() is self._thread:
            work.close()
            where = "outside of its `with` block" if self._loop is None else "inside a callback"
            raise RuntimeError(f"the client is used {where}")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items of an async iterator, one at a time."""

        async def following() -> Any:
            return await anext(items, _END)

        self._unended += 1
        try:
            while (item := self.run(following())) is not _END:
                yield item
            self._unended -= 1
        finally:
            self._close_soon(items)

    def _close_soon(self, items: AsyncIterator[Any]) -> None:
        """End what somebody has left; nobody waits for it, because whoever collects garbage may be any thread."""
        loop = self._loop
        if loop is None:
            return  # It was closed when the loop ended.
        # A loop that is closed in this moment closes its iterators as well.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: loop.create_task(_closed(items)))

    def stop(self) -> None:
        """End what still runs, and the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(_settle(_LAST_WORDS_S if self._unended else 0.0), loop).result(STOP_S)
        finally:
            self._loop = self._thread = None
            loop.call_soon_threadsafe(loop.stop)
            thread.join(STOP_S)
            if not thread.is_alive():
                loop.close()


async def _closed(items: AsyncIterator[Any]) -> None:
    if isinstance(items, AsyncGenerator):
        # It is running when whoever waited for it was interrupted; it is being cancelled then.
        with contextlib.suppress(RuntimeError):
            await items.aclose()


async def _settle(wait_s: float) -> None:
    """Cancel all other tasks; end iterators that nobody follows any more, and threads that read files; then wait."""
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
    await asyncio.sleep(wait_s)
