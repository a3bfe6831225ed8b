"""The compositor over its contract: segments, and what they may not depend on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masquerade.v1 import compositor_pb2 as pb
from masquerade.v1 import media_pb2
from services.common.errors import AnswerMismatch, InvalidSpec, MasqueradeError
from services.common.planes import digest
from services.compositor.scenery import compose
from tests.clips import make_clip
from tests.support.passage import planes_of
from tests.support.rendering_house import House, rendering_house

FRAMES = 24
BLUR = pb.RenderBackground(kind=pb.BACKGROUND_KIND_BLUR)
GREEN = pb.RenderBackground(kind=pb.BACKGROUND_KIND_COLOUR, rgb=0x00FF00)
CAST = {"timeline_key": "t/timeline/clip", "cast": [pb.CastEntry(person=0, identity_key="t/identities/anna")]}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=(192, 208), bf=2, gop=8)


@pytest.fixture
async def house(tmp_path: Path, clip: Path) -> AsyncIterator[House]:
    async with rendering_house(tmp_path) as running:
        await running.add_video("clip", clip)
        await running.add_timeline("clip", cut=11, shards=2)
        yield running


async def test_a_segment_without_an_effect_is_the_sources_own_planes(house: House, clip: Path) -> None:
    wanted = [digest(planes) for planes in planes_of(clip, house.indexes["clip"], 0, FRAMES)]
    assert await house.digests("clip", "plain", [0, FRAMES]) == wanted


@pytest.mark.parametrize("background", [BLUR, GREEN])
async def test_planes_do_not_depend_on_how_the_video_was_split(house: House, background: pb.RenderBackground) -> None:
    whole = await house.digests("clip", "whole", [0, FRAMES], background=background, **CAST)
    assert len(set(whole)) == FRAMES
    assert await house.digests("clip", "split", [0, 8, 16, FRAMES], background=background, **CAST) == whole


async def test_planes_depend_neither_on_batches_nor_on_lanes_nor_on_memory(
    house: House, clip: Path, tmp_path: Path
) -> None:
    whole = await house.digests("clip", "whole", [0, FRAMES], background=BLUR, **CAST)
    async with rendering_house(tmp_path / "other", batch_frames=3, frames_at_most=6, renders=1) as other:
        await other.add_video("clip", clip)
        await other.add_timeline("clip", cut=11, shards=3)
        assert await other.digests("clip", "whole", [0, FRAMES], background=BLUR, **CAST) == whole


async def test_half_the_workers_blend_and_no_more_however_many_segments_are_rendered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, blending, most, blended = threading.Lock(), 0, 0, 0

    def watched(*arguments: Any) -> None:
        nonlocal blending, most, blended
        with lock:
            blending += 1
            most, blended = max(most, blending), blended + 1
        time.sleep(0.002)
        compose(*arguments)
        with lock:
            blending -= 1

    monkeypatch.setattr("services.compositor.conveyor.compose", watched)
    orders = [house.order("clip", f"half/{n}", first, first + 8, background=BLUR) for n, first in enumerate((0, 8, 16))]
    await asyncio.gather(*(house.compositor.RenderSegment(order, timeout=50) for order in orders))
    assert (most, blended) == (1, FRAMES)


async def test_only_the_cast_face_changes_and_nothing_outside_its_box(house: House) -> None:
    plain = await house.planes("clip", "plain", 0, 8)
    swapped = await house.planes("clip", "swapped", 0, 8, **CAST)
    index = house.indexes["clip"]
    for frame in range(8):
        luma = slice(0, index.width * index.height)
        changed = (plain[frame, luma] != swapped[frame, luma]).reshape(index.height, index.width)
        rows, columns = np.nonzero(changed)
        assert 20 <= rows.min() < rows.max() < 100
        assert 50 + frame - 30 <= columns.min() < columns.max() < 100 + frame


async def test_frames_outside_the_apply_ranges_are_identical(house: House) -> None:
    plain = await house.digests("clip", "plain", [0, FRAMES])
    ranges = [media_pb2.FrameRange(first=4, last=9), media_pb2.FrameRange(first=20, last=22)]
    applied = await house.digests("clip", "applied", [0, 8, FRAMES], background=GREEN, apply=ranges, **CAST)
    same = [frame for frame in range(FRAMES) if plain[frame] == applied[frame]]
    assert same == [0, 1, 2, 3, *range(9, 20), 22, 23]


async def test_kept_frames_are_those_of_the_whole_video(house: House) -> None:
    whole = await house.digests("clip", "whole", [0, FRAMES], background=BLUR)
    keep = [media_pb2.FrameRange(first=3, last=6), media_pb2.FrameRange(first=7, last=18)]
    kept = await house.digests("clip", "kept", [0, 8, 16, FRAMES][:3], background=BLUR, keep=keep)
    assert kept == [*whole[3:6], *whole[7:16]]


async def test_a_finished_segment_is_found_again_and_not_made_twice(house: House) -> None:
    order = house.order("clip", "once", 0, 8, background=GREEN)
    first = await house.compositor.RenderSegment(order)
    asked = len(house.mattes.frames)
    again = await house.compositor.RenderSegment(order)
    assert (first.reused, again.reused) == (False, True)
    assert (again.segment, again.frames) == (first.segment, first.frames)
    assert len(house.mattes.frames) == asked


async def test_a_video_background_runs_by_its_own_clock_and_begins_again(house: House, tmp_path: Path) -> None:
    # 5 frames at 10 a second behind 24 at 25: each is shown 2 or 3 times, from its beginning again after 0.5 s.
    await house.add_video("behind", make_clip(tmp_path / "behind.mp4", frames=5, rate=10, size=(64, 48)))
    video = pb.RenderBackground(
        kind=pb.BACKGROUND_KIND_VIDEO, asset_key="t/assets/behind", index_key="t/assets/behind.index"
    )
    whole = await house.digests("clip", "whole", [0, FRAMES], background=video)
    assert await house.digests("clip", "split", [0, 8, 16, FRAMES], background=video) == whole


async def test_a_background_is_not_written_over_while_it_is_blended(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.add_video("behind", make_clip(tmp_path / "behind.mp4", frames=5, rate=10, size=(64, 48)))
    video = pb.RenderBackground(
        kind=pb.BACKGROUND_KIND_VIDEO, asset_key="t/assets/behind", index_key="t/assets/behind.index"
    )

    def slow(*arguments: Any) -> None:
        # Meanwhile the background begins again, and is decoded into memory that is free: frame 0 where frame 4 lay.
        time.sleep(0.2)
        compose(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("services.compositor.conveyor.compose", slow)
        slowly = await house.digests("clip", "slowly", [8, 16], background=video)
    assert slowly == await house.digests("clip", "quickly", [8, 16], background=video)


async def test_a_label_is_drawn_into_every_frame_and_nowhere_else(house: House) -> None:
    plain = await house.planes("clip", "plain", 0, 3)
    labelled = await house.planes("clip", "labelled", 0, 3, label="drawn, not filmed")
    index = house.indexes["clip"]
    area = index.width * index.height
    changed = (plain[:, :area] != labelled[:, :area]).reshape(3, index.height, index.width)
    assert changed.any(axis=(1, 2)).all()
    assert not changed[:, : index.height * 3 // 4].any()


async def test_a_peer_that_answers_other_faces_than_asked_is_an_error(house: House) -> None:
    house.faces.answer_fewer = True
    with pytest.raises(AnswerMismatch):
        await house.compositor.RenderSegment(house.order("clip", "bad", 0, 8, **CAST))
    assert await house.store.stat("t/jobs/bad") is None
    assert list(house.scratch.iterdir()) == []


async def test_cancelling_takes_effect_within_two_seconds_and_leaves_nothing(house: House) -> None:
    house.mattes.delay_s = 30.0
    call = house.compositor.RenderSegment(house.order("clip", "never", 0, FRAMES, background=GREEN))
    running = asyncio.ensure_future(_answer(call))
    await asyncio.sleep(0.5)
    call.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for _ in range(80):
        if not list(house.scratch.iterdir()):
            break
        await asyncio.sleep(0.025)
    assert list(house.scratch.iterdir()) == []
    house.mattes.delay_s = 0.0
    assert (await house.compositor.RenderSegment(house.order("clip", "after", 0, 8, background=GREEN))).frames == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"encode": pb.EncodeSettings(preset="hasty")},
        {"encode": pb.EncodeSettings(container="avi")},
        {"keep": [media_pb2.FrameRange(first=5, last=5)]},
        {"keep": [media_pb2.FrameRange(first=100, last=200)]},
        {"background": pb.RenderBackground(kind=pb.BACKGROUND_KIND_BLUR, blur=7)},
    ],
)
async def test_an_impossible_order_is_refused_by_name(house: House, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec):
        await house.compositor.RenderSegment(house.order("clip", "wrong", 0, 8, **wrong))


async def test_a_segment_beyond_the_video_is_refused(house: House) -> None:
    with pytest.raises(MasqueradeError):
        await house.compositor.RenderSegment(house.order("clip", "beyond", 16, 96))


async def _answer(call: object) -> object:
    return await call  # type: ignore[misc]
