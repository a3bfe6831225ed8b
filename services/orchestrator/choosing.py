"""What a job gets: what it names, and for the rest what the services do by themselves, looked up once at its start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.common.errors import UnknownEngine, UnknownModel
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.offers import Ask, Offer, offered
from services.orchestrator.spec import JobSpec

DRAWN_OPTIONS: Final[Mapping[str, str]] = {"colour": "source"}
"""A drawn face keeps its own colours: there is no skin to match."""


async def choose(spec: JobSpec, ask: Ask) -> JsonObject:
    """Ask the services that the job needs what they do where it names nothing.

    Args:
        spec: of the job.
        ask: calls a peer.

    Returns:
        `detector`, `max_faces`, `swapper`, `swapper_options` if it has faces; `segmenter` if something is put behind
        people; `encode`, `blur`; and `models`, the names of those that paint.

    Raises:
        UnknownEngine, UnknownModel: the job names one that is not there.
        Unavailable: a service does not answer.
    """
    chosen: dict[str, Any] = {"models": []}
    if _looks_at_faces(spec):
        looks = await offered(ask, "detector")
        looker = looks.named(spec.engines.detector)
        if looker is None:
            raise UnknownModel(model=spec.engines.detector, known=looks.names)
        chosen |= {"detector": looker.name, "max_faces": looks.settings["max_faces"]}
    if spec.identities:
        swaps = await offered(ask, "swapper")
        engine = swaps.named(spec.engines.swapper)
        if engine is None:
            raise UnknownEngine(engine=spec.engines.swapper, known=swaps.names)
        chosen |= {"swapper": engine.name, "swapper_options": swapper_options(spec, engine)}
        chosen["models"] += engine.models
    if spec.background.kind != "keep":
        mattes = await offered(ask, "segmenter")
        matting = mattes.named(spec.engines.segmenter)
        if matting is None:
            raise UnknownModel(model=spec.engines.segmenter, known=mattes.names)
        chosen["segmenter"] = matting.name
        chosen["models"] += matting.models
    encoders = await offered(ask, "compositor")
    encoder = next((each for each in encoders.offers if spec.container in each.choices["container"]), None)
    settings = {name: value for name, value in (encoder.options if encoder else {}).items() if name != "container"}
    numbers = {name: int(value) if value.isdecimal() else value for name, value in settings.items()}
    chosen["encode"] = {**numbers, **spec.encode, "container": spec.container}
    # A float of the wire, as people write it.
    chosen["blur"] = round(spec.background.blur or encoders.settings["blur"], 6)
    return chosen


def _looks_at_faces(spec: JobSpec) -> bool:
    """A job that has its Timeline from another one looks at portraits alone, if it brings some."""
    if spec.rerender is not None:
        return any(identity.portrait_keys for identity in spec.identities)
    return bool(spec.identities)


def swapper_options(spec: JobSpec, engine: Offer) -> dict[str, str]:
    """All options of the engine: the job's own over those for drawn faces over the engine's defaults."""
    is_drawn = bool(spec.identities) and all(identity.is_drawn for identity in spec.identities)
    drawn = {name: value for name, value in DRAWN_OPTIONS.items() if is_drawn and name in engine.options}
    return {**engine.options, **drawn, **spec.engines.swapper_options}
