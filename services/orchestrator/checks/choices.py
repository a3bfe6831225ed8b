"""Engines, models, options, weights and licences that a job asks for, held against what the services offer."""

from __future__ import annotations

from collections.abc import Iterator

from services.common.errors import (
    LicenceForbidden,
    ModelMissing,
    UnknownEngine,
    UnknownModel,
    UnknownProfile,
    Violation,
)
from services.orchestrator.checks.facts import Facts
from services.orchestrator.offers import Offer, StageOffers
from services.orchestrator.spec import PROFILES, JobSpec

_ENGINES = "spec.engines"


async def of_choices(spec: JobSpec, facts: Facts) -> list[Violation]:
    """Everything that is named and is not there, or may not be used; also where it is what is done unasked."""
    found = [*_of_profile(spec, facts)]
    needed = {
        "detector": bool(spec.identities) and spec.rerender is None,
        "swapper": bool(spec.identities),
        "segmenter": spec.background.kind != "keep",
    }
    named = {
        "detector": spec.engines.detector,
        "swapper": spec.engines.swapper,
        "segmenter": spec.engines.segmenter,
    }
    for stage, is_needed in needed.items():
        has_options = stage == "swapper" and bool(spec.engines.swapper_options)
        if is_needed or named[stage] or has_options:
            found += _of_stage(stage, named[stage], await facts.offers(stage), spec, facts, is_needed=is_needed)
    found += _of_encoder(spec, await facts.offers("compositor"))
    return found


def _of_profile(spec: JobSpec, facts: Facts) -> Iterator[Violation]:
    if spec.profile is None or spec.profile == facts.profile:
        return
    if spec.profile not in PROFILES:
        yield _violation("spec.profile", UnknownProfile(profile=spec.profile, known=", ".join(PROFILES)))
    else:
        yield Violation("spec.profile", f"{spec.profile} is not served here, but {facts.profile}")


def _of_stage(
    stage: str, name: str | None, offers: StageOffers | None, spec: JobSpec, facts: Facts, *, is_needed: bool
) -> Iterator[Violation]:
    path = f"{_ENGINES}.{stage}"
    if offers is None:
        if is_needed:
            yield Violation(path, f"UNAVAILABLE: the job needs the service {stage}, and it is not there")
        return
    chosen = offers.named(name)
    if chosen is None:
        unknown = (
            UnknownEngine(engine=name, known=offers.names)
            if stage == "swapper"
            else UnknownModel(model=name, known=offers.names)
        )
        yield _violation(path, unknown)
        return
    if stage == "swapper":
        yield from _of_options(spec, chosen)
    yield from _of_models(path, chosen, spec, facts)


def _of_options(spec: JobSpec, engine: Offer) -> Iterator[Violation]:
    for option, value in sorted(spec.engines.swapper_options.items()):
        path = f"{_ENGINES}.swapper_options.{option}"
        if option not in engine.options:
            yield Violation(path, f"{engine.name} has no such option; it has {', '.join(engine.options) or 'none'}")
        elif option in engine.choices and value not in engine.choices[option]:
            yield Violation(path, f"{value!r} is none of {', '.join(engine.choices[option])}")


def _of_models(path: str, chosen: Offer, spec: JobSpec, facts: Facts) -> Iterator[Violation]:
    # The stricter of what is served and what the job wants for itself.
    policy = "commercial" if "commercial" in (facts.policy, spec.licence_policy) else "research"
    for model in chosen.models:
        card = facts.cards.get(model)
        if card is not None and policy == "commercial" and not card.licence.commercial_use:
            yield _violation(path, LicenceForbidden(model=model, policy=policy, licence=card.licence.name))
        elif model in chosen.missing:
            yield _violation(path, ModelMissing(model=model))


def _of_encoder(spec: JobSpec, offers: StageOffers | None) -> Iterator[Violation]:
    if offers is None:
        # Without it there is no job at all: that is a mesh that starts, and the job waits for it.
        return
    for encoder in offers.offers:
        presets = encoder.choices.get("preset", ())
        wanted = spec.encode.get("preset")
        if spec.container in encoder.choices["container"] and wanted is not None and wanted not in presets:
            yield Violation("spec.encode.preset", f"{wanted!r} is none of {', '.join(presets)}")


def _violation(
    path: str, error: LicenceForbidden | ModelMissing | UnknownEngine | UnknownModel | UnknownProfile
) -> Violation:
    return Violation(path, f"{error.reason}: {error.text()}")
