"""Invariant I2: outside the patches and the replaced background not one sample changes before encoding."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from masquerade.v1 import media_pb2
from tests.e2e.mesh_driver import BLUR, Driver, Result, colour

pytestmark = pytest.mark.asyncio(loop_scope="module")

WIDTH, HEIGHT, FRAMES = 320, 240, 64
PlaneStack = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

# Beyond the landmarks' bounds, as a share of the face's width: the soft edge of a patch and the rest of the forehead.
ROUND_A_FACE = 0.16


def stacked(planes: NDArray[np.uint8]) -> PlaneStack:
    """Packed frames as Y (n, h, w), U and V (n, h/2, w/2)."""
    luma, u, v = np.split(planes, [WIDTH * HEIGHT, WIDTH * HEIGHT * 5 // 4], axis=1)
    return (
        luma.reshape(-1, HEIGHT, WIDTH),
        u.reshape(-1, HEIGHT // 2, WIDTH // 2),
        v.reshape(-1, HEIGHT // 2, WIDTH // 2),
    )


@pytest.fixture(scope="module")
def decoded(talking: Path) -> NDArray[np.uint8]:
    """The film's planes as a decoder gives them that has nothing to do with ours: (frames, bytes of a frame)."""
    with av.open(str(talking)) as film:
        return np.stack([frame.to_ndarray(format="yuv420p").reshape(-1) for frame in film.decode(video=0)])


def dumped(result: Result) -> NDArray[np.uint8]:
    assert result.planes is not None
    return result.planes


async def test_without_an_effect_every_sample_is_the_decoders(
    mesh: Driver, talking: Path, decoded: NDArray[np.uint8]
) -> None:
    result = await mesh.transform(talking, segments=3, dump_planes=True)
    assert np.array_equal(dumped(result), decoded)


async def test_a_swap_changes_faces_in_every_frame_and_nothing_around_them(
    mesh: Driver, talking: Path, portrait: Path, decoded: NDArray[np.uint8]
) -> None:
    result = await mesh.transform(talking, faces=[portrait], segments=3, dump_planes=True)
    assert result.seen is not None
    places = result.seen.points_px()
    assert [frame for frame, _ in places] == list(range(FRAMES))
    for plane, own, scale in zip(stacked(dumped(result)), stacked(decoded), (1, 2, 2), strict=True):
        changed = plane != own
        assert changed.any(axis=(1, 2)).all()
        for frame, points in places:
            low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
            margin = ROUND_A_FACE * (high[0] - low[0]) + 2
            x0, y0 = ((low - margin) // scale).astype(int).clip(0)
            x1, y1 = np.ceil((high + margin) / scale).astype(int)
            changed[frame, y0:y1, x0:x1] = False
        assert not changed.any()


async def test_frames_outside_the_apply_ranges_are_the_decoders(
    mesh: Driver, talking: Path, portrait: Path, decoded: NDArray[np.uint8]
) -> None:
    # 25 frames a second: frames 5 to 10 and 40 to 50, neither on a segment's bound.
    ranges = [media_pb2.TimeRange(start_ms=200, end_ms=440), media_pb2.TimeRange(start_ms=1600, end_ms=2000)]
    result = await mesh.transform(
        talking, faces=[portrait], background=BLUR, apply=ranges, segments=3, dump_planes=True
    )
    same = (dumped(result) == decoded).all(axis=1)
    assert np.flatnonzero(~same).tolist() == [*range(5, 11), *range(40, 50)]


async def test_where_nothing_behind_shows_through_samples_are_the_sources(
    mesh: Driver, talking: Path, decoded: NDArray[np.uint8]
) -> None:
    # Two colours as far apart as they can be, for each plane: where both give the same sample, the matte lets nothing
    # through, whatever it was made of.
    pairs = ((0x000000, 0xFFFFFF), (0x0000FF, 0xFFFF00), (0xFF0000, 0x00FFFF))
    for number, (one, other) in enumerate(pairs):
        behind = [
            dumped(await mesh.transform(talking, background=colour(rgb), dump_planes=True)) for rgb in (one, other)
        ]
        first, second = (stacked(planes)[number] for planes in behind)
        own = stacked(decoded)[number]
        is_foreground = first == second
        assert (is_foreground.mean(axis=(1, 2)) > 0.2).all(), "there is a person in every frame"
        assert (is_foreground.mean(axis=(1, 2)) < 0.9).all(), "there is a background in every frame"
        assert np.array_equal(first[is_foreground], own[is_foreground])
