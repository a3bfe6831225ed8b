"""Who was turned away at the door: counted each time, and told in the audit log, but not as often as a flood would."""

from __future__ import annotations

import logging
import time
from typing import Final

from services.common import errors, metrics
from services.common.access.callers import Caller
from services.common.audit import log as audit
from services.common.audit.chain import REFUSED, Entry
from services.common.records.database import Records

LINES: Final = 10
WINDOW_S: Final = 60.0
"""So many lines of refused calls in such a time; the next line says how many were left out."""

_log = logging.getLogger(__name__)


class Refused(Exception):
    """A caller is not let in.

    Attributes:
        kind: one of few words, for counting.
        problem: what the caller is told; nothing of what it sent.
        caller: who it was, where that is known: a key that was revoked, not one that is unknown.
    """

    def __init__(self, kind: str, problem: str, caller: Caller | None = None) -> None:
        super().__init__(problem)
        self.kind = kind
        self.problem = problem
        self.caller = caller


class Refusals:
    """The lines about refused calls."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._since = float("-inf")
        self._lines = 0
        self._left_out = 0

    async def told(self, refused: Refused, *, rpc: str) -> errors.Unauthenticated:
        """Count it, write its line unless there were many; gives what the caller is told.

        A line that cannot be written changes nothing for the caller: nothing is done that would need one.

        Args:
            refused: who, and why.
            rpc: what was called.
        """
        metrics.REFUSED.labels(refused.kind).inc()
        if self._may_write():
            left_out, self._left_out = self._left_out, 0
            caller = refused.caller or Caller("", "unknown")
            details = {"problem": refused.kind, "left_out": left_out}
            try:
                await self._records.open()
                await audit.write(
                    self._records, Entry(caller.tenant, caller.actor, "call.refused", rpc, REFUSED, details)
                )
            except errors.Unavailable as error:
                _log.warning("a refused call is missing in the audit log: %s", error.text())
        else:
            self._left_out += 1
        return errors.Unauthenticated(problem=refused.problem)

    def _may_write(self) -> bool:
        now = time.monotonic()
        if now - self._since >= WINDOW_S:
            self._since, self._lines = now, 0
        self._lines += 1
        return self._lines <= LINES
