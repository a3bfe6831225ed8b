"""What stands round a frame: faces and their crops, backgrounds by their times, the label, tags and chapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from masquerade.timeline import Person, Timeline, Track
from services.common.colour import ColourTags
from services.common.media.index import MediaIndex, Picture
from services.common.planes import Planes
from services.compositor.backdrop import Moving
from services.compositor.carriage import Container, container_of
from services.compositor.conveyor import _shares
from services.compositor.descriptions import chapters, tags
from services.compositor.faces import Cast, Placed, crop_box
from services.compositor.label import Label
from services.compositor.orders import RenderOrder
from services.compositor.peers import Covering, Face
from services.compositor.scenery import Scenery
from services.compositor.subtitles import cues, target_codec
from services.compositor.timetable import Piece, Range

SD = ColourTags(6, 1)
MS = Fraction(1, 1000)


def _index(pts: list[int], end: int, tick: Fraction) -> MediaIndex:
    none = np.zeros(0, np.int64)
    picture = Picture(64, 48, 64, 48, "yuv420p", SD)
    return MediaIndex("mp4", "h264", 0, picture, tick, np.array(pts, np.int64), end, none, none)


def _points(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    points = np.zeros((478, 3), np.float32)
    points[:, 0] = np.linspace(x0, x1, 478)
    points[:, 1] = np.linspace(y0, y1, 478)
    return points


def test_a_crop_has_margins_of_the_faces_width_on_even_coordinates() -> None:
    assert crop_box(_points(101, 51, 201, 191), width=640, height=480) == (86, 36, 216, 206)


def test_a_crop_ends_at_the_frame_and_a_face_outside_has_none() -> None:
    assert crop_box(_points(-50, -20, 50, 60), width=640, height=480) == (0, 0, 66, 76)
    assert crop_box(_points(700, 10, 800, 110), width=640, height=480) is None
    assert crop_box(_points(-200, 10, -40, 110), width=640, height=480) is None


def test_faces_go_in_calls_of_one_identity_and_of_bounded_bytes() -> None:
    def placed(identity: str, side: int) -> Placed:
        face = Face(0, 0, np.zeros((side, side, 3), np.uint8), _points(0, 0, 1, 1), 1.0, (0, 0, 0))
        return Placed(face, identity, (0, 0, side, side))

    faces = [placed("b", 10), placed("a", 10), placed("b", 10), placed("b", 100), placed("b", 10)]
    shares = [[(one.identity_key, one.box[2]) for one in share] for share in _shares(faces, 700)]
    assert shares == [[("a", 10)], [("b", 10), ("b", 10)], [("b", 100)], [("b", 10)]]


def _scenery(cuts: tuple[int, ...], frames: int = 30) -> Scenery:
    timeline = Timeline(
        width=64,
        height=48,
        frames=frames,
        segments=(),
        tracks=(Track(0, 0, 0, frames, frames, frames, 40.0, False),),
        people=(Person(0, 0, frames, (0.0, 0.0, 1.0, 1.0), 0),),
        cuts=cuts,
    )
    order = RenderOrder("a", "i", Range(0, frames), "o", apply=[Range(5, 8)])
    return Scenery(order=order, frames=frames, width=64, height=48, cast=Cast(timeline, [], {}), matting=(8, 8))


def test_a_matte_never_leans_on_another_scene_or_beyond_the_video() -> None:
    scenery = _scenery(cuts=(10, 11))
    spans = {frame: scenery.neighbours(frame) for frame in (0, 8, 9, 10, 11, 12, 29)}
    assert spans == {
        0: range(3),
        8: range(6, 10),
        9: range(7, 10),
        10: range(10, 11),
        11: range(11, 14),
        12: range(11, 15),
        29: range(27, 30),
    }
    assert [frame for frame in range(30) if scenery.needs_matte(frame)] == [5, 6, 7]


class _Background:
    """Peers that decode a background: notes what was asked, counts what is held."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.held = 0

    @asynccontextmanager
    async def cover(self, frames: Range, how: Covering, *, max_bytes: int) -> AsyncIterator[Any]:
        self.asked.append((frames.first, frames.last))
        yield self._frames(frames)
        # Who leaves the stream gives back whatever frames there are, looked at or not.
        assert self.held == 0, "the stream was left while a frame of it was being looked at"

    async def _frames(self, frames: Range) -> AsyncIterator[Any]:
        for index in range(frames.first, frames.last):
            self.held += 1
            yield _Frame(self, index)


class _Frame:
    def __init__(self, owner: _Background, index: int) -> None:
        self._owner, self.index = owner, index
        self.cover = Planes.empty(2, 2, SD)
        self.cover.y[:] = index

    def release(self) -> None:
        self._owner.held -= 1


