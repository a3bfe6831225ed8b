"""How often and how much at once a tenant may call: one tenant's flood ends at its own limits."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from services.common import errors
from services.common.interceptors import CallName

BUCKETS: Final = 10_000
"""Tenants whose pace is remembered. Beyond that the one who was quiet for longest begins anew, with a full bucket."""

_AGAIN_S: Final = 1.0
"""When a place may be free again."""


class Buckets:
    """One bucket of tokens for each tenant: a call takes one, and they come back with time."""

    def __init__(self, *, per_s: float, burst: int, buckets: int = BUCKETS) -> None:
        self._per_s = per_s
        self._burst = burst
        self._most = buckets
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def wait_s(self, tenant: str, now: float) -> float:
        """Take a token: 0; or take none and say in how many seconds there will be one.

        Args:
            tenant: whose bucket.
            now: on a clock that never goes back, in seconds.
        """
        left, then = self._tokens.get(tenant, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._per_s)
        is_taken = left >= 1
        self._tokens[tenant] = (left - 1 if is_taken else left, now)
        self._tokens.move_to_end(tenant)
        if len(self._tokens) > self._most:
            self._tokens.popitem(last=False)
        return 0.0 if is_taken else (1 - left) / self._per_s


class Rates:
    """Refuses what is more than a tenant's share, of the pace and of the places."""

    def __init__(self, *, per_s: float, burst: int, calls_at_most: int, streams_at_most: int) -> None:
        self._per_s = per_s
        self._calls_at_most = calls_at_most
        self._streams_at_most = streams_at_most
        self._buckets = Buckets(per_s=per_s, burst=burst)
        self._calls: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()

    def admit(self, call: CallName, tenant: str) -> None:
        """Count a call that is about to be read.

        Raises:
            RateLimited: it comes too soon after others, or while too many of them are served.
        """
        wait_s = self._buckets.wait_s(tenant, time.monotonic())
        if wait_s:
            raise errors.RateLimited(most=f"{self._per_s:g}", retry_after_s=f"{wait_s:.3f}")
        self._check_places(call, tenant)

    @contextlib.asynccontextmanager
    async def place(self, call: CallName, tenant: str) -> AsyncIterator[None]:
        """A place among those that are served. RateLimited if others have taken the last one since `admit`."""
        self._check_places(call, tenant)
        counters = (self._calls,) if call.kind == "unary" else (self._calls, self._streams)
        for counter in counters:
            counter[tenant] += 1
        try:
            yield
        finally:
            for counter in counters:
                counter[tenant] -= 1
                if not counter[tenant]:
                    del counter[tenant]

    def _check_places(self, call: CallName, tenant: str) -> None:
        if call.kind != "unary" and self._streams[tenant] >= self._streams_at_most:
            raise errors.RateLimited(at_once=f"{self._streams_at_most} streams", retry_after_s=_AGAIN_S)
        if self._calls[tenant] >= self._calls_at_most:
            raise errors.RateLimited(at_once=f"{self._calls_at_most} calls", retry_after_s=_AGAIN_S)
