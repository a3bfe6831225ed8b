"""How long a step waits for a peer that is away, full or dying: the difference between a pause and a failure."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from services.orchestrator.engine.port import JsonObject
from services.orchestrator.failures import Failure, WorkFailed
from services.orchestrator.solitude import Solitude

log = logging.getLogger(__name__)

MOST_TRIES = 6
"""Calls that a peer refused for now."""

BREAKS_BESIDE_OTHERS, BREAKS_ALONE = 3, 2
"""Calls that broke off because their peer died: first beside others, of which one may be to blame, then alone."""

AWAY_S = 120.0
"""So long a peer that cannot be reached is waited for, beside the tries: a pod that moves to another node takes more
than a minute, and nothing was begun that could be done twice."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
_NOT_REACHED = ("failed to connect", "connections to all backends failing")
"""gRPC's own words of a peer to which there is no connection; a call that broke off says something else."""


@dataclass(slots=True)
class _Bearing:
    """What a step has borne so far."""

    refused: int = 0
    broken: int = 0
    away_since: float | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether it was there so often when its peer died that it had better be alone."""
        return self.broken >= BREAKS_BESIDE_OTHERS

    @property
    def is_killer(self) -> bool:
        """Whether its peer died of it also when nothing else was there."""
        return self.broken >= BREAKS_BESIDE_OTHERS + BREAKS_ALONE

    def bears(self, failure: Failure) -> bool:
        """Whether to try once more after this failure."""
        if not failure.is_retryable:
            return False
        detail = failure.fields.get("detail", "")
        if failure.reason == "RUNTIME_UNAVAILABLE" or any(words in detail for words in _NOT_REACHED):
            self.away_since = self.away_since or time.monotonic()
            return time.monotonic() - self.away_since < AWAY_S
        self.away_since = None
        if failure.reason == "UNAVAILABLE":
            self.broken += 1
            return not self.is_killer
        self.refused += 1
        return self.refused < MOST_TRIES


class Patience:
    """Repeats steps, for all bodies of a process."""

    def __init__(self) -> None:
        self._services: defaultdict[str, Solitude] = defaultdict(Solitude)

    async def bear(self, name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        """Repeat a step whose peer is away, full or dying; everything else fails at once.

        Not DBOS's own retries: when those are used up it raises an error of its own, and the reason is lost.

        Args:
            name: `service.Method`, or a word for a step that calls nobody.
            step: what is done.

        Raises:
            WorkFailed: it failed, or patience is at its end.
        """
        service, dot, _ = name.partition(".")
        bearing, pause_s = _Bearing(), FIRST_PAUSE_S
        while True:
            try:
                if not dot:
                    return await step()
                async with self._services[service].place(alone=bearing.is_suspect):
                    return await step()
            except Exception as error:
                failure = Failure.of(error, stage=name)
                if not bearing.bears(failure):
                    raise WorkFailed(_killer(name) if bearing.is_killer else _for_callers(failure)) from error
                log.warning(
                    "step failed, trying again",
                    extra={"step": name, "fields": {**failure.fields, "reason": failure.reason}},
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _killer(name: str) -> Failure:
    service = name.partition(".")[0]
    times = BREAKS_BESIDE_OTHERS + BREAKS_ALONE
    said = f"the {service} died {times} times while it did this, the last {BREAKS_ALONE} times with nothing beside it"
    return Failure("INTERNAL", {"detail": said}, stage=name)


def _for_callers(failure: Failure) -> Failure:
    """Without our addresses: what gRPC says of a peer stays in the log."""
    if failure.reason != "UNAVAILABLE":
        return failure
    return replace(failure, fields={name: text for name, text in failure.fields.items() if name != "detail"})
