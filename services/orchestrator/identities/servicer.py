"""The public door to identities: convert, call, convert."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from grpc.aio import Server, ServicerContext

from masquerade.v1 import identity_pb2 as pb
from masquerade.v1 import identity_pb2_grpc
from services.common.access.callers import current_caller
from services.orchestrator.identities import convert
from services.orchestrator.identities.people import People

SERVICE: Final = pb.DESCRIPTOR.services_by_name["IdentityService"].full_name
"""Full name, for health."""

Context: TypeAlias = ServicerContext[Any, Any]


class IdentityServicer(identity_pb2_grpc.IdentityServiceServicer):
    """Faces to put on, each with the consent by which it is used. Whose they are says the caller's key alone."""

    def __init__(self, people: People) -> None:
        self._people = people

    def add_to(self, server: Server) -> None:
        """Answer on this server."""
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(self, server)

    async def CreateIdentity(self, request: pb.CreateIdentityRequest, context: Context) -> pb.CreateIdentityResponse:
        """Enrol portraits."""
        row = await self._people.create(convert.identity_request(request), current_caller())
        return pb.CreateIdentityResponse(identity=convert.identity(row))

    async def GetIdentity(self, request: pb.GetIdentityRequest, context: Context) -> pb.GetIdentityResponse:
        """One identity."""
        return pb.GetIdentityResponse(identity=convert.identity(await self._people.get(request.id, current_caller())))

    async def ListIdentities(self, request: pb.ListIdentitiesRequest, context: Context) -> pb.ListIdentitiesResponse:
        """Identities, newest first."""
        found = await self._people.list(
            page_size=request.page_size, page_token=request.page_token, caller=current_caller()
        )
        return convert.page(found)

    async def DeleteIdentity(self, request: pb.DeleteIdentityRequest, context: Context) -> pb.DeleteIdentityResponse:
        """Erase a face everywhere."""
        await self._people.delete(request.id, current_caller())
        return pb.DeleteIdentityResponse()

    async def RevokeConsent(self, request: pb.RevokeConsentRequest, context: Context) -> pb.RevokeConsentResponse:
        """Withdraw a consent."""
        row = await self._people.revoke(request.id, current_caller())
        return pb.RevokeConsentResponse(identity=convert.identity(row))
