"""Which identity goes on whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.orchestrator.spec import CastRule


def cast(
    rules: Sequence[CastRule], *, identities: Sequence[str], people: Sequence[int]
) -> tuple[dict[int, str], list[str]]:
    """Give each person of a video the name of an identity, or none.

    Rules that name a person go before rules for everybody; of two for the same person the later one holds. Without
    rules one identity goes on everybody, and several go on the people in the order of first sight and then from left
    to right.

    Args:
        rules: as the job says; may be empty.
        identities: names in the order of the job.
        people: numbers of the people that were found.

    Returns:
        The identity of each person that gets one, and what the reader of the report should know.
    """
    notes: list[str] = []
    if not rules:
        rules = _by_order(identities)
    chosen: dict[int, str] = {}
    for rule in sorted(rules, key=lambda rule: rule.person is not None):
        if rule.person is None:
            chosen.update(dict.fromkeys(people, rule.identity))
        elif rule.person in people:
            chosen[rule.person] = rule.identity
        else:
            notes.append(f"nobody for {rule.identity}: {_people(people)}, person {rule.person} is not among them")
    if identities and not people:
        notes = ["no face was found in the video: no face was replaced"]
    return dict(sorted(chosen.items())), notes


def _by_order(identities: Sequence[str]) -> list[CastRule]:
    if len(identities) == 1:
        return [CastRule(identities[0], None)]
    return [CastRule(identity, person) for person, identity in enumerate(identities)]


def _people(people: Sequence[int]) -> str:
    return f"{len(people)} {'person was' if len(people) == 1 else 'people were'} found"


def entries(chosen: Mapping[int, str], identities: Mapping[str, Mapping[str, object]]) -> list[dict[str, object]]:
    """The cast as RenderSegment takes it: person, key and digest of the identity object."""
    return [
        {
            "person": person,
            "identity_key": identities[name]["key"],
            "identity_digest": identities[name]["digest"],
        }
        for person, name in chosen.items()
    ]
