"""The public door for bytes: convert, call, convert. The tenant is the caller's, and never in a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final, TypeAlias

from grpc.aio import Server, ServicerContext

from masquerade.v1 import asset_pb2 as pb
from masquerade.v1 import asset_pb2_grpc
from services.common.access.callers import current_caller
from services.common.errors import InvalidSpec, MasqueradeError, Violation
from services.ingest.assets import convert
from services.ingest.assets.downloads import Downloads
from services.ingest.assets.library import Library
from services.ingest.assets.uploads import Upload, Uploads

Context: TypeAlias = ServicerContext[Any, Any]

SERVICE: Final = pb.DESCRIPTOR.services_by_name["AssetService"].full_name
"""Full name, for health."""

GRACE_S: Final = 2.0
"""How long a caller may take to close its side before it is told that it is refused."""


class AssetServicer(asset_pb2_grpc.AssetServiceServicer):
    """Stored inputs of the caller's tenant. Nothing is known here that another replica does not know."""

    def __init__(self, uploads: Uploads, downloads: Downloads, library: Library, *, kept_ms: int) -> None:
        self._uploads = uploads
        self._downloads = downloads
        self._library = library
        self._kept_ms = kept_ms

    def add_to(self, server: Server) -> None:
        """Answer on this server."""
        asset_pb2_grpc.add_AssetServiceServicer_to_server(self, server)

    async def UploadAsset(
        self, request_iterator: AsyncIterator[pb.UploadAssetRequest], context: Context
    ) -> pb.UploadAssetResponse:
        try:
            with self._uploads.stream():
                return convert.upload(await self._uploaded(request_iterator), kept_ms=self._kept_ms)
        except MasqueradeError:
            await _until_closed(request_iterator)
            raise

    async def DownloadAsset(
        self, request: pb.DownloadAssetRequest, context: Context
    ) -> AsyncIterator[pb.DownloadAssetResponse]:
        tenant = current_caller().tenant
        pieces = self._downloads.read(tenant, request.id, offset=request.offset, length=request.length)
        async with aclosing(pieces):
            async for piece in pieces:
                yield convert.piece(piece)

    async def GetAsset(self, request: pb.GetAssetRequest, context: Context) -> pb.GetAssetResponse:
        found = await self._library.get(current_caller().tenant, request.id)
        return pb.GetAssetResponse(asset=convert.asset(found, kept_ms=self._kept_ms))

    async def ListAssets(self, request: pb.ListAssetsRequest, context: Context) -> pb.ListAssetsResponse:
        tenant = current_caller().tenant
        found = await self._library.list(tenant, page_size=request.page_size, page_token=request.page_token)
        return convert.page(found, kept_ms=self._kept_ms)

    async def DeleteAsset(self, request: pb.DeleteAssetRequest, context: Context) -> pb.DeleteAssetResponse:
        caller = current_caller()
        await self._library.delete(caller.tenant, request.id, actor=caller.actor)
        return pb.DeleteAssetResponse()

    async def _uploaded(self, requests: AsyncIterator[pb.UploadAssetRequest]) -> Upload:
        upload: Upload | None = None
        async for request in requests:
            step = request.WhichOneof("step")
            if upload is None:
                if step != "begin":
                    break
                upload = await self._begun(request.begin)
            elif step == "chunk":
                await upload.add(request.chunk.offset, request.chunk.chunk)
            elif step == "finish":
                await upload.finish(request.finish.digest)
                return upload
            else:
                problem = "an upload is begun once" if step == "begin" else "is empty"
                raise InvalidSpec(violations=[Violation(step or "step", problem)])
        if upload is None:
            raise InvalidSpec(violations=[Violation("step", "a stream begins with begin")])
        return upload

    async def _begun(self, begin: pb.UploadBegin) -> Upload:
        caller = current_caller()
        return await self._uploads.begin(
            caller.tenant, caller.actor, name=begin.name, upload_id=begin.upload_id, size_bytes=begin.size_bytes
        )


async def _until_closed(requests: AsyncIterator[pb.UploadAssetRequest]) -> None:
    """Drop what the caller still says. gRPC's asyncio client puts "Internal error from Core" in place of a status that
    arrives while one of its messages is on the way (seen in every call that wrote by itself, in one of seven that gave
    an iterator)."""
    try:
        async with asyncio.timeout(GRACE_S):
            async for _ in requests:
                continue
    except TimeoutError:
        # It has much to say, or hangs. It may lose the reason, but asking how far the upload is will tell it.
        return
