"""Invariant I5: kill -9 at any moment loses no job and no finished segment; nor does cancelling."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format
from prometheus_client import REGISTRY

from masquerade.v1 import compositor_pb2, errors_pb2, job_pb2, orchestrator_pb2
from masquerade.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from services.common.settings import ServiceSettings
from services.standalone.data_folder import DataFolder
from services.standalone.mesh import Mesh, running_mesh
from tests.clips import make_clip
from tests.support.job_process import TENANT
from tests.support.processes import MARK, gone_within, marked, shared_memory

SEGMENTS, FRAMES = 4, 128
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough that a segment takes some tenths of a second."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=FRAMES, size=(640, 480), audio="aac")


def spec_of(asset: str) -> job_pb2.JobSpec:
    """A label in every frame, so that there is something to render and no model to load."""
    spec = job_pb2.JobSpec(asset_key=asset)
    spec.provenance.label = "survives"
    spec.proof.segments = SEGMENTS
    spec.proof.plane_digests = True
    return spec


class House:
    """The mesh in this process, for jobs that nobody kills."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.jobs: Any = OrchestratorServiceStub(mesh.channels["orchestrator"])

    async def submit(self, spec: job_pb2.JobSpec, request: str) -> str:
        asked = orchestrator_pb2.SubmitRequest(tenant=TENANT, request_id=request, spec=spec, retry=True)
        return str((await self.jobs.Submit(asked)).job.id)

    async def ended(self, job: str) -> job_pb2.Job:
        async with asyncio.timeout(40):
            async for _ in self.jobs.Watch(orchestrator_pb2.WatchRequest(id=job)):
                pass
        return await self.fetch(job)

    async def fetch(self, job: str) -> job_pb2.Job:
        answer: job_pb2.Job = (await self.jobs.Fetch(orchestrator_pb2.FetchRequest(id=job))).job
        return answer

    async def report(self, job: job_pb2.Job) -> Any:
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.failure
        return json.loads(await self.mesh.store.get_bytes(job.report.key))

    async def asset(self, name: str, content: bytes) -> str:
        return (await self.mesh.store.put_bytes(f"{TENANT}/assets/{name}", content)).key


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One warm mesh for the jobs of this module."""
    data = tmp_path_factory.mktemp("house")
    flags = {"data": str(data), "drain_s": 0.0}
    services = ("ingest", "segmenter", "compositor", "orchestrator")
    with DataFolder(data) as folder:
        async with running_mesh(folder, ServiceSettings.load(flags), flags=flags, services=services) as mesh:
            await mesh.warmed()
            yield House(mesh)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(house: House, clip: Path) -> str:
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


async def until(is_so: Callable[[], Awaitable[object]], *, seconds: float) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(seconds):
        while True:
            if await is_so():
                return
            await asyncio.sleep(0.005)


def renders_in_flight() -> float:
    """RenderSegment calls that this process is serving."""
    name = {
        "grpc_type": "unary",
        "grpc_service": compositor_pb2.DESCRIPTOR.services_by_name["CompositorService"].full_name,
    }
    started = ended = 0.0
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            if sample.labels.get("grpc_method") != "RenderSegment" or not name.items() <= sample.labels.items():
                continue
            started += sample.value * (sample.name == "grpc_server_started_total")
            ended += sample.value * (sample.name == "grpc_server_handled_total")
    return started - ended


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cancelled_job_stops_within_two_seconds_and_goes_on_from_there(
    house: House, clip: Path, undisturbed: str
) -> None:
    spec = spec_of(await house.asset("cancelled", clip.read_bytes()))
    job = await house.submit(spec, "cancelled")
    prefix = f"{TENANT}/jobs/{job}/render/"

    async def finished() -> set[str]:
        return {each.key for each in await house.mesh.store.list(prefix) if each.key.endswith(".mkv")}

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
    house: House, clip: Path, undisturbed: str
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
async def test_frames_move_within_a_segment_and_only_forward(house: House, clip: Path) -> None:
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
