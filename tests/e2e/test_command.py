"""The command from files to files: what it writes, what an interrupt leaves, where it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.standalone import talker
from services.standalone.mesh import SERVICES
from tests.clips import frame_number, make_clip
from tests.e2e import command
from tests.e2e.ports import free_ports
from tests.support.starter_models import require_weights

SEGMENTS_OF_32 = {"MASQUERADE_ORCHESTRATOR__SEGMENT_FRAMES": "32", "MASQUERADE_ORCHESTRATOR__SEGMENTS_AT_ONCE": "1"}
FRAMES = 256
LEAST_DELTA_E = 15.0


@pytest.fixture(autouse=True)
def _with_models() -> None:
    require_weights()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be interrupted."""
    return make_clip(tmp_path_factory.mktemp("clip") / "long.mp4", frames=FRAMES, audio="aac")


def pictures(path: Path) -> Iterator[NDArray[np.uint8]]:
    """All frames as RGB."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def report_of(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(path.read_text())
    return said


def rendered(data: Path) -> int:
    """Segments that are finished and in the store."""
    return len(list(data.glob("objects/local/jobs/*/render/*.mkv")))


def wait_for_segments(process: subprocess.Popen[str], data: Path, *, count: int) -> None:
    deadline = time.monotonic() + 40.0
    while rendered(data) < count:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline, "no segment was finished in time"
        time.sleep(0.02)


def test_a_cut_video_has_its_frames_its_record_its_report_and_its_sheet(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=75, rate=25, bf=2, audio="aac")
    out, report, sheet = tmp_path / "out.mkv", tmp_path / "report.json", tmp_path / "sheet.png"
    ended = command.run(
        *("transform", source, "--background", "#204060", "--keep", "0:1", "--keep", "2:", "--apply", "2:3"),
        *("--report", report, "--sheet", sheet, "-o", out),
        data=tmp_path / "data",
    )
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert ended.out.splitlines()[-1] == str(out)
    numbers = [frame_number(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)) for rgb in pictures(out)]
    # Where the effect acts the bar code may be covered; before it every frame must be the source's own.
    assert numbers[:25] == list(range(25))
    said = report_of(report)
    assert (said["frames_in"], said["frames_out"]) == (50, 50)
    assert said["max_pts_error_ms"] <= 1.0
    assert said["kept_frames"] == [[0, 25], [50, 75]]
    assert said["peak_pss_mb"] > 50
    for name in ("tracks", "stages", "runtime", "settings", "models"):
        assert name in said
    record = json.loads((tmp_path / "out.mkv.json").read_text())
    assert record["file"]["size_bytes"] == out.stat().st_size
    assert cv2.cvtColor(np.asarray(_opened(sheet)), cv2.COLOR_RGB2GRAY).std() > 10
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def _opened(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"), np.uint8)


@pytest.mark.slow
def test_an_interrupt_leaves_no_half_file_and_the_same_command_goes_on(tmp_path: Path, clip: Path) -> None:
    data, outputs = tmp_path / "data", tmp_path / "out"
    outputs.mkdir()
    order = ("transform", clip, "--background", "blur", "-o", outputs / "out.mp4", "--report", outputs / "report.json")
    process = command.start(*order, data=data, **SEGMENTS_OF_32)
    wait_for_segments(process, data, count=2)
    _stopped(process, signal.SIGINT)
    assert list(outputs.iterdir()) == []
    finished = rendered(data)
    again = command.run(*order, data=data, **SEGMENTS_OF_32)
    assert again.code == 0, again.err
    said = report_of(outputs / "report.json")
    assert said["segments_reused"] >= min(finished, 2)
    assert said["frames_out"] == FRAMES


def test_to_be_terminated_is_to_be_interrupted(tmp_path: Path, clip: Path) -> None:
    process = command.start(
        *("transform", clip, "--background", "blur", "-o", tmp_path / "out.mp4"),
        data=tmp_path / "data",
        **SEGMENTS_OF_32,
    )
    wait_for_segments(process, tmp_path / "data", count=1)
    _stopped(process, signal.SIGTERM)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def _stopped(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """Stop it while it works, and check how it ends."""
    told_at = time.monotonic()
    process.send_signal(how)
    ended = command.ended(process, within_s=20)
    assert ended.code == 130
    assert time.monotonic() - told_at < 10
    assert ended.err.startswith("CANCELLED: ")
    assert len(ended.err.splitlines()) == 1
    assert not ended.left_processes


@pytest.mark.slow
def test_after_a_kill_the_same_command_goes_on(tmp_path: Path, clip: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out.mp4"
    order = ("transform", clip, "--background", "blur", "-o", out, "--report", tmp_path / "report.json")
    process = command.start(*order, data=data, **SEGMENTS_OF_32)
    wait_for_segments(process, data, count=2)
    process.kill()
    ended = command.ended(process, within_s=10)
    assert not ended.left_processes
    assert not out.exists()
    written = {path: path.stat().st_mtime_ns for path in data.glob("objects/local/jobs/*/render/*.mkv/*")}
    again = command.run(*order, data=data, **SEGMENTS_OF_32)
    assert again.code == 0, again.err
    assert report_of(tmp_path / "report.json")["frames_out"] == FRAMES
    assert {path: path.stat().st_mtime_ns for path in written} == written


@pytest.mark.slow
def test_the_demo_puts_a_mask_on_the_talker_and_names_the_video_last(tmp_path: Path) -> None:
    ended = command.run("demo", "--out", tmp_path / "out", data=tmp_path / "data")
    assert ended.code == 0, ended.err
    video = Path(ended.out.split()[-1])
    assert video.suffix == ".mp4"
    before, after = list(pictures(tmp_path / "out/demo-source.mp4")), list(pictures(video))
    assert len(before) == len(after) == talker.FRAMES
    for index in range(0, talker.FRAMES, 20):
        inside = _face(index)
        assert _delta_e(before[index], after[index])[inside].mean() > LEAST_DELTA_E
    begun = time.monotonic()
    again = command.run("demo", "--out", tmp_path / "out", data=tmp_path / "data")
    assert again.code == 0, again.err
    # What is finished is not made twice: the second run only starts the services and copies.
    assert time.monotonic() - begun < 30
    assert again.out.split()[-1] == str(video)


def _face(index: int) -> NDArray[np.bool_]:
    """Where the talker's face is in a frame of the demo's source."""
    marked = np.zeros((512, 512, 3), np.uint8)
    cv2.ellipse(marked, (224, 116), (30, 42), 0, 0, 360, (255, 255, 255), -1)
    return np.asarray(talker._seen_by_camera(marked, index / talker.FRAMES)[..., 0] > 128)


def _delta_e(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE 1976: distance in L*a*b*."""
    first, second = (cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for rgb in (one, other))
    return np.asarray(np.linalg.norm(first - second, axis=-1), np.float32)


def test_up_names_every_address_says_ready_and_leaves_nothing_when_told_to_stop(tmp_path: Path) -> None:
    process = command.start("up", "--first-port", free_ports(7) + 1, "--metrics", "127.0.0.1:0", data=tmp_path / "data")
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != "ready\n":
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended before it was ready"
    names = [line.split()[0] for line in lines]
    assert names == [*SERVICES, "public", "metrics", "ready"]
    metrics = urllib.request.urlopen(f"http://{lines[-2].split()[1]}/metrics", timeout=5)
    with metrics:
        assert b"# TYPE masquerade_frames_total counter" in metrics.read()
    process.send_signal(signal.SIGTERM)
    ended = command.ended(process, within_s=20)
    assert ended.code == 0
    assert not ended.left_processes
