"""Invariant I4: memory does not grow with the length of the video, in any stage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import make_clip
from tests.e2e.pictures import seen_by_camera, write_portrait
from tests.support.starter_models import require_weights

MOST_BYTES_A_FRAME = 2048
SHORT_S, RATE = 10, 10


def repeated(source: Path, path: Path, times: int) -> Path:
    """The clip `times` over: packets copied, so that a long video costs nothing to make."""
    with av.open(str(source)) as once, av.open(str(path), "w") as out:
        video = once.streams.video[0]
        target = out.add_stream_from_template(video)
        packets = [
            (packet.pts, packet.dts, packet.is_keyframe, bytes(packet)) for packet in once.demux(video) if packet.size
        ]
        assert video.duration is not None
        assert video.time_base is not None
        for turn in range(times):
            for pts, dts, is_keyframe, content in packets:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = target, video.time_base, is_keyframe
                packet.pts, packet.dts = pts + turn * video.duration, dts + turn * video.duration
                out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("times", "limit_s"),
    [
        pytest.param(20, 220, marks=[pytest.mark.slow, pytest.mark.timeout(240)]),
        pytest.param(60, 860, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_video_of_many_times_the_length_takes_no_more_memory(times: int, limit_s: float, tmp_path: Path) -> None:
    require_weights()
    short = make_clip(tmp_path / "short.mp4", frames=SHORT_S * RATE, rate=RATE, gop=16, bf=2, draw=seen_by_camera)
    long = repeated(short, tmp_path / "long.mp4", times)
    portrait = write_portrait(tmp_path / "portrait.png")
    command = [sys.executable, "-m", "tests.e2e.memory_probe", str(short), str(long), str(portrait), str(tmp_path)]
    frames = [SHORT_S * RATE, times * SHORT_S * RATE]
    assert measured(command, limit_s, frames=frames) == {}


def measured(command: list[str], limit_s: float, *, frames: list[int]) -> dict[str, float]:
    """What grew by too many bytes a frame."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    grown: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert grown.pop("frames") == frames
    print(grown)
    return {what: slope for what, slope in grown.items() if slope >= MOST_BYTES_A_FRAME}
