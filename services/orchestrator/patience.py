"""How long a step waits for a peer that is away, full or dying: the difference between a pause and a failure."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.orchestrator.engine import JsonObject
from services.orchestrator.failures import Failure, WorkFailed

log = logging.getLogger(__name__)

MOST_TRIES = 6
"""Calls that reached a peer and failed on the way; a request that kills its peer must not do so for ever."""

AWAY_S = 120.0
"""So long a peer that cannot be reached is waited for, beside the tries: a pod that moves to another node takes more
than a minute, and nothing was begun that could be done twice."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
_NOT_REACHED = "failed to connect"
"""In gRPC's own words of a peer to which there is no connection; a call that broke off says something else."""


async def with_patience(name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
    """Repeat a step whose peer is away or full; everything else fails at once.

    Not DBOS's own retries: when those are used up it raises an error of its own, and the reason is lost.

    Raises:
        WorkFailed: it failed, or patience is at its end.
    """
    pause_s, tries, away_since = FIRST_PAUSE_S, 0, 0.0
    while True:
        try:
            return await step()
        except Exception as error:
            failure = Failure.of(error, stage=name)
            is_away = failure.reason == "UNAVAILABLE" and _NOT_REACHED in failure.fields.get("detail", "")
            away_since = (away_since or time.monotonic()) if is_away else 0.0
            tries += not is_away
            is_over = time.monotonic() - away_since >= AWAY_S if is_away else tries >= MOST_TRIES
            if not failure.is_retryable or is_over:
                raise WorkFailed(_for_callers(failure)) from error
            log.warning(
                "step failed, trying again",
                extra={"step": name, "attempt": tries, "reason": failure.reason, "fields": failure.fields},
            )
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _for_callers(failure: Failure) -> Failure:
    """Without our addresses: what gRPC says of a peer stays in the log."""
    if failure.reason != "UNAVAILABLE":
        return failure
    return replace(failure, fields={name: text for name, text in failure.fields.items() if name != "detail"})
