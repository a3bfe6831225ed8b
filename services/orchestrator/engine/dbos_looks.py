"""When DBOS looks into a queue: at the next polls after something happened to it here, else at one in four.

A look is five statements, some 10 CPU-milliseconds. Two queues, each four times a second: it was a tenth of a core of
a process that had nothing to do. What can give a queue of this process work is known here: something was put into it,
or a place became free. Only what another process puts into it waits for the next look in any case.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from dbos._dbos import _get_dbos_instance

POLLS = 4
"""Of so many polls one is a look when nothing happened."""

AFTER = 2
"""So many polls are looks after something happened: a body that ends holds its place until its outcome is written, and
the next poll may come before that."""


class Looks:
    """Decides for all queues of a process; `rouse` may be called from any thread."""

    def __init__(self, poll_s: float) -> None:
        self._rest_s = POLLS * poll_s
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}
        self._rows: dict[str, tuple[float, Any]] = {}

    def rouse(self, *queues: str) -> None:
        """Something was put into these queues, or a place became free in them."""
        with self._lock:
            self._left.update(dict.fromkeys(queues, AFTER))

    def is_due(self, queue: str) -> bool:
        """Whether this poll of a queue is a look; asked at each of them."""
        now = time.monotonic()
        with self._lock:
            left = self._left.get(queue, 0)
            if not left and now - self._last.get(queue, -math.inf) < self._rest_s:
                return False
            self._left[queue] = max(0, left - 1)
            self._last[queue] = now
        return True

    def decide(self) -> None:
        """From now on, for the engine that was launched.

        Underscored, but it is where DBOS itself asks whether there is anything to look at: its sharded databases answer
        with none. dbos is pinned and a test says when it goes.
        """
        database: Any = _get_dbos_instance()._sys_db
        scopes, read = database.dequeue_scopes, database.get_queue
        database.dequeue_scopes = lambda queue: scopes(queue) if self.is_due(queue) else []
        # With options it is another question than that of the polls.
        database.get_queue = lambda queue, **how: read(queue, **how) if how else self._settings(queue, read)

    def _settings(self, queue: str, read: Callable[[str], Any]) -> Any:
        """A queue's row, which each poll asks for; it changes only when a process of a newer version starts."""
        now = time.monotonic()
        at, row = self._rows.get(queue, (0.0, None))
        if row is None or now - at >= self._rest_s:
            row = read(queue)
            self._rows[queue] = (now, row)
        return row
