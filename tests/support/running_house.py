"""The real services in this process, for jobs with a label in every frame: something to render, no model to load."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from masquerade.v1 import compositor_pb2, job_pb2, orchestrator_pb2
from masquerade.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from services.common.settings import ServiceSettings
from services.standalone.data_folder import DataFolder
from services.standalone.mesh import Mesh, running_mesh
from tests.support.job_process import TENANT

SEGMENTS = 4


def spec_of(asset: str, *, segments: int = SEGMENTS) -> job_pb2.JobSpec:
    """A label in every frame."""
    spec = job_pb2.JobSpec(asset_key=asset)
    spec.provenance.label = "survives"
    spec.proof.segments = segments
    spec.proof.plane_digests = True
    return spec


class RunningHouse:
    """The mesh in this process."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.jobs: Any = OrchestratorServiceStub(mesh.channels["orchestrator"])

    async def submit(self, spec: job_pb2.JobSpec, request: str) -> str:
        """A new job's id; one that failed or was cancelled is taken up."""
        asked = orchestrator_pb2.SubmitRequest(tenant=TENANT, request_id=request, spec=spec, retry=True)
        return str((await self.jobs.Submit(asked)).job.id)

    async def ended(self, job: str) -> job_pb2.Job:
        """A job once it has ended."""
        async with asyncio.timeout(40):
            async for _ in self.jobs.Watch(orchestrator_pb2.WatchRequest(id=job)):
                pass
        return await self.fetch(job)

    async def fetch(self, job: str) -> job_pb2.Job:
        """A job as it stands."""
        answer: job_pb2.Job = (await self.jobs.Fetch(orchestrator_pb2.FetchRequest(id=job))).job
        return answer

    async def report(self, job: job_pb2.Job) -> Any:
        """The report of a job that must have succeeded."""
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.failure
        return json.loads(await self.mesh.store.get_bytes(job.report.key))

    async def asset(self, name: str, content: bytes) -> str:
        """Key of a stored input."""
        return (await self.mesh.store.put_bytes(f"{TENANT}/assets/{name}", content)).key

    async def rendered(self, job: str) -> set[str]:
        """Keys of a job's finished segments."""
        prefix = f"{TENANT}/jobs/{job}/render/"
        return {each.key for each in await self.mesh.store.list(prefix) if each.key.endswith(".mkv")}


@contextlib.asynccontextmanager
async def running_house(data: Path) -> AsyncIterator[RunningHouse]:
    """A warm mesh."""
    flags = {"data": str(data), "drain_s": 0.0}
    services = ("ingest", "segmenter", "compositor", "orchestrator")
    with DataFolder(data) as folder:
        async with running_mesh(folder, ServiceSettings.load(flags), flags=flags, services=services) as mesh:
            await mesh.warmed()
            yield RunningHouse(mesh)


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
