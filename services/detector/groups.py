"""Closed groups of 8 frames: where faces are found anew, and how they are followed in between.

The grid counts all frames of the source, so a group is the same whatever segment it lies in, and nothing is known in it
but its own frames and the next group's first. Detectors look at both ends and at both sides of every cut; in between
the landmark net follows. A face that enters inside the group is seen at the end and followed back to where it came in;
one that leaves is followed until it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from services.detector.sights import Sight, iou, meets

GROUP = 8
"""Frames of a group."""

MOST_CHAINS = 64
"""Chains in one group; chain numbers are group * 64 + n, so that they are the same in any segment."""

EXPLAINED_IOU = 0.3
"""A face found at the far end that overlaps a followed one by this is that face. Missing one costs a look back, which
ends where it meets the followed face."""

MERGED_IOU = 0.6
"""Two chains that overlap by this in one frame look at one face."""


class Seen(IntEnum):
    """How a face came to be seen in a frame."""

    FOUND = 0
    FORWARD = 1
    BACKWARD = 2


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One face in one frame of a group."""

    frame: int
    chain: int
    sight: Sight
    seen: Seen


class Eyes(Protocol):
    """Looks at frames by number. Answers may be remembered: they depend on the frame alone."""

    async def find(self, frame: int) -> Sequence[Sight]:
        """The faces of a frame about which nothing is known, largest first."""
        ...

    async def follow(self, frame: int, known: Sequence[Sight]) -> Sequence[Sight | None]:
        """Faces of a neighbouring frame, None for each that is lost."""
        ...


@dataclass(frozen=True, slots=True)
class Scene:
    """Frames of a group between two cuts.

    Attributes:
        first: its first frame.
        last: one past its last frame that belongs to the group.
        end: the frame at its far end where detectors look: its own last, or the next group's first.
    """

    first: int
    last: int
    end: int


def scenes_of(first: int, last: int, *, goes_on: bool, cuts: Sequence[int]) -> list[Scene]:
    """A group divided at its cuts.

    Args:
        first: first frame of the group.
        last: one past its last frame.
        goes_on: whether the video has a frame `last`, which is then known as well.
        cuts: frames in (first, last] that begin a scene.
    """
    begins = [first, *(cut for cut in cuts if first < cut < last)]
    ends = [*begins[1:], last]
    scenes = [Scene(a, b, b - 1) for a, b in zip(begins, ends, strict=True)]
    if goes_on and last not in cuts:
        scenes[-1] = Scene(begins[-1], last, last)
    return scenes


async def analyse_group(first: int, last: int, *, goes_on: bool, cuts: Sequence[int], eyes: Eyes) -> list[Sighting]:
    """All faces of one group, by frame and chain.

    Args:
        first: first frame, a multiple of 8.
        last: one past its last frame; at most 8 more, fewer at the video's end.
        goes_on: whether the video has a frame `last`.
        cuts: frames in (first, last] that begin a scene.
        eyes: looks at frames first .. last - 1, and at `last` where the video goes on.
    """
    chains: list[Chain] = []
    for scene in scenes_of(first, last, goes_on=goes_on, cuts=cuts):
        chains += await _follow_scene(scene, eyes)
    # Numbered by first sight, then from left to right: the order in which they were followed says nothing.
    chains.sort(key=lambda chain: (chain.frames[0], *chain.sights[0].box.tolist()))
    base = first // GROUP * MOST_CHAINS
    sightings = [
        Sighting(frame, base + number, sight, seen)
        for number, chain in enumerate(chains[:MOST_CHAINS])
        for frame, sight, seen in zip(chain.frames, chain.sights, chain.seen, strict=True)
    ]
    return sorted(sightings, key=lambda sighting: (sighting.frame, sighting.chain))


@dataclass(slots=True, eq=False)
class Chain:
    """One face followed from frame to frame; frames ascend without a gap."""

    frames: list[int]
    sights: list[Sight]
    seen: list[Seen]

    def at(self, frame: int) -> Sight | None:
        """The face in a frame, if the chain reaches it."""
        index = frame - self.frames[0]
        return self.sights[index] if 0 <= index < len(self.sights) else None


async def _follow_scene(scene: Scene, eyes: Eyes) -> list[Chain]:
    chains = [Chain([scene.first], [sight], [Seen.FOUND]) for sight in await eyes.find(scene.first)]
    await _forward(chains, scene, eyes)
    if scene.end == scene.first:
        return chains
    known = [chain.sights[-1].box for chain in chains if chain.frames[-1] == scene.last - 1]
    entered = [sight for sight in await eyes.find(scene.end) if not meets(sight.box, known, at_least=EXPLAINED_IOU)]
    return chains + await _backward(entered, chains, scene, eyes)


async def _forward(chains: list[Chain], scene: Scene, eyes: Eyes) -> None:
    """Follow faces to the scene's last frame; a chain ends where its face is lost or where another holds it."""
    alive = list(chains)
    for frame in range(scene.first + 1, scene.last):
        if not alive:
            return
        sights = await eyes.follow(frame, [chain.sights[-1] for chain in alive])
        kept = _unmerged(sights, [])
        for chain, sight in zip(alive, kept, strict=True):
            if sight is not None:
                _extend(chain, frame, sight, Seen.FORWARD)
        alive = [chain for chain, sight in zip(alive, kept, strict=True) if sight is not None]


async def _backward(entered: Sequence[Sight], known: Sequence[Chain], scene: Scene, eyes: Eyes) -> list[Chain]:
    """Follow faces that are first seen at the scene's end back to where they came in."""
    trails: list[Chain] = [Chain([scene.end], [sight], [Seen.FOUND]) for sight in entered]
    alive = list(trails)
    for frame in range(scene.end - 1, scene.first - 1, -1):
        if not alive:
            break
        sights = await eyes.follow(frame, [trail.sights[-1] for trail in alive])
        taken = [sight for chain in known if (sight := chain.at(frame)) is not None]
        kept = _unmerged(sights, taken)
        for trail, sight in zip(alive, kept, strict=True):
            if sight is not None:
                _extend(trail, frame, sight, Seen.BACKWARD)
        alive = [trail for trail, sight in zip(alive, kept, strict=True) if sight is not None]
    return [chain for trail in trails if (chain := _reversed(trail, scene.last)) is not None]


def _extend(chain: Chain, frame: int, sight: Sight, seen: Seen) -> None:
    chain.frames.append(frame)
    chain.sights.append(sight)
    chain.seen.append(seen)


def _reversed(trail: Chain, last: int) -> Chain | None:
    """A trail in ascending order, without the next group's frame; None where nothing of it lies in this group."""
    rows = [row for row in zip(trail.frames, trail.sights, trail.seen, strict=True) if row[0] < last][::-1]
    if not rows:
        return None
    frames, sights, seen = zip(*rows, strict=True)
    return Chain(list(frames), list(sights), list(seen))


def _unmerged(sights: Sequence[Sight | None], taken: Sequence[Sight]) -> list[Sight | None]:
    """Drop each sight that shows a face which an earlier one, or a taken one, holds: chains slide onto each other."""
    boxes = [sight.box for sight in taken]
    kept: list[Sight | None] = []
    for sight in sights:
        if sight is None or (boxes and float(iou(sight.box[None], np.stack(boxes)).max()) >= MERGED_IOU):
            kept.append(None)
        else:
            boxes.append(sight.box)
            kept.append(sight)
    return kept
