"""The client: `AsyncClient` for asyncio, `Client` for everything else; the same methods, the same types.

    from masquerade.client import Client, Consent, JobSpec

    with Client("mesh.example:443", key="msq_...") as client:
        asset = client.assets.upload("talk.mp4")
        job = client.jobs.create(JobSpec(asset_id=asset.id, ...))
        job = client.jobs.wait(job.id)
        client.jobs.download(job, "out.mp4")

Messages are those of the contract (`masquerade.v1`); errors are `ClientError` with the stable reason.
"""

from __future__ import annotations

from masquerade.client.aio import AsyncClient as AsyncClient
from masquerade.client.connection import Access as Access
from masquerade.client.errors import ClientError as ClientError
from masquerade.client.errors import JobFailed as JobFailed
from masquerade.client.sync import Client as Client
from masquerade.v1.asset_pb2 import Asset as Asset
from masquerade.v1.identity_pb2 import Identity as Identity
from masquerade.v1.job_pb2 import Background as Background
from masquerade.v1.job_pb2 import CastRule as CastRule
from masquerade.v1.job_pb2 import Consent as Consent
from masquerade.v1.job_pb2 import ConsentMethod as ConsentMethod
from masquerade.v1.job_pb2 import Job as Job
from masquerade.v1.job_pb2 import JobIdentity as JobIdentity
from masquerade.v1.job_pb2 import JobSpec as JobSpec
from masquerade.v1.job_pb2 import JobState as JobState
from masquerade.v1.job_pb2 import Progress as Progress
