"""What a job may ask for, said before anything is stored: every violation at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from services.common.errors import InvalidSpec, Violation
from services.orchestrator.checks.choices import of_choices
from services.orchestrator.checks.contradictions import of_contradictions
from services.orchestrator.checks.facts import Facts
from services.orchestrator.checks.looks import Looks
from services.orchestrator.checks.media import of_media
from services.orchestrator.spec import JobSpec

__all__ = ["Facts", "Looks", "check", "violations"]


async def check(spec: JobSpec, *, tenant: str, facts: Facts) -> None:
    """Find everything that is wrong with a job.

    Args:
        spec: as the engine takes it, already well-formed.
        tenant: whose job it is.
        facts: what is served here.

    Raises:
        InvalidSpec: with one violation for each thing that is wrong.
    """
    found = await violations(spec, tenant=tenant, facts=facts)
    if found:
        raise InvalidSpec(violations=found)


async def violations(spec: JobSpec, *, tenant: str, facts: Facts) -> list[Violation]:
    """Everything that is wrong with a job beside its form; as `check`, which raises it.

    Where the form is wrong too, files that are not named are passed over.
    """
    choices, media = await asyncio.gather(of_choices(spec, facts), of_media(spec, facts.looks, tenant=tenant))
    return [*of_contradictions(spec), *choices, *media, *_of_places(spec, facts)]


def _of_places(spec: JobSpec, facts: Facts) -> Iterator[Violation]:
    known = ", ".join(facts.places) or "none"
    for number, each in enumerate(spec.publish):
        if each.place and each.place not in facts.places:
            yield Violation(f"spec.publish[{number}].place", f"{each.place!r} is none of {known}")
