"""The public door to jobs: whoever calls sees the jobs of its own tenant, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias

from grpc.aio import Server, ServicerContext

from masquerade.v1 import job_pb2 as pb
from masquerade.v1 import job_pb2_grpc
from services.common.access.callers import current_caller
from services.orchestrator import convert
from services.orchestrator.describing import Description
from services.orchestrator.door import convert as door
from services.orchestrator.door.requests import Requests
from services.orchestrator.jobs import Jobs

SERVICE: Final = pb.DESCRIPTOR.services_by_name["JobService"].full_name
"""Full name, for health."""

Context: TypeAlias = ServicerContext[Any, Any]


class JobServicer(job_pb2_grpc.JobServiceServicer):
    """Jobs of the caller's tenant."""

    def __init__(self, jobs: Jobs, requests: Requests, *, described: Callable[[], Awaitable[Description]]) -> None:
        """Args:
        jobs: what can be done with them.
        requests: accepts new ones.
        described: what can be asked for.
        """
        self._jobs, self._requests, self._described = jobs, requests, described

    def add_to(self, server: Server) -> None:
        """Answer on this server."""
        job_pb2_grpc.add_JobServiceServicer_to_server(self, server)

    async def CreateJob(self, request: pb.CreateJobRequest, context: Context) -> pb.CreateJobResponse:
        """Accept a job."""
        asked = convert.spec_json(request.spec)
        view = await self._requests.create(asked, caller=current_caller(), request_id=request.request_id)
        return pb.CreateJobResponse(job=convert.job(view))

    async def RerenderJob(self, request: pb.RerenderJobRequest, context: Context) -> pb.RerenderJobResponse:
        """Accept a job that uses the Timeline of another one."""
        asked = convert.spec_json(request.spec)
        view = await self._requests.rerender(request.id, asked, caller=current_caller(), request_id=request.request_id)
        return pb.RerenderJobResponse(job=convert.job(view))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """One job."""
        view = await self._jobs.get(request.id, tenant=current_caller().tenant)
        return pb.GetJobResponse(job=convert.job(view))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Jobs, newest first."""
        views, following = await self._jobs.list(
            current_caller().tenant, door.wanted(request), page_size=request.page_size, token=request.page_token
        )
        return pb.ListJobsResponse(jobs=[convert.job(view, is_brief=True) for view in views], next_page_token=following)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """Stop a job."""
        caller = current_caller()
        view = await self._jobs.cancel(request.id, tenant=caller.tenant, actor=caller.actor)
        return pb.CancelJobResponse(job=convert.job(view))

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        """Take up a job that failed or was cancelled."""
        caller = current_caller()
        view = await self._jobs.retry(request.id, tenant=caller.tenant, actor=caller.actor)
        return pb.RetryJobResponse(job=convert.job(view))

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Context) -> pb.DeleteJobResponse:
        """Remove a job and all that belongs to it."""
        caller = current_caller()
        await self._jobs.delete(request.id, tenant=caller.tenant, actor=caller.actor)
        return pb.DeleteJobResponse()

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        """Progress as it happens."""
        watched = self._jobs.watch(request.id, tenant=current_caller().tenant, from_sequence=request.from_sequence)
        async for snapshot in watched:
            yield pb.WatchJobResponse(progress=convert.progress(snapshot))

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        """What can be asked for."""
        return door.description(await self._described())
