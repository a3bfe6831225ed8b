"""Chains become tracks, tracks become people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from services.common.errors import ObjectCorrupt
from services.detector.learning import MOST_SAMPLES, Samples, learn
from services.detector.people import people_of, unlikeness
from services.detector.tracing import MOST_GAP, Tracer, Tracing
from tests.support.observed import Actor, look, observe, split


def trace(actors: Sequence[Actor], frames: int, *, parts: int = 1, cuts: Sequence[int] = ()) -> Tracing:
    tracer = Tracer()
    for seen in split(actors, frames, parts, cuts=cuts):
        tracer.add(seen)
    return tracer.finish()


def spans(tracing: Tracing) -> list[tuple[int, int]]:
    return [(track.first, track.last) for track in tracing.tracks]


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_a_face_is_one_track_across_groups_and_segments(parts: int) -> None:
    tracing = trace([Actor(3, 77)], 80, parts=parts)
    assert spans(tracing) == [(3, 77)]
    assert tracing.tracks[0].observed == 74
    assert set(tracing.numbers.tolist()) == {0}


def test_a_gap_is_bridged_up_to_its_limit_and_no_farther() -> None:
    for gap, tracks in ((MOST_GAP, 1), (MOST_GAP + 1, 2)):
        actor = Actor(0, 80, missed=frozenset(range(30, 30 + gap)))
        assert len(trace([actor], 80, parts=3).tracks) == tracks


def test_a_track_never_crosses_a_cut() -> None:
    assert spans(trace([Actor(0, 80)], 80, cuts=[35])) == [(0, 35), (35, 80)]


def test_faces_beside_each_other_are_never_exchanged() -> None:
    actors = [Actor(0, 80, x=100), Actor(0, 80, x=150)]
    tracing = trace(actors, 80, parts=3)
    assert spans(tracing) == [(0, 80), (0, 80)]
    assert [float(track.end[0]) for track in tracing.tracks] == pytest.approx([100, 150])


def test_tracks_are_numbered_by_first_sight_and_then_from_left_to_right() -> None:
    tracing = trace([Actor(0, 80, x=400), Actor(0, 80, x=50), Actor(30, 80, x=10)], 80, parts=3)
    assert [round(float(track.start[0])) for track in tracing.tracks] == [50, 400, 10]


def test_a_short_false_alarm_is_removed_and_a_short_scene_is_not() -> None:
    tracing = trace([Actor(0, 80, x=100), Actor(40, 44, x=400)], 80)
    assert spans(tracing) == [(0, 80)]
    assert tracing.removed == 1
    assert set(tracing.numbers.tolist()) == {0, -1}
    assert spans(trace([Actor(0, 80)], 80, cuts=[40, 43])) == [(0, 40), (40, 43), (43, 80)]


def test_a_track_that_the_net_doubts_is_removed() -> None:
    assert spans(trace([Actor(0, 80, score=0.55)], 80)) == []


def test_segments_out_of_order_are_an_error() -> None:
    tracer = Tracer()
    tracer.add(observe([Actor(0, 80)], 0, 16))
    with pytest.raises(ObjectCorrupt):
        tracer.add(observe([Actor(0, 80)], 24, 40))


def test_the_example_is_where_the_face_is_largest() -> None:
    tracing = trace([Actor(0, 40, width=60), Actor(40, 80, width=80)], 80)
    assert [track.example[1] >= 40 for track in tracing.tracks] == [True]


def people(tracing: Tracing) -> list[list[int]]:
    return [[track.number for track in someone.tracks] for someone in people_of(tracing.tracks, tracing.cuts)]


def test_somebody_who_comes_back_after_a_cut_is_the_same_person() -> None:
    actors = [Actor(0, 40, look=1), Actor(40, 80, look=2), Actor(80, 120, look=1, x=300)]
    assert people(trace(actors, 120, cuts=[40, 80])) == [[0, 2], [1]]


def test_two_who_are_seen_at_once_are_two_even_if_they_look_alike() -> None:
    assert people(trace([Actor(0, 80, x=50, look=1), Actor(0, 80, x=300, look=1)], 80)) == [[0], [1]]


def test_somebody_who_was_hidden_for_long_is_still_in_place() -> None:
    actor = Actor(0, 120, look=1, missed=frozenset(range(40, 70)))
    tracing = trace([actor], 120)
    assert len(tracing.tracks) == 2
    assert people(tracing) == [[0, 1]]


def test_somebody_else_in_the_same_place_is_somebody_else() -> None:
    assert people(trace([Actor(0, 40, look=1), Actor(60, 120, look=2)], 120)) == [[0], [1]]


def test_likeness_does_not_depend_on_the_light() -> None:
    face = look(1).astype(np.float32)[:16, :16]
    brighter = face + np.array([30, 0, 0], np.float32)
    assert unlikeness(face, brighter) < 1e-3
    assert unlikeness(face, look(2).astype(np.float32)[:16, :16]) > 20


def test_a_hand_in_front_of_the_face_is_not_learned() -> None:
    samples = Samples()
    hand = np.full((64, 64, 3), 250, np.uint8)
    rng = np.random.default_rng(0)
    for frame in range(40):
        face = np.clip(look(1) + rng.normal(0, 3, (64, 64, 3)), 0, 255).astype(np.uint8)
        if frame % 10 < 3:
            face[20:50, 10:40] = hand[20:50, 10:40]
        samples.offer(4 * frame, face)
    learned = learn(samples)
    assert learned is not None
    assert np.abs(learned.mean - look(1)).max() < 4
    assert learned.var.max() < 60


def test_samples_stay_spread_over_a_long_track_and_are_bounded() -> None:
    samples = Samples()
    for frame in range(0, 4000, 4):
        samples.offer(frame, look(0))
    frames = [frame for frame, _ in samples.kept]
    assert len(frames) <= MOST_SAMPLES
    assert len(frames) > MOST_SAMPLES // 2 - 1
    assert len(set(np.diff(frames).tolist())) == 1
    assert frames[-1] > 3800


def test_too_few_samples_teach_nothing() -> None:
    samples = Samples()
    samples.offer(0, look(0))
    assert learn(samples) is None
