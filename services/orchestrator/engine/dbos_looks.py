"""When DBOS looks into its queues: at every poll for a while after something happened here, else at one in four.

A look is five statements, some 10 CPU-milliseconds. Two queues, each four times a second: it was a tenth of a core of
a process that had nothing to do. What can give a queue of this process work is known here: something was put into it,
or a place became free. Only what another process puts into it waits for the next look in any case.
"""

from __future__ import annotations

import time
from typing import Any

from dbos._dbos import _get_dbos_instance

POLLS = 4
"""So many polls are looks after something happened, and of so many one is when nothing did."""


class Looks:
    """Decides for all queues of a process; `rouse` may be called from any thread."""

    def __init__(self, poll_s: float) -> None:
        self._rest_s = POLLS * poll_s
        self._awake_until = 0.0
        self._last: dict[str, float] = {}

    def rouse(self) -> None:
        """Something was put into a queue, or a place became free."""
        self._awake_until = time.monotonic() + self._rest_s

    def is_due(self, queue: str) -> bool:
        """Whether this poll of a queue is a look; asked at each of them."""
        now = time.monotonic()
        if now >= self._awake_until and now - self._last.get(queue, 0.0) < self._rest_s:
            return False
        self._last[queue] = now
        return True

    def decide(self) -> None:
        """From now on, for the engine that was launched.

        Underscored, but it is where DBOS itself asks whether there is anything to look at: its sharded databases answer
        with none. dbos is pinned and a test says when it goes.
        """
        database: Any = _get_dbos_instance()._sys_db
        scopes = database.dequeue_scopes
        # What was found at the start waits in the queues by now.
        self.rouse()
        database.dequeue_scopes = lambda queue: scopes(queue) if self.is_due(queue) else []
