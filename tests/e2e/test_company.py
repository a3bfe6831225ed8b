"""Several commands on one data folder: the first owns it, the others work in there with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clips import make_clip
from tests.e2e import command
from tests.e2e.ports import free_ports
from tests.support.starter_models import require_weights

FRAMES = 192
SEGMENTS = {"MASQUERADE_ORCHESTRATOR__SEGMENT_FRAMES": "32", "MASQUERADE_ORCHESTRATOR__SEGMENTS_AT_ONCE": "1"}


@pytest.fixture(autouse=True)
def _with_models() -> None:
    require_weights()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=FRAMES, audio="aac")


def transform(clip: Path, out: Path, data: Path) -> subprocess.Popen[str]:
    """Started, not waited for."""
    report = out.with_suffix(".json")
    options = ("--background", "blur", "--report", report, "-o", out)
    return command.start("transform", clip, *options, data=data, **SEGMENTS)


def wait_for(is_so: Callable[[], object], *processes: subprocess.Popen[str], within_s: float = 40.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert all(process.poll() is None for process in processes), "one ended too early"
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def rendered(data: Path) -> dict[str, int]:
    """Finished segments of each job."""
    jobs = {job.name: len(list(job.glob("render/*.mkv"))) for job in data.glob("objects/local/jobs/*")}
    return {job: count for job, count in jobs.items() if count}


def times_rendered(data: Path, job: str) -> int:
    """How often a segment of a job was rendered, in all processes."""
    lines = [json.loads(line) for line in (data / "masquerade.log").read_text().splitlines()]
    return sum(line.get("message") == "segment rendered" and line.get("job") == job for line in lines)


def report_of(out: Path) -> Any:
    return json.loads(out.with_suffix(".json").read_text())


@pytest.mark.slow
def test_two_commands_at_once_both_finish_in_one_house(tmp_path: Path, clip: Path) -> None:
    data, one, two = tmp_path / "data", tmp_path / "one.mp4", tmp_path / "two.mp4"
    first = transform(clip, one, data)
    second = transform(clip, two, data)
    ends = [command.ended(first), command.ended(second)]
    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    assert [report_of(out)["frames_out"] for out in (one, two)] == [FRAMES, FRAMES]
    assert report_of(one)["job"] != report_of(two)["job"]
    assert not any(end.left_processes for end in ends)
    assert not (data / "door.json").exists()


def test_a_command_beside_up_is_its_guest(tmp_path: Path, clip: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out.mp4"
    up = command.start("up", "--first-port", free_ports(7) + 1, "--metrics", "127.0.0.1:0", data=data)
    try:
        wait_for((data / "door.json").exists, up)
        guest = command.ended(transform(clip, out, data))
    finally:
        up.terminate()
        ended = command.ended(up, within_s=20)
    assert guest.code == 0, guest.err
    assert report_of(out)["frames_out"] == FRAMES
    assert ended.code == 0, ended.err


@pytest.mark.slow
def test_a_guest_takes_over_when_its_host_is_killed(tmp_path: Path, clip: Path) -> None:
    data, one, two = tmp_path / "data", tmp_path / "one.mp4", tmp_path / "two.mp4"
    host = transform(clip, one, data)
    wait_for(lambda: rendered(data), host)
    guest = transform(clip, two, data)
    wait_for(lambda: len(rendered(data)) == 2, host, guest)
    os.killpg(host.pid, signal.SIGKILL)
    host.communicate()
    ended = command.ended(guest)
    assert ended.code == 0, ended.err
    assert report_of(two)["frames_out"] == FRAMES
    again = command.ended(transform(clip, one, data))
    assert again.code == 0, again.err
    assert report_of(one)["frames_out"] == FRAMES
    for out in (one, two):
        # One segment is in flight at a time, and one kill was there.
        assert FRAMES // 32 <= times_rendered(data, report_of(out)["job"]) <= FRAMES // 32 + 1


def test_a_host_that_is_told_to_stop_lets_its_guest_finish(tmp_path: Path, clip: Path) -> None:
    data, one, two = tmp_path / "data", tmp_path / "one.mp4", tmp_path / "two.mp4"
    host = transform(clip, one, data)
    wait_for(lambda: rendered(data), host)
    guest = transform(clip, two, data)
    wait_for(lambda: len(rendered(data)) == 2, host, guest)
    host.send_signal(signal.SIGINT)
    ended, left = command.ended(guest), command.ended(host)
    assert ended.code == 0, ended.err
    assert left.code == 130
    assert not one.exists()
    assert report_of(two)["frames_out"] == FRAMES
    assert not left.left_processes


@pytest.mark.slow
def test_a_host_that_is_told_twice_leaves_at_once_and_the_guest_goes_on_alone(tmp_path: Path, clip: Path) -> None:
    data, one, two = tmp_path / "data", tmp_path / "one.mp4", tmp_path / "two.mp4"
    host = transform(clip, one, data)
    wait_for(lambda: rendered(data), host)
    guest = transform(clip, two, data)
    wait_for(lambda: len(rendered(data)) == 2, host, guest)
    host.send_signal(signal.SIGINT)
    time.sleep(1.0)
    host.send_signal(signal.SIGINT)
    command.ended(host, within_s=10)
    ended = command.ended(guest)
    assert ended.code == 0, ended.err
    assert report_of(two)["frames_out"] == FRAMES
