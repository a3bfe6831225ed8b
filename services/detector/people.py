"""Which tracks are the same human, by place and by what the face looks like in mesh space.

There is no embedding net in the starter profile, so this tells apart the few people of one video and not strangers in
general: a face under other light, with new glasses, or turned away for a whole track may count as somebody new. Tracks
are then people of their own, and a cast that names both puts the same identity on them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.detector.sights import iou
from services.detector.tracing import Trace

ALIKE = 14.0
"""Distance of two signatures up to which they are one person anywhere. On the shared footage one person's two halves of
a clip lie 3 to 8 apart, one person in two clips 12, two people 16 to 60."""

ALIKE_IN_PLACE = 22.0
"""The same where the track begins, in the same scene, where the person was last seen: nobody changes seats unseen."""

IN_PLACE_IOU = 0.3

MOST_SIGHTS = 8
"""Signatures kept of one person, the latest: how somebody looks drifts with the light."""

BOTH_AT_ONCE = 2
"""Frames that two tracks of one person may share: where one chain ends and the next begins."""


@dataclass(slots=True, eq=False)
class Someone:
    """A person while tracks are being sorted.

    Attributes:
        tracks: in order.
        signatures: what the face looked like, latest last.
    """

    tracks: list[Trace]
    signatures: list[NDArray[np.float32]] = field(default_factory=list)


def people_of(tracks: Sequence[Trace], cuts: Sequence[int]) -> list[Someone]:
    """Sort tracks into people, numbered by first sight and then from left to right.

    Args:
        tracks: by number.
        cuts: frames that begin a scene.
    """
    people: list[Someone] = []
    for track in tracks:
        signature = None if track.learned is None else track.learned.signature
        worth = [(_distance(track, signature, person, cuts), place) for place, person in enumerate(people)]
        distance, place = min(worth, default=(np.inf, -1))
        if np.isfinite(distance):
            someone = people[place]
        else:
            someone = Someone([])
            people.append(someone)
        someone.tracks.append(track)
        if signature is not None:
            someone.signatures = [*someone.signatures, signature][-MOST_SIGHTS:]
    return people


def unlikeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Distance of two signatures in 8-bit LAB: the pattern of light and dark, and all of the colour.

    The mean lightness is left out: it is the scene's, not the face's.
    """
    difference = a.astype(np.float64) - b.astype(np.float64)
    light = difference[..., 0] - difference[..., 0].mean()
    return float(np.sqrt((light**2).mean() + (difference[..., 1:] ** 2).sum(axis=-1).mean()))


def _distance(track: Trace, signature: NDArray[np.float32] | None, person: Someone, cuts: Sequence[int]) -> float:
    """How unlike a person a track is; infinite where it cannot be that person."""
    if any(_shared(track, other) > BOTH_AT_ONCE for other in person.tracks[-MOST_SIGHTS:]):
        return np.inf
    latest = max(person.tracks, key=lambda other: (other.last, other.number))
    is_one_scene = bisect_right(cuts, latest.last - 1) == bisect_right(cuts, track.first)
    is_in_place = is_one_scene and float(iou(track.start[None], latest.end[None])[0, 0]) >= IN_PLACE_IOU
    if signature is None or not person.signatures:
        return ALIKE_IN_PLACE if is_in_place else np.inf
    distance = min(unlikeness(signature, other) for other in person.signatures)
    return distance if distance <= (ALIKE_IN_PLACE if is_in_place else ALIKE) else np.inf


def _shared(a: Trace, b: Trace) -> int:
    return min(a.last, b.last) - max(a.first, b.first)
