"""Takes over what dead processes were running. PostgreSQL only: an SQLite file has one process, and its start recovers.

Nobody is called dead at once. A lock must be seen free several times over a while, in which this process itself held
its own without a break: after a restart of PostgreSQL nobody holds any, and everybody is alive. Whoever is called dead
and is not does no harm: what it wrote down later is refused, and its work is done once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.common.errors import MasqueradeError
from services.orchestrator.engine.liveness import Liveness, executor_lock, held, taken, version_lock
from services.orchestrator.engine.port import Engine, Strays

log = logging.getLogger(__name__)

LOOKS: Final = 4
"""Looks that must find a lock free, spread over the time after which its owner is dead."""


@dataclass(slots=True)
class _Doubt:
    since: float
    looks: int = 0


class Reaper:
    """Looks after the runs of a cluster from one of its processes; each has one, and they do not disturb each other."""

    def __init__(
        self, engine: Engine, url: str, executor: str, *, version: str = "", dead_after_s: float = 30.0
    ) -> None:
        """Args:
        engine: knows who should be running what, and takes over.
        url: its database, `postgresql://...`.
        executor: name of this process.
        version: of its histories.
        dead_after_s: so long a process must show no sign of life.
        """
        self._engine, self._url, self._dead_after_s = engine, url, dead_after_s
        # A session that says nothing is ended after half the time: the other half is for the looks.
        self._liveness = Liveness(url, executor, version, lease_s=dead_after_s / 2)
        self._doubts: dict[int, _Doubt] = {}
        self._lost: dict[str, float] = {}
        self._watched_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def hold(self) -> None:
        """Show that this process lives, from now on. Before the engine takes anything up.

        Raises:
            InvalidSetting: another living process has this name.
            Unavailable: the database does not answer.
        """
        await asyncio.to_thread(self._liveness.take)

    def start(self) -> None:
        """Look after the others, from now on."""
        self._task = asyncio.create_task(self._watch())

    async def halt(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=self._dead_after_s)

    async def let_go(self) -> None:
        """Show no more that this process lives."""
        await asyncio.to_thread(self._liveness.close)

    async def _watch(self) -> None:
        pause_s = self._dead_after_s / (2 * LOOKS)
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.look()
            except Exception as error:
                # What could not be seen or done now is seen again: nothing here may end the looking.
                level = logging.WARNING if isinstance(error, MasqueradeError) else logging.ERROR
                log.log(level, "could not look after the others", exc_info=error)
                self._forget()

    async def look(self) -> int:
        """One look at all that should be running; how many runs were taken over."""
        since = self._liveness.held_since
        if since is None or since != self._watched_since:
            # This process was cut off itself, and perhaps all were: what it saw until now says nothing.
            self._forget()
            self._watched_since = since
        if since is None:
            return 0
        strays = await self._engine.strays()
        recovered = await self._recover_lost(strays)
        locks = {executor_lock(name): name for name in strays.executors}
        versions = {version_lock(name): name for name in strays.versions}
        dead = await self._dead([*locks, *versions])
        for lock in dead:
            recovered += await self._take_over(lock, executor=locks.get(lock), version=versions.get(lock))
        return recovered

    async def _recover_lost(self, strays: Strays) -> int:
        """Begin again what this process took and does not run, as every look of a while has found."""
        now = time.monotonic()
        self._lost = {run: self._lost.get(run, now) for run in strays.runs}
        lost = sorted(run for run, since in self._lost.items() if now - since >= self._dead_after_s / 2)
        if not lost:
            return 0
        log.warning("runs that this process had lost are begun again", extra={"fields": {"runs": len(lost)}})
        return await self._engine.recover(runs=lost)

    async def _dead(self, locks: Iterable[int]) -> list[int]:
        """Locks that have been free for long enough."""
        asked = frozenset(locks)
        alive = await asyncio.to_thread(held, self._url, asked) if asked else frozenset()
        now = time.monotonic()
        self._doubts = {lock: self._doubts.get(lock, _Doubt(now)) for lock in asked - alive}
        for doubt in self._doubts.values():
            doubt.looks += 1
        return [
            lock
            for lock, doubt in self._doubts.items()
            if now - doubt.since >= self._dead_after_s and doubt.looks >= LOOKS
        ]

    async def _take_over(self, lock: int, *, executor: str | None, version: str | None) -> int:
        # Held meanwhile: an owner that comes back waits with its start, and other reapers leave it to this one.
        with contextlib.ExitStack() as stack:
            if not await asyncio.to_thread(stack.enter_context, taken(self._url, lock)):
                return 0
            log.warning(
                "nothing runs here any more: it is taken over",
                extra={"fields": {"executor": executor or "", "version": version or ""}},
            )
            recovered = await self._engine.recover(
                [executor] if executor else (), versions=[version] if version else ()
            )
            self._doubts.pop(lock, None)
            return recovered

    def _forget(self) -> None:
        self._doubts.clear()
        self._lost.clear()
