"""The detectors by name. A new one is a file of its own and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from services.common.errors import UnknownModel
from services.common.inference.local import LocalModels
from services.common.inference.models import LicencePolicy
from services.common.pool import Pool
from services.detector import scrfd
from services.detector.finding import RANGES, Inference
from services.detector.looking import LANDMARKS, Looker

Make: TypeAlias = Callable[[Inference, Pool, LocalModels], Looker]


@dataclass(frozen=True, slots=True)
class Detector:
    """A way to find faces.

    Attributes:
        name: as requests and reports say it.
        models: folders in the model repository that it runs through the inference door.
        make: the detector over an inference door and the repository.
        own_models: folders whose weights a library runs by itself.
    """

    name: str
    models: tuple[str, ...]
    make: Make
    own_models: tuple[str, ...] = ()


DEFAULT_FACES = 8

DETECTORS: Mapping[str, Detector] = {
    detector.name: detector
    for detector in (
        Detector(
            "blazeface",
            (*(net.model for net in RANGES), LANDMARKS),
            lambda inference, pool, _: Looker(inference, pool, most_faces=DEFAULT_FACES),
        ),
        Detector(
            "scrfd",
            (LANDMARKS,),
            lambda inference, pool, local: Looker(
                inference, pool, most_faces=DEFAULT_FACES, finder=scrfd.ScrfdFaces(local, pool)
            ),
            own_models=(scrfd.MODEL,),
        ),
    )
}

PROFILE_DETECTOR = "blazeface"
"""The starter's, and the studio's where its own may not be used."""


def profile_detector(profile: str, policy: LicencePolicy) -> str:
    """Which detector a profile uses where a request names none; SCRFD's weights are for research alone."""
    return "scrfd" if profile == "studio" and policy == "research" else PROFILE_DETECTOR


def detector(name: str) -> Detector:
    """A detector by name; empty means the starter's.

    Raises:
        UnknownModel: there is none of that name.
    """
    found = DETECTORS.get(name or PROFILE_DETECTOR)
    if found is None:
        raise UnknownModel(model=name, known=", ".join(sorted(DETECTORS)))
    return found
