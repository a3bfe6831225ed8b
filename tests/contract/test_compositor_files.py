"""Assemble, verify, finalise over the contract: steps that can be done again, and gates that close."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from masquerade.v1 import compositor_pb2 as pb
from masquerade.v1 import media_pb2
from services.common.errors import CorruptMedia, InvalidSpec, ObjectCorrupt, TruncatedMedia, VerifyFailed
from services.common.planes import digest
from tests.clips import make_clip
from tests.support.passage import decoded_digests, planes_of
from tests.support.rendering_house import House, rendering_house

FRAMES = 24
LOSSLESS = pb.EncodeSettings(preset="ultrafast", crf=0)
BOUNDS = (0, 8, 16, FRAMES)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=(192, 144), bf=2, gop=8, audio="aac")


@pytest.fixture
async def house(tmp_path: Path, clip: Path) -> AsyncIterator[House]:
    async with rendering_house(tmp_path) as running:
        await running.add_video("clip", clip)
        yield running


async def _segments(house: House, **rest: Any) -> list[media_pb2.ObjectRef]:
    found = []
    for first, last in pairwise(BOUNDS):
        order = house.order("clip", f"segments/{first}", first, last, encode=LOSSLESS, **rest)
        found.append((await house.compositor.RenderSegment(order)).segment)
    return found


def _assembly(segments: list[media_pb2.ObjectRef], **rest: Any) -> pb.AssembleRequest:
    rest.setdefault("output_key", "t/jobs/assembled.mp4")
    rest.setdefault("encode", LOSSLESS)
    return pb.AssembleRequest(asset_key="t/assets/clip", index_key="t/assets/clip.index", segments=segments, **rest)


def _promise(assembled: pb.AssembleResponse, **rest: Any) -> pb.VerifyRequest:
    rest.setdefault("file_key", assembled.file.key)
    return pb.VerifyRequest(
        asset_key="t/assets/clip",
        index_key="t/assets/clip.index",
        offset_num=assembled.offset_num,
        offset_den=assembled.offset_den,
        **rest,
    )


async def test_a_video_goes_all_the_way_and_every_sample_arrives(house: House, clip: Path) -> None:
    assembled = await house.compositor.Assemble(_assembly(await _segments(house), metadata={"comment": "made"}))
    assert assembled.frames == FRAMES
    verified = await house.compositor.Verify(_promise(assembled))
    assert (verified.frames, verified.max_pts_error_ms) == (FRAMES, 0.0)
    assert list(verified.gates) == ["dts", "frames", "pts", "decode", "end", "sound 0: samples equal"]
    record = {"source": "ab" * 32, "consent": "synthetic", "models": {"facemesh": "cd" * 32}}
    finalised = await house.compositor.Finalise(
        pb.FinaliseRequest(
            file_key=assembled.file.key, output_key="t/jobs/artifact.mp4", record_json=json.dumps(record)
        )
    )
    written = json.loads(await house.store.get_bytes(finalised.record.key))
    assert written["source"] == "ab" * 32
    assert written["file"] == {"sha256": finalised.artifact.digest, "size_bytes": finalised.artifact.size_bytes}
    assert written["software"]["name"] == "masquerade"
    assert (finalised.signer, written["signature"]) == ("", None)
    async with house.store.local_path(finalised.artifact.key) as path:
        wanted = [digest(planes) for planes in planes_of(clip, house.indexes["clip"], 0, FRAMES)]
        assert decoded_digests(path) == wanted


async def test_every_step_may_be_done_again_and_answers_the_same(house: House) -> None:
    order = _assembly(await _segments(house))
    first = await house.compositor.Assemble(order)
    assert await house.compositor.Assemble(order) == first
    final = pb.FinaliseRequest(file_key=first.file.key, output_key="t/jobs/artifact.mp4", record_json="{}")
    assert await house.compositor.Finalise(final) == await house.compositor.Finalise(final)
    assert list(house.scratch.iterdir()) == []


@pytest.mark.parametrize("container", ["mkv", "webm"])
async def test_other_containers_are_assembled_and_verified(house: House, container: str) -> None:
    encode = pb.EncodeSettings(preset="ultrafast", crf=0, container=container)
    found = []
    for first, last in pairwise(BOUNDS):
        order = house.order("clip", f"segments/{first}", first, last, encode=encode)
        found.append((await house.compositor.RenderSegment(order)).segment)
    assembled = await house.compositor.Assemble(_assembly(found, encode=encode))
    verified = await house.compositor.Verify(_promise(assembled))
    assert verified.max_pts_error_ms <= 0.5
    assert any("encoded once as libopus" in note for note in assembled.notes)


async def test_a_cut_video_is_verified_against_its_cut(house: House) -> None:
    keep = [media_pb2.FrameRange(first=2, last=7), media_pb2.FrameRange(first=10, last=23)]
    assembled = await house.compositor.Assemble(_assembly(await _segments(house, keep=keep), keep=keep))
    assert assembled.frames == 18
    assert (await house.compositor.Verify(_promise(assembled, keep=keep))).frames == 18
    with pytest.raises(VerifyFailed, match="frames"):
        await house.compositor.Verify(_promise(assembled))


async def test_a_file_at_wrong_times_does_not_pass(house: House) -> None:
    assembled = await house.compositor.Assemble(_assembly(await _segments(house)))
    assembled.offset_num, assembled.offset_den = 1, 25
    with pytest.raises(VerifyFailed, match="pts"):
        await house.compositor.Verify(_promise(assembled))


async def test_a_file_with_a_damaged_frame_does_not_pass(house: House, tmp_path: Path) -> None:
    assembled = await house.compositor.Assemble(_assembly(await _segments(house)))
    async with house.store.local_path(assembled.file.key) as path:
        content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    await house.store.put_bytes("t/jobs/damaged.mp4", bytes(content))
    with pytest.raises(VerifyFailed):
        await house.compositor.Verify(_promise(assembled, file_key="t/jobs/damaged.mp4"))


async def test_segments_that_do_not_make_up_the_video_are_not_assembled(house: House) -> None:
    segments = await _segments(house)
    with pytest.raises(InvalidSpec, match="16 frames, 24 are kept"):
        await house.compositor.Assemble(_assembly(segments[:2]))
    with pytest.raises(InvalidSpec):
        await house.compositor.Assemble(_assembly([]))
    segments[1].digest = "00" * 32
    with pytest.raises(ObjectCorrupt):
        await house.compositor.Assemble(_assembly(segments))
    assert await house.store.stat("t/jobs/assembled.mp4") is None


async def test_a_source_that_is_not_whole_any_more_is_an_error_of_the_source(house: House, clip: Path) -> None:
    segments = await _segments(house)
    await house.store.put_bytes("t/assets/half", clip.read_bytes()[: clip.stat().st_size // 2])
    order = _assembly(segments)
    order.asset_key = "t/assets/half"
    with pytest.raises((CorruptMedia, TruncatedMedia)):
        await house.compositor.Assemble(order)
    assert (await house.compositor.Assemble(_assembly(segments))).frames == FRAMES


async def test_a_record_that_is_no_object_is_refused(house: House) -> None:
    with pytest.raises(InvalidSpec):
        await house.compositor.Finalise(
            pb.FinaliseRequest(file_key="t/assets/clip", output_key="t/jobs/a", record_json="[1]")
        )
