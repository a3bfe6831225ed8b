"""What can be asked for: engines, models, options, licences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import masquerade
from services.common.inference.models import Model
from services.orchestrator.offers import StageOffers
from services.orchestrator.spec import BACKGROUND_KINDS


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """One engine or model that a job can name."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    """With their defaults."""

    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Values of those options that take certain ones alone."""

    models: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    """Of the models, in their order."""

    missing: tuple[str, ...] = ()
    """Models without weights."""

    forbidden: tuple[str, ...] = ()
    """Models that the served policy does not allow."""

    is_default: bool = False


@dataclass(frozen=True, slots=True)
class StageChoices:
    """One stage, and what can be chosen in it."""

    stage: str
    engines: tuple[EngineChoice, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """All that a caller can choose from."""

    stages: tuple[StageChoices, ...]
    version: str
    profile: str
    policy: str
    places: tuple[str, ...]


def describe(
    cards: Mapping[str, Model], profile: str, policy: str, places: Collection[str], offers: Mapping[str, StageOffers]
) -> Description:
    """What is served.

    Args:
        cards: of the models in the repository, by name.
        profile: that is served.
        policy: licence policy that is served.
        places: names of second places.
        offers: what the services say of themselves, by stage; one that is not there is left out.
    """
    stages = [StageChoices(stage, _engines(each, cards, policy)) for stage, each in offers.items()]
    if "compositor" in offers:
        stages.append(StageChoices("background", _backgrounds(offers["compositor"])))
    return Description(tuple(stages), masquerade.__version__, profile, policy, tuple(sorted(places)))


def _engines(offers: StageOffers, cards: Mapping[str, Model], policy: str) -> tuple[EngineChoice, ...]:
    return tuple(
        EngineChoice(
            name=offer.name,
            options=offer.options,
            choices=offer.choices,
            models=offer.models,
            licences=tuple(cards[name].licence.name if name in cards else "unknown" for name in offer.models),
            missing=offer.missing,
            forbidden=tuple(name for name in offer.models if name in cards and _is_forbidden(cards[name], policy)),
            is_default=offer.is_default,
        )
        for offer in offers.offers
    )


def _is_forbidden(card: Model, policy: str) -> bool:
    return policy == "commercial" and not card.licence.commercial_use


def _backgrounds(offers: StageOffers) -> tuple[EngineChoice, ...]:
    """What can be put behind people, by the names of the kinds; a blur has a strength."""
    blur = {"blur": f"{offers.settings['blur']:g}"}
    return tuple(
        EngineChoice(kind, options=blur if kind == "blur" else {}, is_default=kind == "keep")
        for kind in dict.fromkeys(BACKGROUND_KINDS.values())
    )
