"""Closed groups of 8: nothing is seen late, nothing depends on the neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from services.detector.groups import GROUP, Scene, Seen, Sighting, analyse_group, scenes_of
from services.detector.sights import Sight, iou
from tests.support.faces import face_points

Where = Callable[[int], Sequence[float]]
"""Left edges of the faces in a frame."""


class World:
    """Eyes over a world that is known: what is detected, and where the landmark net would hold on."""

    def __init__(self, where: Where, *, detected: Where | None = None) -> None:
        self._where = where
        self._detected = detected or where
        self.found: list[int] = []
        self.followed = 0

    async def find(self, frame: int) -> list[Sight]:
        self.found.append(frame)
        return [_face(x) for x in self._detected(frame)]

    async def follow(self, frame: int, known: Sequence[Sight]) -> list[Sight | None]:
        self.followed += len(known)
        faces = [_face(x) for x in self._where(frame)]
        return [
            max((f for f in faces if _near(f, before)), key=lambda f: _near(f, before), default=None)
            for before in known
        ]


def _face(x: float) -> Sight:
    return Sight(face_points(50, at=(x, 60)), 1.0, 50.0)


def _near(a: Sight, b: Sight) -> float:
    overlap = float(iou(a.box[None], b.box[None])[0, 0])
    return overlap if overlap > 0.25 else 0.0


async def seen_in(world: World, frames: int, *, cuts: Sequence[int] = ()) -> list[Sighting]:
    """All groups of a video of some frames."""
    rows: list[Sighting] = []
    for first in range(0, frames, GROUP):
        last = min(first + GROUP, frames)
        inside = [cut for cut in cuts if first < cut <= last]
        rows += await analyse_group(first, last, goes_on=last < frames, cuts=inside, eyes=world)
    return rows


def faces_by_frame(rows: Sequence[Sighting], frames: int) -> list[list[int]]:
    """Left edges seen in each frame."""
    return [sorted(round(float(r.sight.box[0])) for r in rows if r.frame == frame) for frame in range(frames)]


@pytest.mark.parametrize("phase", range(8))
async def test_a_face_beside_a_cut_is_seen_on_its_first_and_last_frame(phase: int) -> None:
    cut = GROUP + phase
    world = World(lambda frame: [20.0] if frame < cut else [200.0])
    rows = await seen_in(world, 24, cuts=[cut])
    assert faces_by_frame(rows, 24) == [[20] if frame < cut else [200] for frame in range(24)]
    assert all(len({r.frame < cut for r in rows if r.chain == chain}) == 1 for chain in {r.chain for r in rows})


@pytest.mark.parametrize("phase", range(8))
async def test_a_face_that_is_only_in_a_short_scene_is_seen_in_all_of_it(phase: int) -> None:
    begin, end = GROUP + phase, GROUP + phase + 3
    world = World(lambda frame: [100.0] if begin <= frame < end else [])
    rows = await seen_in(world, 32, cuts=[begin, end])
    assert [r.frame for r in rows] == list(range(begin, end))


@pytest.mark.parametrize("enters", range(1, 9))
async def test_a_face_that_comes_in_is_followed_back_to_where_it_came(enters: int) -> None:
    world = World(lambda frame: [100.0] if frame >= enters else [])
    rows = await seen_in(world, 24)
    assert [r.frame for r in rows] == list(range(enters, 24))


@pytest.mark.parametrize("leaves", range(9, 17))
async def test_a_face_that_leaves_is_followed_until_it_is_gone(leaves: int) -> None:
    world = World(lambda frame: [100.0] if frame < leaves else [])
    rows = await seen_in(world, 24)
    assert [r.frame for r in rows] == list(range(leaves))


async def test_detectors_look_at_ends_and_beside_cuts_alone() -> None:
    world = World(lambda frame: [100.0])
    await seen_in(world, 24, cuts=[11])
    assert sorted(set(world.found)) == [0, 8, 10, 11, 16, 23]


async def test_a_face_that_is_explained_is_not_followed_back() -> None:
    world = World(lambda frame: [100.0 + frame])
    rows = await analyse_group(0, 8, goes_on=True, cuts=[], eyes=world)
    assert world.followed == 7
    assert [r.seen for r in rows] == [Seen.FOUND] + [Seen.FORWARD] * 7


async def test_a_face_that_detectors_miss_at_the_start_is_followed_back_onto_it() -> None:
    world = World(lambda frame: [100.0], detected=lambda frame: [100.0] if frame >= 8 else [])
    rows = await analyse_group(0, 8, goes_on=True, cuts=[], eyes=world)
    assert [r.frame for r in rows] == list(range(8))
    assert {r.seen for r in rows} == {Seen.BACKWARD}


async def test_a_leap_at_the_end_is_not_seen_twice() -> None:
    world = World(lambda frame: [100.0 if frame < 7 else 118.0 if frame == 7 else 150.0])
    rows = await analyse_group(0, 8, goes_on=True, cuts=[], eyes=world)
    assert faces_by_frame(rows, 8) == [[100]] * 7 + [[118]]


async def test_two_chains_that_slide_onto_one_face_become_one() -> None:
    world = World(lambda frame: [100.0, 130.0] if frame < 3 else [115.0])
    rows = await analyse_group(0, 8, goes_on=False, cuts=[], eyes=world)
    assert faces_by_frame(rows, 8) == [[100, 130]] * 3 + [[115]] * 5


async def test_a_video_of_one_frame_is_looked_at_once() -> None:
    world = World(lambda frame: [10.0, 200.0])
    rows = await analyse_group(0, 1, goes_on=False, cuts=[], eyes=world)
    assert [(r.frame, r.chain) for r in rows] == [(0, 0), (0, 1)]
    assert world.found == [0]


def test_a_cut_before_the_next_groups_first_frame_keeps_it_out() -> None:
    assert scenes_of(8, 16, goes_on=True, cuts=[16]) == [Scene(8, 16, 15)]
    assert scenes_of(8, 16, goes_on=True, cuts=[]) == [Scene(8, 16, 16)]
    assert scenes_of(8, 16, goes_on=True, cuts=[12]) == [Scene(8, 12, 11), Scene(12, 16, 16)]


async def test_chains_are_numbered_by_group_so_that_a_split_changes_none() -> None:
    rows = await analyse_group(80, 88, goes_on=False, cuts=[], eyes=World(lambda frame: [10.0, 200.0]))
    assert sorted({r.chain for r in rows}) == [640, 641]
    assert all(np.isfinite(r.sight.points).all() for r in rows)
