"""The detectors by name. A new one is a file of its own and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from services.common.errors import UnknownModel
from services.common.pool import Pool
from services.detector.looking import LANDMARKS, RANGES, Inference, Looker

Make: TypeAlias = Callable[[Inference, Pool], Looker]


@dataclass(frozen=True, slots=True)
class Detector:
    """A way to find faces.

    Attributes:
        name: as requests and reports say it.
        models: folders in the model repository that it runs.
        make: the detector over an inference door.
    """

    name: str
    models: tuple[str, ...]
    make: Make


DEFAULT_FACES = 8

DETECTORS: Mapping[str, Detector] = {
    detector.name: detector
    for detector in (
        Detector(
            "blazeface",
            (*(net.model for net in RANGES), LANDMARKS),
            lambda inference, pool: Looker(inference, pool, most_faces=DEFAULT_FACES),
        ),
    )
}

PROFILE_DETECTOR = "blazeface"
"""What both profiles use until another is built."""


def detector(name: str) -> Detector:
    """A detector by name; empty means the profile's.

    Raises:
        UnknownModel: there is none of that name.
    """
    found = DETECTORS.get(name or PROFILE_DETECTOR)
    if found is None:
        raise UnknownModel(model=name, known=", ".join(sorted(DETECTORS)))
    return found
