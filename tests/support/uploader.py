"""Uploads a file as a client would that may be killed at any moment: asks how far it is, goes on from there.

    python -m tests.support.uploader TARGET FILE

prints the bytes it was told are confirmed before it went on, and then the asset's digest, each on a line.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio

from masquerade.v1 import asset_pb2 as pb
from masquerade.v1.asset_pb2_grpc import AssetServiceStub

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 300


async def main(target: str, path: Path) -> None:
    """Upload it whole, or what is missing of it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    begin = pb.UploadAssetRequest(
        begin=pb.UploadBegin(name=path.name, upload_id="large", size_bytes=path.stat().st_size)
    )

    async def only() -> AsyncIterator[pb.UploadAssetRequest]:
        yield begin

    async def steps(confirmed: int) -> AsyncIterator[pb.UploadAssetRequest]:
        yield begin
        with path.open("rb") as file:
            file.seek(confirmed)
            offset = confirmed
            while content := file.read(CHUNK_BYTES):
                yield pb.UploadAssetRequest(chunk=pb.UploadChunk(offset=offset, chunk=content))
                offset += len(content)
        yield pb.UploadAssetRequest(finish=pb.UploadFinish(digest=digest))

    async with grpc.aio.insecure_channel(target) as channel:
        stub = AssetServiceStub(channel)
        asked = await stub.UploadAsset(only(), timeout=TIMEOUT_S)
        print(asked.confirmed_bytes, flush=True)
        answer = await stub.UploadAsset(steps(asked.confirmed_bytes), timeout=TIMEOUT_S)
        print(answer.asset.digest, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
