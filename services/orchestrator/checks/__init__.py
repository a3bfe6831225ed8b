"""What a job may ask for, said before anything is stored: every violation at once."""

from __future__ import annotations

from services.common.errors import InvalidSpec, Violation
from services.orchestrator.checks.facts import Facts
from services.orchestrator.spec import JobSpec

__all__ = ["Facts", "check"]


async def check(spec: JobSpec, *, tenant: str, facts: Facts) -> None:
    """Find everything that is wrong with a job.

    Args:
        spec: as the engine takes it, already well-formed.
        tenant: whose job it is.
        facts: what is served here.

    Raises:
        InvalidSpec: with one violation for each field that is wrong.
    """
    violations = [
        Violation(f"spec.publish[{number}].place", f"{each.place!r} is none of {', '.join(facts.places) or 'none'}")
        for number, each in enumerate(spec.publish)
        if each.place not in facts.places
    ]
    if violations:
        raise InvalidSpec(violations=violations)
