"""One job in a process of its own, for tests that kill it: `python -m tests.support.job_process DATA SPEC`.

SPEC is a JobSpec in JSON whose keys name files: they are put into the store first. Says `running` when the job is
submitted and `warm` services run it; its last line is the report in one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from google.protobuf import json_format

from masquerade.v1 import job_pb2, orchestrator_pb2
from masquerade.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from services.common import child
from services.common.lanes.registry import REGIONS
from services.common.logs import configure_logs
from services.common.settings import ServiceSettings
from services.standalone.data_folder import DataFolder
from services.standalone.mesh import SERVICES, Mesh, running_mesh

TENANT, REQUEST = "local", "the only one"

WITHOUT_MODELS = ("ingest", "compositor", "orchestrator")
"""Enough for a job that looks at nothing; each start of a process that loads no models saves seconds."""


async def run(data: Path, spec: job_pb2.JobSpec) -> None:
    """Submit the job, or take it up, and wait for its end."""
    flags = {"data": str(data), "drain_s": 0.0}
    services = SERVICES if spec.identities or spec.background.kind else WITHOUT_MODELS
    with DataFolder(data) as folder:
        async with running_mesh(folder, ServiceSettings.load(flags), flags=flags, services=services) as mesh:
            await mesh.warmed()
            await _job(mesh, spec)
    await asyncio.to_thread(child.close_nursery)
    REGIONS.close()


async def _job(mesh: Mesh, spec: job_pb2.JobSpec) -> None:
    source = Path(spec.asset_key)
    spec.asset_key = f"{TENANT}/assets/{source.name}"
    await mesh.store.put_file(spec.asset_key, source)
    stub = OrchestratorServiceStub(mesh.channels["orchestrator"])
    job = (await stub.Submit(orchestrator_pb2.SubmitRequest(tenant=TENANT, request_id=REQUEST, spec=spec))).job
    print("running", flush=True)
    async for _ in stub.Watch(orchestrator_pb2.WatchRequest(id=job.id)):
        pass
    job = (await stub.Fetch(orchestrator_pb2.FetchRequest(id=job.id))).job
    if job.state != job_pb2.JOB_STATE_SUCCEEDED:
        raise SystemExit(f"{job_pb2.JobState.Name(job.state)}: {job.failure.message}")
    print(json.dumps(json.loads(await mesh.store.get_bytes(job.report.key))), flush=True)


if __name__ == "__main__":
    configure_logs(service="job", level="INFO")
    asyncio.run(run(Path(sys.argv[1]), json_format.Parse(sys.argv[2], job_pb2.JobSpec())))
