"""Keys that were looked up a moment ago: most calls cost no look into the database, and a revoked key ends soon."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from services.common.access import keys
from services.common.access.callers import Caller
from services.common.access.refusals import Refused
from services.common.records.database import Records

KEPT: Final = 10_000
"""Keys that are remembered at most; only this installation makes ids that get so far."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One look into the database; all calls that come meanwhile wait for the same."""

    since: float
    found: asyncio.Task[keys.Key | None]


class KnownKeys:
    """Tells who shows a key."""

    def __init__(self, records: Records, secret: bytes, *, cached_s: float) -> None:
        self._records = records
        self._secret = secret
        self._cached_s = cached_s
        self._looks: OrderedDict[str, _Look] = OrderedDict()

    async def caller(self, text: str) -> Caller:
        """Who shows this key.

        Raises:
            Refused: it is not one of ours, unknown, revoked or expired.
            Unavailable: the database does not answer, and the key was not looked up within the last seconds.
        """
        shown = keys.presented(text, self._secret)
        if shown is None:
            raise Refused("bad_key", "the key is not one of this installation")
        key = await self._look(shown.id)
        if key is None or not hmac.compare_digest(key.hash, shown.hash):
            raise Refused("unknown_key", "the key is unknown")
        caller = Caller(key.tenant, f"key:{key.id}")
        state = key.state(time.time_ns() // 1_000_000)
        if state != "active":
            told = "the key was revoked" if state == "revoked" else "the key has expired"
            raise Refused(f"{state}_key", told, caller)
        return caller

    async def _look(self, key_id: str) -> keys.Key | None:
        look = self._looks.get(key_id)
        if look is None or time.monotonic() - look.since >= self._cached_s:
            # The time counts from before the look: what is revoked during it is not believed for longer.
            look = _Look(time.monotonic(), asyncio.create_task(self._find(key_id)))
            look.found.add_done_callback(lambda done: self._forget_failed(key_id, done))
            self._looks[key_id] = look
            self._looks.move_to_end(key_id)
            if len(self._looks) > KEPT:
                self._looks.popitem(last=False)
        # Shielded: a caller that leaves takes the answer from nobody else.
        return await asyncio.shield(look.found)

    def _forget_failed(self, key_id: str, done: asyncio.Task[keys.Key | None]) -> None:
        look = self._looks.get(key_id)
        if (done.cancelled() or done.exception() is not None) and look is not None and look.found is done:
            del self._looks[key_id]

    async def _find(self, key_id: str) -> keys.Key | None:
        await self._records.open()
        return await keys.find(self._records, key_id)