async def _shown(moving: Moving, run: Range) -> list[int]:
    await moving.prepare(run)
    found = []
    for frame in range(run.first, run.last):
        held = await moving.at(frame)
        found.append(int(held.planes.y[0, 0]))
        held.release()
    return found


async def test_a_background_runs_by_its_own_clock_whatever_the_run_is() -> None:
    source = _index([1000 + 40 * n for n in range(30)], 2200, MS)
    # Frames of 100 ms but one of 250, 550 ms in all: it begins again at 550 and at 1100 ms.
    video = _index([70, 170, 420, 520], 620, MS)
    peers = _Background()
    how = Covering("b", "bi", 2, 2, SD)
    moving = Moving(peers, how, source=source, video=video, max_bytes=10**6)  # type: ignore[arg-type]
    whole = await _shown(moving, Range(0, 30))
    wanted = [max(n for n, at in enumerate((0, 100, 350, 450)) if at <= 40 * frame % 550) for frame in range(30)]
    assert whole == wanted
    assert peers.asked == [(0, 4), (0, 4), (0, 1)]
    assert await _shown(moving, Range(13, 22)) == wanted[13:22]
    await moving.close()
    assert peers.held == 0


async def test_a_background_that_begins_again_waits_for_those_who_look_at_its_last_frames() -> None:
    source, video = _index([40 * n for n in range(8)], 320, MS), _index([0, 80], 160, MS)
    peers = _Background()
    how = Covering("b", "bi", 2, 2, SD)
    moving = Moving(peers, how, source=source, video=video, max_bytes=10**6)  # type: ignore[arg-type]
    await moving.prepare(Range(0, 8))
    looking = [await moving.at(frame) for frame in range(4)]
    again = asyncio.create_task(moving.at(4))
    for held in looking:
        await asyncio.sleep(0.01)
        assert not again.done()
        held.release()
    (await asyncio.wait_for(again, 5)).release()
    assert peers.asked == [(0, 2), (0, 2)]
    await moving.close()


def test_a_label_stays_inside_the_frame_however_long_or_small() -> None:
    for text, size in (("x" * 300, (64, 48)), ("short", (32, 16)), ("Größe: ja", (640, 360))):
        planes = Planes.empty(*size, SD)
        planes.y[:] = 90
        planes.u[:] = planes.v[:] = 128
        Label(text, width=size[0], height=size[1]).draw(planes)
        assert (planes.y != 90).any()


def test_our_tags_come_before_the_sources_and_its_muxers_are_dropped() -> None:
    source = {"title": "Holiday", "comment": "by me", "encoder": "Lavf", "major_brand": "isom"}
    merged = tags(source, {"comment": "made", "digest": "ab"}, Container.MP4)
    assert merged == {"title": "Holiday", "comment": "made\ndigest: ab\nby me"}
    assert tags(source, {"digest": "ab"}, Container.MKV) == {"title": "Holiday", "comment": "by me", "digest": "ab"}


PIECES = (Piece(1000, 2000, 0, True, True), Piece(5000, 5500, 1000, True, True))


def test_chapters_are_clipped_to_what_stays_and_left_out_where_nothing_does() -> None:
    told = [
        {"id": n, "start": start, "end": end, "time_base": MS, "metadata": {"title": str(n)}}
        for n, (start, end) in enumerate([(0, 1500), (1500, 5100), (2500, 4000), (9000, 8000)])
    ]
    found = chapters(told, pieces=PIECES, tick=MS, offset=Fraction(0))
    assert [(one["id"], one["start"], one["end"]) for one in found] == [(0, 0, 500), (1, 500, 1100)]


def test_a_cue_over_a_cut_is_shown_on_both_sides() -> None:
    shown = cues(Fraction(3, 2), Fraction(26, 5), pieces=PIECES, tick=MS, offset=Fraction(0))
    assert [(cue.start, cue.end) for cue in shown] == [
        (Fraction(1, 2), Fraction(1)),
        (Fraction(1), Fraction(6, 5)),
    ]


@pytest.mark.parametrize(
    ("codec", "container", "kept"),
    [
        ("subrip", Container.MP4, "mov_text"),
        ("mov_text", Container.MKV, "subrip"),
        ("ass", Container.MKV, "ass"),
        ("ass", Container.WEBM, "webvtt"),
        ("hdmv_pgs_subtitle", Container.MKV, "hdmv_pgs_subtitle"),
        ("hdmv_pgs_subtitle", Container.MP4, None),
    ],
)
def test_every_container_gets_subtitles_that_it_holds(codec: str, container: Container, kept: str | None) -> None:
    assert target_codec(codec, container) == kept


def test_an_unknown_container_is_refused_by_name() -> None:
    assert container_of("") is Container.MP4
    assert container_of(".MOV") is Container.MOV
    with pytest.raises(ValueError, match="avi"):
        container_of("avi")
