"""A segment's analysis: the same whatever it is part of, in bounded memory, from frames to file."""

from __future__ import annotations

import asyncio
import dataclasses
import io
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.common.errors import AnswerMismatch, ObjectCorrupt
from services.common.planes import Planes
from services.common.pool import Pool
from services.detector.analysing import MOST_GROUPS, Room, analyse_segment, room_for
from services.detector.looking import Looker
from services.detector.observations import Observations, read_observations, write_observations
from tests.support.orange_faces import HEIGHT, WIDTH, Face, Film, OrangeRuntime, coarse_grid, planes

ROOM = room_for(WIDTH, HEIGHT, budget_bytes=64 << 20)
GRID = coarse_grid()


def video(frames: int, *, cut: int = 0) -> list[Planes]:
    """A face that moves, then after the cut another at another place."""
    return [
        planes(
            [Face(80 + 0.7 * t, 90)] if t < cut else [Face(230 - 0.5 * t, 80, 52), Face(60, 100, 36)], scene=t >= cut
        )
        for t in range(frames)
    ]


async def analyse(
    film: list[Planes], first: int, last: int, *, room: Room = ROOM, looker: Looker | None = None
) -> Observations:
    goes_on = last < len(film)
    source = Film(film)
    pool = Pool(2)
    try:
        return await analyse_segment(
            source.between(first, last + goes_on),
            first=first,
            last=last,
            goes_on=goes_on,
            room=room,
            looker=looker or Looker(OrangeRuntime(), pool, most_faces=4),
            pool=pool,
            grid=GRID,
        )
    finally:
        await pool.close()
        assert source.most_lent <= room.frames
        assert all(frame.held is None for frame in source.lent)


def equal(a: Observations, b: Observations) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Observations))


@pytest.mark.parametrize("phase", range(8))
async def test_both_sides_of_a_cut_are_seen_in_real_pictures(phase: int) -> None:
    cut = 8 + phase
    seen = await analyse(video(24, cut=cut), 0, 24)
    assert seen.cuts.tolist() == [cut]
    assert np.bincount(seen.frame, minlength=24).tolist() == [1] * cut + [2] * (24 - cut)


async def test_a_segment_holds_what_the_whole_holds_there() -> None:
    film = video(45, cut=19)
    whole = await analyse(film, 0, 45)
    for bounds in ([0, 16, 45], [0, 8, 16, 24, 32, 40, 45]):
        parts = [await analyse(film, a, b) for a, b in pairwise(bounds)]
        for name in ("frame", "chain", "seen", "box", "score", "pose", "corner", "points", "cuts", "texture"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(joined, getattr(whole, name)), name


async def test_the_number_of_groups_in_flight_changes_nothing() -> None:
    film = video(40, cut=19)
    one = await analyse(film, 0, 40, room=Room(1, 18, 1))
    many = await analyse(film, 0, 40, room=Room(5, 50, 1))
    assert equal(one, many)


class BusyRuntime(OrangeRuntime):
    """Takes its time, so that what is asked meanwhile waits, also on a machine whose other core is taken."""

    async def infer(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        await asyncio.sleep(0.03)
        return await super().infer(model, inputs)


async def test_several_groups_share_the_models_batches() -> None:
    runtime = BusyRuntime()
    looker = Looker(runtime, Pool(1), most_faces=4, in_flight=1)
    await analyse(video(40), 0, 40, looker=looker)
    sizes = [size for model, size in runtime.batches if model == "facemesh"]
    assert max(sizes) >= 4
    assert sum(size for model, size in runtime.batches if model == "blazeface_full") == 6


async def test_a_missing_frame_is_an_error() -> None:
    film = video(24)
    pool = Pool(1)
    with pytest.raises(AnswerMismatch):
        await analyse_segment(
            Film(film).between(0, 15),
            first=0,
            last=16,
            goes_on=False,
            room=ROOM,
            looker=Looker(OrangeRuntime(), pool, most_faces=4),
            pool=pool,
            grid=GRID,
        )


async def test_samples_belong_to_the_faces_that_they_show() -> None:
    seen = await analyse(video(24), 0, 24)
    assert sorted(set(seen.frame[seen.texture_row].tolist())) == [0, 4, 8, 12, 16, 20]
    assert seen.texture.shape == (12, 64, 64, 3)
    # LAB of orange: light, and far from grey on both axes.
    assert seen.texture[:, 32, 32, 1].min() > 140


def test_room_follows_the_frames_size_and_the_budget() -> None:
    assert room_for(1280, 720, budget_bytes=256 << 20).groups == MOST_GROUPS
    small = room_for(3840, 2160, budget_bytes=64 << 20)
    assert (small.groups, small.frames) == (1, 18)


async def test_observations_come_back_from_their_file() -> None:
    seen = await analyse(video(16), 0, 16)
    content = write_observations(seen)
    assert content == write_observations(seen)
    assert equal(read_observations(content, key="k"), seen)
    light = read_observations(io.BytesIO(content), key="k", with_points=False)
    assert len(light.points) == 0
    assert np.array_equal(light.box, seen.box)


@pytest.mark.parametrize(
    "change",
    [
        {"first": 8},
        {"cuts": np.array([40], np.int32)},
        {"texture_row": np.array([99] * 8, np.int32)},
        {"box": np.full((32, 4), np.nan, np.float32)},
        {"chain": np.zeros(32, np.int32)},
    ],
)
async def test_observations_that_contradict_themselves_are_corrupt(change: dict[str, object]) -> None:
    seen = dataclasses.replace(await analyse(video(16), 0, 16), **change)  # type: ignore[arg-type]
    with pytest.raises(ObjectCorrupt):
        read_observations(write_observations(seen), key="k")


def test_other_bytes_are_corrupt_observations() -> None:
    with pytest.raises(ObjectCorrupt):
        read_observations(b"something else", key="k")
