"""Jobs through the whole mesh, as the command runs them; models loaded and services started outside the measurement."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from masquerade.v1 import compositor_pb2, job_pb2, orchestrator_pb2, orchestrator_pb2_grpc
from services.common.settings import ServiceSettings
from services.standalone.data_folder import DataFolder
from services.standalone.mesh import Mesh, running_mesh

TENANT = "local"


@asynccontextmanager
async def bench_mesh(data: Path) -> AsyncIterator[Mesh]:
    """A warm mesh over a data folder of its own."""
    flags = {"data": str(data)}
    with DataFolder(data) as folder:
        async with running_mesh(folder, ServiceSettings.load(flags), flags=flags) as mesh:
            await mesh.warmed()
            await mesh.runtime.ready(["blazeface_short", "blazeface_full", "facemesh", "selfie"])
            yield mesh


async def transform(mesh: Mesh, source: Path, *, portrait: Path | None, background: Path | None) -> int:
    """One job from its submission to its artifact.

    Returns:
        Frames of the result.

    Raises:
        RuntimeError: the job did not succeed.
    """
    spec = job_pb2.JobSpec(asset_key=await _asset(mesh, source))
    if portrait:
        face = spec.identities.add(name="face", portrait_keys=[await _asset(mesh, portrait)])
        face.portrait_names.append(portrait.name)
        face.consent.method = job_pb2.CONSENT_METHOD_SELF
    if background:
        spec.background.kind = compositor_pb2.BACKGROUND_KIND_IMAGE
        spec.background.asset_key = await _asset(mesh, background)
    orchestrator = orchestrator_pb2_grpc.OrchestratorServiceStub(mesh.channels["orchestrator"])
    request = orchestrator_pb2.SubmitRequest(tenant=TENANT, request_id=uuid.uuid4().hex, spec=spec)
    job = (await orchestrator.Submit(request)).job
    async for _ in orchestrator.Watch(orchestrator_pb2.WatchRequest(id=job.id)):
        await asyncio.sleep(0)
    job = (await orchestrator.Fetch(orchestrator_pb2.FetchRequest(id=job.id))).job
    if job.state != job_pb2.JOB_STATE_SUCCEEDED:
        raise RuntimeError(f"the job ended as {job_pb2.JobState.Name(job.state)}: {job.failure.message}")
    return int(job.timeline.frames or job.progress.frames_total)


async def _asset(mesh: Mesh, path: Path) -> str:
    """Stored once under a name of its own; later jobs find it."""
    key = f"{TENANT}/assets/bench-{path.stem}"
    if await mesh.store.stat(key) is None:
        await mesh.store.put_file(key, path)
    return key
