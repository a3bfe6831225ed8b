"""Invariant I5: kill -9 at any moment loses no job and no finished segment; nor does cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format

from masquerade.v1 import compositor_pb2, errors_pb2, job_pb2, orchestrator_pb2
from tests.clips import make_clip
from tests.support.processes import MARK, gone_within, marked, shared_memory
from tests.support.running_house import SEGMENTS, RunningHouse, renders_in_flight, running_house, spec_of, until

FRAMES = 128
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough that a segment takes some tenths of a second."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=FRAMES, size=(640, 480), audio="aac")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHouse]:
    """One warm mesh for the jobs of this module."""
    async with running_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(house: RunningHouse, clip: Path) -> str:
    """The digest of all planes, of a job that nobody disturbed."""
    spec = spec_of(await house.asset("undisturbed", clip.read_bytes()))
    report = await house.report(await house.ended(await house.submit(spec, "undisturbed")))
    assert (report["frames_in"], report["frames_out"]) == (FRAMES, FRAMES)
    return str(report["plane_digest"])


class Victim:
    """A job in a process of its own, killed and started again as often as a test likes."""

    def __init__(self, data: Path, spec: job_pb2.JobSpec) -> None:
        self.mark = uuid.uuid4().hex
        self._data, self._spec = data, json_format.MessageToJson(spec)
        self._starts = 0

    def start(self) -> subprocess.Popen[str]:
        self._starts += 1
        with (self._data.parent / f"log{self._starts}").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.support.job_process", str(self._data), self._spec],
                cwd=REPOSITORY,
                env={**os.environ, MARK: self.mark},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def killed_when(self, is_time: Callable[[], bool]) -> None:
        """Start it, kill it when it is time, and see that nothing of it stays."""
        process = self.start()
        until = time.monotonic() + 40
        while not is_time():
            assert time.monotonic() < until, "its time never came"
            assert process.poll() is None, self.log()
            time.sleep(0.003)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert gone_within(self.mark, seconds=5), f"left behind: {marked(self.mark)}"

    def finished(self) -> Any:
        """Start it and let it end; its report."""
        out, _ = self.start().communicate(timeout=50)
        assert out.count("\n") == 2, self.log()
        assert gone_within(self.mark, seconds=5), f"left behind: {marked(self.mark)}"
        return json.loads(out.splitlines()[1])

    def renders(self) -> int:
        """How many segments were rendered, in all its lives."""
        logs = [path.read_text() for path in self._data.parent.glob("log*")]
        return sum(log.count('"message": "segment rendered"') for log in logs)

    def log(self) -> str:
        """What the last start had to say."""
        return (self._data.parent / f"log{self._starts}").read_text()

    def rendered(self) -> set[str]:
        """Names of the segments that are in the store."""
        return {path.name for path in self._data.glob("objects/*/jobs/*/render/*.mkv")}

    def has_begun(self) -> bool:
        """Whether a segment is being rendered."""
        return any(self._data.glob("scratch/compositor/segment-*"))


@pytest.mark.timeout(120)
def test_kill_9_while_rendering_loses_no_finished_segment(clip: Path, tmp_path: Path, undisturbed: str) -> None:
    before = shared_memory()
    victim = Victim(tmp_path / "data", spec_of(str(clip)))
    victim.killed_when(victim.has_begun)
    victim.killed_when(lambda: len(victim.rendered()) >= 1)
    victim.killed_when(lambda: len(victim.rendered()) >= 3)
    kept = victim.rendered()
    report = victim.finished()
    assert report["plane_digest"] == undisturbed
    assert report["frames_out"] == FRAMES
    assert kept <= victim.rendered(), "a finished segment is under another name now"
    again = victim.log().count('"message": "segment rendered"')
    assert again == SEGMENTS - len(kept), f"{again} segments were rendered when {SEGMENTS - len(kept)} were missing"
    assert not shared_memory() - before
    assert not list((tmp_path / "data" / "scratch").rglob("*.*"))


@pytest.mark.soak
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(3))
def test_kill_9_at_any_moment_loses_nothing(clip: Path, tmp_path: Path, undisturbed: str, seed: int) -> None:
    chance = random.Random(seed)
    victim = Victim(tmp_path / "data", spec_of(str(clip)))
    for _ in range(4):
        moment = time.monotonic() + chance.uniform(0.5, 8)
        kept = victim.rendered()
        process = victim.start()
        while time.monotonic() < moment and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert gone_within(victim.mark, seconds=5)
        assert kept <= victim.rendered()
    assert victim.finished()["plane_digest"] == undisturbed


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.asyncio(loop_scope="module")
async def test_ten_kills_of_a_job_of_twenty_segments_lose_nothing(house: RunningHouse, tmp_path: Path) -> None:
    segments, kills, chance = 20, 10, random.Random(11)
    long = make_clip(tmp_path / "long.mp4", frames=480, size=(640, 480), audio="aac")
    spec = spec_of(await house.asset("long", long.read_bytes()), segments=segments)
    calm = await house.report(await house.ended(await house.submit(spec, "long")))
    victim = Victim(tmp_path / "data", spec_of(str(long), segments=segments))

    def ten_kills() -> Any:
        for kill in range(kills):
            wanted, extra_s = kill * (segments - 2) // kills, chance.uniform(0, 0.6)
            begun: list[float] = []

            def is_time(wanted: int = wanted, extra_s: float = extra_s, begun: list[float] = begun) -> bool:
                if not begun and len(victim.rendered()) >= wanted and victim.has_begun():
                    begun.append(time.monotonic())
                return bool(begun) and time.monotonic() - begun[0] >= extra_s

            kept = victim.rendered()
            victim.killed_when(is_time)
            assert kept <= victim.rendered(), "a finished segment is gone"
        return victim.finished()

    report = await asyncio.to_thread(ten_kills)
    assert report["plane_digest"] == calm["plane_digest"]
    again = victim.renders() - segments
    print(f"{kills} kills of {segments} segments: {again} finished segments were rendered again")
    # A segment whose end was logged, and whose process was killed before it was in the store.
    assert again <= kills * 2


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cancelled_job_stops_within_two_seconds_and_goes_on_from_there(
    house: RunningHouse, clip: Path, undisturbed: str
) -> None:
    spec = spec_of(await house.asset("cancelled", clip.read_bytes()))
    job = await house.submit(spec, "cancelled")

    async def finished() -> set[str]:
        return await house.rendered(job)

    async def nothing_renders() -> bool:
        return not renders_in_flight()

    await until(finished, seconds=30)
    answer = (await house.jobs.Cancel(orchestrator_pb2.CancelRequest(id=job))).job
    assert answer.state == job_pb2.JOB_STATE_CANCELLED
    await until(nothing_renders, seconds=2)
    kept = await finished()
    assert 1 <= len(kept) < SEGMENTS, "cancelled too late to prove anything"
    await asyncio.sleep(0.5)
    assert await finished() == kept, "a segment that had not begun was rendered"
    assert await house.submit(spec, "cancelled") == job
    report = await house.report(await house.ended(job))
    assert report["segments_reused"] == len(kept)
    assert report["plane_digest"] == undisturbed


@pytest.mark.asyncio(loop_scope="module")
async def test_a_job_that_cannot_succeed_says_why_and_harms_no_other(
    house: RunningHouse, clip: Path, undisturbed: str
) -> None:
    asset = await house.asset("both", clip.read_bytes())
    poisoned = spec_of(asset)
    poisoned.background.kind = compositor_pb2.BACKGROUND_KIND_IMAGE
    poisoned.background.asset_key = await house.asset("words", b"these are words")
    poison = await house.submit(poisoned, "poison")
    other = await house.submit(spec_of(asset), "beside the poison")
    failed, well = await asyncio.gather(house.ended(poison), house.ended(other))
    assert failed.state == job_pb2.JOB_STATE_FAILED
    assert errors_pb2.Reason.Name(failed.failure.reason) == "REASON_NOT_AN_IMAGE"
    assert (failed.failure.stage, bool(failed.failure.remedy)) == ("rendering", True)
    assert (await house.report(well))["plane_digest"] == undisturbed


@pytest.mark.asyncio(loop_scope="module")
async def test_frames_move_within_a_segment_and_only_forward(house: RunningHouse, clip: Path) -> None:
    spec = spec_of(await house.asset("watched", clip.read_bytes()))
    spec.proof.segments = 1
    job = await house.submit(spec, "watched")
    seen = [message.progress async for message in house.jobs.Watch(orchestrator_pb2.WatchRequest(id=job))]
    rendering = [each.frames_done for each in seen if each.state == job_pb2.JOB_STATE_RENDERING]
    assert any(0 < frames < FRAMES for frames in rendering), rendering
    assert rendering == sorted(rendering)
    assert all(each.frames_done <= each.frames_total or not each.frames_total for each in seen)
    assert [each.sequence for each in seen] == sorted(each.sequence for each in seen)
    assert seen[-1].state == job_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("how", ["corrupt", "missing"])
async def test_a_segment_that_is_spoilt_in_the_store_is_found_and_rendered_again(
    house: RunningHouse, clip: Path, undisturbed: str, how: str
) -> None:
    spec = spec_of(await house.asset(how, clip.read_bytes()))
    job = await house.submit(spec, how)

    async def one_is_finished() -> bool:
        return bool(await house.rendered(job))

    await until(one_is_finished, seconds=30)
    key = min(await house.rendered(job))
    async with house.mesh.store.local_path(key) as path:
        whole = path.read_bytes()
        if how == "missing":
            path.unlink()
        else:
            path.chmod(0o600)
            with path.open("r+b") as file:
                file.seek(len(whole) // 2)
                file.write(bytes([whole[len(whole) // 2] ^ 1]))
    assert (await house.fetch(job)).state <= job_pb2.JOB_STATE_RENDERING, "spoilt too late to prove anything"
    report = await house.report(await house.ended(job))
    assert report["plane_digest"] == undisturbed
    assert report["frames_out"] == FRAMES
    assert await house.mesh.store.get_bytes(key), "it is whole again"
    assert len(await house.rendered(job)) == SEGMENTS


@contextlib.contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[None]:
    """A disk of so many KiB at a folder, for as long as the block lasts."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_full_scratch_disk_fails_the_job_that_fills_it_and_no_other(
    house: RunningHouse, clip: Path, tmp_path: Path
) -> None:
    scratch = house.mesh.folder.scratch / "compositor"
    little = make_clip(tmp_path / "little.mp4", frames=16, size=(64, 48))
    much = spec_of(await house.asset("much", clip.read_bytes()))
    much.encode.crf = 1
    small = spec_of(await house.asset("little", little.read_bytes()), segments=1)
    with small_disk(scratch, 768):
        filling = await house.submit(much, "much")
        beside = await house.submit(small, "little")
        failed, well = await asyncio.gather(house.ended(filling), house.ended(beside))
        assert failed.state == job_pb2.JOB_STATE_FAILED
        assert errors_pb2.Reason.Name(failed.failure.reason) == "REASON_NO_SPACE", failed.failure
        assert failed.failure.remedy
        assert (await house.report(well))["frames_out"] == 16
        assert not list(scratch.iterdir()), "what the failed job wrote is still there"
    # With room again the same request goes on.
    assert await house.submit(much, "much") == filling
    assert (await house.report(await house.ended(filling)))["frames_out"] == FRAMES
