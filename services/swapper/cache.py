"""What was made once and is asked for again: bounded in bytes, made once however many ask at the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class ByteCache(Generic[Made]):
    """The most recently used things by key. One that is larger than the bound is made, used and not kept."""

    def __init__(self, most_bytes: int, *, nbytes: Callable[[Made], int]) -> None:
        self._most_bytes = most_bytes
        self._nbytes = nbytes
        self._kept: OrderedDict[Hashable, Made] = OrderedDict()
        self._in_work: dict[Hashable, asyncio.Task[Made]] = {}
        self.used_bytes = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Made]]) -> Made:
        """The thing of that key, made by the first who asks; all who wait meanwhile share its making, or its error."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        task = self._in_work.get(key)
        if task is None:
            task = asyncio.ensure_future(self._made(key, make))
            self._in_work[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        # One caller that leaves must not take the making from the others.
        return await asyncio.shield(task)

    async def _made(self, key: Hashable, make: Callable[[], Awaitable[Made]]) -> Made:
        made = await make()
        self._keep(key, made)
        return made

    def _forget(self, key: Hashable, task: asyncio.Task[Made]) -> None:
        del self._in_work[key]
        # Looked at, so that an error nobody waited for is not reported as lost: the next who asks meets it again.
        if not task.cancelled():
            task.exception()

    def _keep(self, key: Hashable, made: Made) -> None:
        size = self._nbytes(made)
        if size > self._most_bytes:
            return
        self._kept[key] = made
        self.used_bytes += size
        while self.used_bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.used_bytes -= self._nbytes(oldest)
