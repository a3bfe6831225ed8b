"""What a check may ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from services.common.inference.models import Model
from services.orchestrator.checks.looks import Looks
from services.orchestrator.offers import StageOffers


@dataclass(frozen=True, slots=True)
class Facts:
    """What is served here, and how more can be found out."""

    cards: Mapping[str, Model]
    """Models in the repository, by name."""

    profile: str
    policy: str
    offers: Callable[[str], Awaitable[StageOffers | None]]
    """What a service offers, by its short name; None if it never answered."""

    looks: Looks
    """What assets are."""

    places: Collection[str] = field(default=())
    """Names of second places."""
