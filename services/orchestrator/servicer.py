"""The inner door to jobs: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

from grpc.aio import Server, ServicerContext

from masquerade.v1 import orchestrator_pb2 as pb
from masquerade.v1 import orchestrator_pb2_grpc
from services.common.access.callers import LOCAL
from services.orchestrator import asking, convert
from services.orchestrator.jobs import Jobs

SERVICE: Final = pb.DESCRIPTOR.services_by_name["OrchestratorService"].full_name
"""Full name, for health."""

Context: TypeAlias = ServicerContext[Any, Any]


class OrchestratorServicer(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Runs jobs durably. Never touches a pixel: it passes keys."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def add_to(self, server: Server) -> None:
        """Answer on this server."""
        orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server(self, server)

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        """Accept a job."""
        new = asking.inner(convert.spec_json(request.spec), tenant=request.tenant, request_id=request.request_id)
        return pb.SubmitResponse(job=convert.job(await self._jobs.create(new, retry=request.retry)))

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> pb.FetchResponse:
        """One job."""
        return pb.FetchResponse(job=convert.job(await self._jobs.get(request.id)))

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """Progress as it happens."""
        async for snapshot in self._jobs.watch(request.id, from_sequence=request.from_sequence):
            yield pb.WatchResponse(progress=convert.progress(snapshot))

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:
        """Stop a job."""
        view = await self._jobs.cancel(request.id, tenant=None, actor=LOCAL.actor)
        return pb.CancelResponse(job=convert.job(view))

    async def Delete(self, request: pb.DeleteRequest, context: Context) -> pb.DeleteResponse:
        """Delete a job that has ended."""
        await self._jobs.delete(request.id, tenant=None, actor=LOCAL.actor)
        return pb.DeleteResponse()
