"""A command that is stopped leaves no half file, and goes on where it was (I5)."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.clips import make_clip
from tests.e2e.commands import Ended, ended, left_of, run, start
from tests.support.starter_models import require_weights

FRAMES, SEGMENT = 192, 24
SETTINGS = {"MASQUERADE_ORCHESTRATOR__SEGMENT_FRAMES": str(SEGMENT), "MASQUERADE_PLANE_DIGESTS": "1"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight segments of video."""
    require_weights()
    folder = tmp_path_factory.mktemp("clip")
    return make_clip(folder / "clip.mp4", frames=FRAMES, size=(320, 240), gop=SEGMENT, audio="aac")


def arguments(clip: Path, folder: Path) -> list[str | Path]:
    outputs = ["--report", folder / "report.json", "-o", folder / "out.mp4"]
    return ["transform", clip, "--background", "blur", "--data", folder / "data", *outputs]


def segments(folder: Path) -> dict[str, int]:
    """Finished segments of all jobs in a data folder, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("data/objects/**/render/*-*")}


def once_rendering(process: subprocess.Popen[str], folder: Path, *, finished: int) -> dict[str, int]:
    """Wait until some segments are finished; answers them."""
    until = time.monotonic() + 60
    while len(segments(folder)) < finished:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)
    return segments(folder)


@pytest.fixture(scope="module")
def undisturbed(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the planes of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert_done(run(*arguments(clip, folder), **SETTINGS), folder)
    digest = report_of(folder)["plane_digest"]
    assert isinstance(digest, str)
    return digest


def report_of(folder: Path) -> dict[str, object]:
    report: dict[str, object] = json.loads((folder / "report.json").read_text())
    return report


def assert_done(done: Ended, folder: Path) -> None:
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == str(folder / "out.mp4")
    assert done.left == []
    assert (report_of(folder)["frames_in"], report_of(folder)["frames_out"]) == (FRAMES, FRAMES)


def assert_nothing_half(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"data"}


def test_ctrl_c_leaves_no_half_file_and_the_same_command_keeps_what_was_finished(
    clip: Path, tmp_path: Path, undisturbed: str
) -> None:
    process = start(*arguments(clip, tmp_path), **SETTINGS)
    once_rendering(process, tmp_path, finished=2)
    process.send_signal(signal.SIGINT)
    done = ended(process, within_s=15)
    assert done.code == 130
    assert done.err.strip().splitlines()[-1].startswith("CANCELLED: ")
    assert done.left == []
    assert_nothing_half(tmp_path)
    finished = segments(tmp_path)
    assert_done(run(*arguments(clip, tmp_path), **SETTINGS), tmp_path)
    after = segments(tmp_path)
    assert finished.items() <= after.items(), "finished segments were made again"
    assert report_of(tmp_path)["plane_digest"] == undisturbed


def test_kill_9_loses_no_finished_segment_and_no_process_stays(clip: Path, tmp_path: Path, undisturbed: str) -> None:
    for kill in range(2):
        process = start(*arguments(clip, tmp_path), **SETTINGS)
        once_rendering(process, tmp_path, finished=2 * (kill + 1))
        psutil.Process(process.pid).kill()
        process.communicate()
        assert left_of(process.pid) == []
        assert_nothing_half(tmp_path)
    finished = segments(tmp_path)
    assert_done(run(*arguments(clip, tmp_path), **SETTINGS), tmp_path)
    assert finished.items() <= segments(tmp_path).items(), "finished segments were made again"
    assert report_of(tmp_path)["plane_digest"] == undisturbed


def test_a_second_command_on_the_same_data_folder_is_refused_with_what_to_do(clip: Path, tmp_path: Path) -> None:
    process = start(*arguments(clip, tmp_path), **SETTINGS)
    try:
        once_rendering(process, tmp_path, finished=1)
        other = ["transform", clip, "--background", "#00ff00", "--data", tmp_path / "data", "-o", tmp_path / "b.mp4"]
        done = run(*other, **SETTINGS)
        assert done.code == 2
        assert done.err.startswith("DATA_FOLDER_BUSY: ")
        assert str(process.pid) in done.err
    finally:
        process.kill()
        process.communicate()
