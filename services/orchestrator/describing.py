"""What can be asked for: engines, models, options, licences."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import masquerade
from services.common.inference.models import Model


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """One engine or model that a job can name."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    """With their defaults."""

    models: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
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


def describe(cards: Mapping[str, Model], profile: str, policy: str, places: Collection[str]) -> Description:
    """What is served.

    Args:
        cards: of the models in the repository, by name.
        profile: that is served.
        policy: licence policy that is served.
        places: names of second places.
    """
    return Description((), masquerade.__version__, profile, policy, tuple(sorted(places)))
