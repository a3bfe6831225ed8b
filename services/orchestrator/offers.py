"""What the other services offer, as they say themselves: their engines, and what they do where nothing is said.

Nobody here keeps a table of it. A job is told at its start what it will get where it names nothing, and says it to the
services from then on, so that keys and reports hold the truth whatever a service's settings become meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from services.common.errors import MasqueradeError, Unavailable
from services.orchestrator.engine.port import JsonObject

log = logging.getLogger(__name__)

Ask: TypeAlias = Callable[[str, JsonObject], Awaitable[JsonObject]]

STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "detector": ("detector.ListDetectors", "detectors"),
    "swapper": ("swapper.ListEngines", "engines"),
    "segmenter": ("segmenter.ListModels", "models"),
    "compositor": ("compositor.ListEncoders", "encoders"),
}
"""The call that answers a stage's list, and the field in which it stands."""

ANSWER_S: Final = 10.0
"""A list is a few lines out of memory: a service that takes longer is not there."""

KEEP_S: Final = 15.0
"""So long a list is good for looking at. A job's own look is always new."""

_SETTINGS: Final = ("max_faces", "blur")


@dataclass(frozen=True, slots=True)
class Offer:
    """An engine, or a model, that a job can name."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    """With their defaults."""

    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Values of those options that take certain ones alone."""

    models: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Those of its models that have no weights there."""

    is_default: bool = False


@dataclass(frozen=True, slots=True)
class StageOffers:
    """All that one service offers."""

    stage: str
    offers: tuple[Offer, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else it does where nothing is said: `max_faces`, `blur`."""

    @property
    def names(self) -> str:
        """All of them, for people."""
        return ", ".join(offer.name for offer in self.offers) or "none"

    def named(self, name: str | None) -> Offer | None:
        """The one of this name; without a name the default one; None where there is none."""
        if name:
            return next((offer for offer in self.offers if offer.name == name), None)
        return next((offer for offer in self.offers if offer.is_default), None)


async def offered(ask: Ask, stage: str) -> StageOffers:
    """Ask a service what it offers.

    Args:
        ask: calls a peer.
        stage: its short name, one of `STAGES`.

    Raises:
        Unavailable: it does not answer in time.
        MasqueradeError: whatever it raised.
    """
    rpc, name = STAGES[stage]
    try:
        async with asyncio.timeout(ANSWER_S):
            answer: Any = await ask(rpc, {})
    except TimeoutError as error:
        raise Unavailable(peer=stage, detail="it did not say in time what it offers") from error
    settings = {setting: answer[setting] for setting in _SETTINGS if setting in answer}
    return StageOffers(stage, tuple(_offer(each) for each in answer[name]), settings)


def _offer(value: Mapping[str, Any]) -> Offer:
    return Offer(
        name=value["name"],
        options=dict(value.get("options") or {}),
        choices={each["option"]: tuple(each["values"]) for each in value.get("choices") or ()},
        models=tuple(value.get("models") or ()),
        missing=tuple(value.get("missing") or ()),
        is_default=bool(value.get("is_default")),
    )


class Catalogue:
    """What all services offer, looked up now and then. One that is away for a moment is known by what it said last."""

    def __init__(self, ask: Ask, *, keep_s: float = KEEP_S) -> None:
        """Args:
        ask: calls a peer.
        keep_s: how long an answer is good for.
        """
        self._ask, self._keep_s = ask, keep_s
        self._known: dict[str, tuple[float, StageOffers]] = {}
        self._asking = {stage: asyncio.Lock() for stage in STAGES}

    async def get(self, stage: str) -> StageOffers | None:
        """What one service offers; None if it never said."""
        async with self._asking[stage]:
            when, known = self._known.get(stage, (0.0, None))
            if known is not None and time.monotonic() - when < self._keep_s:
                return known
            try:
                known = await offered(self._ask, stage)
            except MasqueradeError as error:
                log.warning("a service does not say what it offers", extra={"step": stage, "reason": error.reason})
                return known
            self._known[stage] = (time.monotonic(), known)
            return known

    async def all(self) -> dict[str, StageOffers]:
        """What all services offer that ever said so, by stage."""
        found = await asyncio.gather(*(self.get(stage) for stage in STAGES))
        return {each.stage: each for each in found if each is not None}
