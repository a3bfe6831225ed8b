"""What a check may ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from services.common.inference.models import Model
from services.common.store.objects import ObjectStore
from services.orchestrator.engine import JsonObject


@dataclass(frozen=True, slots=True)
class Facts:
    """What is served here, and how more can be found out."""

    cards: Mapping[str, Model]
    """Models in the repository, by name."""

    profile: str
    policy: str
    store: ObjectStore
    ask: Callable[[str, JsonObject], Awaitable[JsonObject]]
    """Calls a peer: `ingest.Probe` and its request as JSON."""

    places: Collection[str] = field(default=())
    """Names of second places."""
