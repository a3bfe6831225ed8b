"""Landmarks smoothed: steady when still, faithful when moving, the same in any company."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from masquerade.facemesh import LEFT_EYE, RIGHT_EYE
from services.detector.rows import GAP_FADE, ShardMaker
from services.detector.smoothing import RADIUS, bridge, fade_in_gaps, regions, smooth
from services.detector.tracing import Tracer
from tests.support.faces import face_points
from tests.support.observed import Actor, split

FACE_PX = 100.0


def still(frames: int) -> NDArray[np.float32]:
    return np.repeat(face_points(FACE_PX, at=(100, 60))[None], frames, axis=0)


def noisy(points: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Trembling by 0.2 % of the face's width."""
    noise = np.random.default_rng(seed).normal(0, 0.002 * FACE_PX, points.shape)
    return (points + noise).astype(np.float32)


def everywhere(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(len(points), np.bool_)


def lid_opening(points: NDArray[np.float32], ring: tuple[int, ...] = RIGHT_EYE) -> NDArray[np.float32]:
    return np.linalg.norm(points[:, ring[4], :2] - points[:, ring[12], :2], axis=1)


def blinking(frames: int, period: int = 20) -> NDArray[np.float32]:
    """Lids that close and open within 6 frames, and lips that open and close all the time."""
    points = still(frames)
    shape = [1.0, 0.55, 0.1, 0.1, 0.5, 0.9]
    for frame in range(frames):
        phase = frame % period
        openness = shape[phase] if phase < len(shape) else 1.0
        for ring in (RIGHT_EYE, LEFT_EYE):
            middle = points[frame, list(ring), 1].mean()
            points[frame, list(ring), 1] = middle + openness * (points[frame, list(ring), 1] - middle)
        points[frame, [14, 87, 317, 178, 402], 1] += 4 * (1 + np.sin(2 * np.pi * frame / 6.5))
    return points


def test_every_landmark_is_in_one_region() -> None:
    named = [point for region in regions() for point in region.points]
    assert sorted(named) == list(range(478))


def test_a_still_face_trembles_less() -> None:
    truth = still(60)
    raw = noisy(truth)
    rest = list(regions()[0].points)
    before, after = (
        np.abs(p[RADIUS:-RADIUS, rest] - truth[RADIUS:-RADIUS, rest]).mean()
        for p in (raw, smooth(raw, everywhere(raw)))
    )
    assert after < 0.5 * before


def test_even_motion_passes_unchanged_at_any_speed_and_to_the_last_frame() -> None:
    for speed in (0.5, 5.0, 40.0):
        points = still(30)
        points[:, :, 0] += speed * np.arange(30, dtype=np.float32)[:, None]
        assert np.abs(smooth(points, everywhere(points)) - points).max() < 0.01


def test_blinks_and_lips_follow() -> None:
    truth = blinking(100)
    smoothed = smooth(noisy(truth), everywhere(truth))
    lids = np.corrcoef(lid_opening(truth), lid_opening(smoothed))[0, 1]
    lips = np.corrcoef(truth[:, 14, 1] - truth[:, 13, 1], smoothed[:, 14, 1] - smoothed[:, 13, 1])[0, 1]
    assert lids >= 0.97
    assert lips >= 0.97
    assert lid_opening(smoothed).min() < 0.35 * lid_opening(smoothed).max()


def test_a_blink_leaves_no_trace_in_the_frames_beside_it() -> None:
    truth = blinking(40, period=60)
    smoothed = smooth(truth, everywhere(truth))
    assert np.abs(smoothed[9:30, list(RIGHT_EYE)] - truth[9:30, list(RIGHT_EYE)]).max() < 0.05


def test_a_row_does_not_depend_on_how_many_are_smoothed_with_it() -> None:
    raw = noisy(blinking(80))
    whole = smooth(raw, everywhere(raw))
    for first, last in ((0, 30), (17, 60), (50, 80)):
        a, b = max(0, first - RADIUS), min(80, last + RADIUS)
        part = smooth(np.ascontiguousarray(raw[a:b]), np.ones(b - a, np.bool_))
        assert np.array_equal(part[first - a : last - a], whole[first:last])


def test_a_gap_is_filled_by_even_motion_and_a_long_one_is_not() -> None:
    points = still(40)
    points[:, :, 0] += 2 * np.arange(40, dtype=np.float32)[:, None]
    seen = np.ones(40, np.bool_)
    seen[10:16] = seen[22:36] = False
    torn = np.where(seen[:, None, None], points, np.float32(np.nan))
    known = bridge(torn, seen, most_gap=12)
    assert known.tolist() == [not 22 <= frame < 36 for frame in range(40)]
    assert np.abs(torn[10:16] - points[10:16]).max() < 0.01


def test_a_gap_fades_towards_its_middle() -> None:
    seen = np.ones(30, np.bool_)
    seen[10:22] = False
    weight = fade_in_gaps(seen, frames=GAP_FADE)
    assert weight[9] == weight[22] == 1
    assert weight[15] == weight[16] == 0
    assert np.all(np.diff(weight[9:16]) < 0)
    seen[:] = True
    seen[10] = False
    assert fade_in_gaps(seen, frames=GAP_FADE)[10] > 0.8


def rows_of(actors: list[Actor], frames: int, parts: int) -> dict[str, NDArray[np.generic]]:
    observed = split(actors, frames, parts)
    tracer = Tracer()
    for seen in observed:
        tracer.add(seen)
    maker = ShardMaker(tracer.finish())
    shards = [shard for seen in observed for shard in maker.add(seen)] + maker.finish()
    assert len(shards) == len(observed)
    names = ("frame", "track", "corner", "points", "score", "pose", "weight")
    return {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in names}


def moving(frame: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(frame)
    points = face_points(60, at=(100 + 30 * np.sin(frame / 9), 60 + 0.2 * frame))
    return (points + rng.normal(0, 0.15, points.shape)).astype(np.float32)


@pytest.mark.parametrize("parts", [3, 7, 20])
def test_rows_are_the_same_however_the_video_is_split(parts: int) -> None:
    actors = [
        Actor(0, 160, motion=moving, missed=frozenset([*range(21, 30), 64, 65, 100])),
        Actor(30, 131, x=400, missed=frozenset(range(70, 82))),
    ]
    whole, in_parts = rows_of(actors, 160, 1), rows_of(actors, 160, parts)
    for name, column in whole.items():
        assert np.array_equal(column, in_parts[name]), name


def test_bridged_frames_have_rows_that_fade() -> None:
    rows = rows_of([Actor(0, 80, missed=frozenset(range(30, 40)))], 80, 3)
    assert rows["frame"].tolist() == list(range(80))
    assert rows["weight"][[29, 40]].tolist() == [1, 1]
    assert rows["weight"][34] < 0.3


def test_a_profile_fades() -> None:
    def turned(frame: int) -> NDArray[np.float32]:
        points = face_points(100, at=(200, 60)).astype(np.float64)
        middle = points.mean(axis=0)
        angle = np.radians(frame)
        away = points - middle
        x = np.cos(angle) * away[:, 0] + np.sin(angle) * away[:, 2]
        z = -np.sin(angle) * away[:, 0] + np.cos(angle) * away[:, 2]
        return (np.column_stack([x, away[:, 1], z]) + middle).astype(np.float32)

    rows = rows_of([Actor(0, 90, motion=turned)], 90, 1)
    yaw = np.abs(rows["pose"][:, 0].astype(np.float64))
    weight = rows["weight"].astype(np.float64)
    assert yaw.max() > 80
    assert np.all(weight[yaw < 54.9] == 1)
    assert np.all(weight[yaw > 75.1] == 0)
    assert np.all((weight[(yaw > 56) & (yaw < 74)] > 0) & (weight[(yaw > 56) & (yaw < 74)] < 1))
