"""Running a call alone: when a service dies again and again, the call that kills it is found by leaving it by itself.

A service that dies takes all calls with it that it was serving, guilty or not. Those that have broken off several times
are made one at a time from then on, while no other call of this process is at that service: the innocent ones succeed,
and the one after which it is dead again is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Solitude:
    """Places at one service: many beside each other, or one alone."""

    def __init__(self) -> None:
        self._inside = 0
        self._is_alone = False
        self._asking_alone = 0
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def place(self, *, alone: bool) -> AsyncIterator[None]:
        """A place; with `alone` no other is taken meanwhile. Who wants to be alone goes before those who do not."""
        if alone:
            self._asking_alone += 1
            try:
                await self._until_free(alone=True)
            finally:
                self._asking_alone -= 1
                self._ring()
        else:
            await self._until_free(alone=False)
        self._inside += 1
        self._is_alone = alone
        try:
            yield
        finally:
            self._inside -= 1
            self._is_alone = False
            self._ring()

    async def _until_free(self, *, alone: bool) -> None:
        while self._is_alone or (self._inside if alone else self._asking_alone):
            await self._changed.wait()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
