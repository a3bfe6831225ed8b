"""Parts of a job that cannot be meant together, as far as the job alone tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.common.errors import NoIdentity, Violation
from services.orchestrator.spec import JobSpec, TimeRange


def of_contradictions(spec: JobSpec) -> Iterator[Violation]:
    """Everything that contradicts something else."""
    yield from _of_faces(spec)
    yield from _of_background(spec)
    # An empty range has nothing in common with anything, and is named for that already.
    is_sound = all(each.end_ms is None or each.start_ms < each.end_ms for each in (*spec.keep, *spec.apply))
    if spec.keep and spec.apply and is_sound and not _overlap(spec.keep, spec.apply):
        yield Violation("spec.apply", "no part of it stays in the output: it has nothing in common with keep")
    if spec.proof.segments and spec.segment_frames:
        yield Violation("spec.proof.segments", "either the number of segments is given or their length")


def _of_faces(spec: JobSpec) -> Iterator[Violation]:
    asks = {
        "cast": bool(spec.cast),
        "engines.swapper": bool(spec.engines.swapper),
        "engines.swapper_options": bool(spec.engines.swapper_options),
        "engines.detector": bool(spec.engines.detector),
    }
    if not spec.identities and any(asks.values()):
        names = ", ".join(name for name, is_there in asks.items() if is_there)
        yield Violation("spec.identities", f"{NoIdentity.reason}: {names} ask for a face to put on, and there is none")
    people = [rule.person for rule in spec.cast]
    for number, rule in enumerate(spec.cast):
        if rule.person in people[:number]:
            who = "everybody" if rule.person is None else f"person {rule.person}"
            yield Violation(f"spec.cast[{number}].person", f"{who} is given a face twice")


def _of_background(spec: JobSpec) -> Iterator[Violation]:
    behind = spec.background
    if behind.rgb is not None and behind.kind != "colour":
        yield Violation("spec.background.rgb", f"is for a colour, and the background is {behind.kind}")
    if behind.blur is not None and behind.kind != "blur":
        yield Violation("spec.background.blur", f"is for a blur, and the background is {behind.kind}")


def _overlap(some: Sequence[TimeRange], others: Sequence[TimeRange]) -> bool:
    return any(_begins_before_end(one, other) and _begins_before_end(other, one) for one in some for other in others)


def _begins_before_end(one: TimeRange, other: TimeRange) -> bool:
    return other.end_ms is None or one.start_ms < other.end_ms
