"""Files to and from the mesh: in chunks, taken up where they broke off, checked by their digest."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from masquerade.client.calls import Calls, Patience
from masquerade.client.errors import ClientError
from masquerade.v1 import asset_pb2
from masquerade.v1.asset_pb2_grpc import AssetServiceStub

CHUNK_BYTES: Final = 512 << 10

Advance = Callable[[int, int], None]
"""Told of bytes done and bytes in all."""


async def upload(
    calls: Calls, path: Path, *, name: str | None, upload_id: str | None, advance: Advance | None
) -> asset_pb2.Asset:
    """Store a file; one that broke off is taken up from the last confirmed byte, also by another process.

    Args:
        calls: of the client.
        path: of the file.
        name: for people; the file's own if not given.
        upload_id: the same id resumes; made of the file's content if not given.
        advance: told of progress.

    Raises:
        ClientError: INPUT_MISSING, or whatever the mesh said.
    """
    try:
        digest, size = await asyncio.to_thread(_digest, path)
    except OSError as error:
        raise ClientError("INPUT_MISSING", f"{path} cannot be read ({error.strerror})") from error
    name = name or path.name
    begin = asset_pb2.UploadBegin(name=name, upload_id=upload_id or _upload_id(name, digest), size_bytes=size)
    stub: Any = AssetServiceStub(calls.channel)
    patience = Patience()
    confirmed = 0
    while True:
        try:
            asked = await calls.send(stub.UploadAsset, _only(begin))
            if asked.HasField("asset"):
                return _told(asked.asset, size, advance)
            if asked.confirmed_bytes > confirmed:
                patience.moved()
            confirmed = asked.confirmed_bytes
            answer = await calls.send(stub.UploadAsset, _steps(path, begin, digest, confirmed, advance))
        except ClientError as error:
            await patience.after(error)
            continue
        if answer.HasField("asset"):
            return _told(answer.asset, size, advance)


async def download(calls: Calls, identifier: str, path: Path, *, digest: str | None, advance: Advance | None) -> Path:
    """Fetch an asset or artifact into a file, which appears whole or not at all.

    Args:
        calls: of the client.
        identifier: id of an asset, or key of an artifact of the caller's job.
        path: where to; an existing file is replaced.
        digest: SHA-256 that it must have, as hexadecimal digits.
        advance: told of progress.

    Raises:
        ClientError: OBJECT_CORRUPT when the bytes are not those of the digest, or whatever the mesh said.
    """
    stub: Any = AssetServiceStub(calls.channel)
    part = path.with_name(f".{path.name}.part")
    patience = Patience()
    sha = hashlib.sha256()
    done = 0
    try:
        with part.open("wb") as file:
            while True:
                asked = asset_pb2.DownloadAssetRequest(id=identifier, offset=done)
                try:
                    async for answer in calls.stream(stub.DownloadAsset, asked):
                        await asyncio.to_thread(_write, file, sha, answer.chunk)
                        done += len(answer.chunk)
                        patience.moved()
                        if advance is not None:
                            advance(done, answer.size_bytes)
                    break
                except ClientError as error:
                    await patience.after(error)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        if digest and sha.hexdigest() != digest:
            raise ClientError("OBJECT_CORRUPT", f"{identifier} did not arrive as it was stored", remedy="try again")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _upload_id(name: str, digest: str) -> str:
    """The same for the same file in another process; another one for a copy with another name, because an upload has
    one name."""
    return "file-" + hashlib.sha256(f"{digest} {name}".encode()).hexdigest()


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _write(file: Any, sha: Any, chunk: bytes) -> None:
    sha.update(chunk)
    file.write(chunk)


async def _only(begin: asset_pb2.UploadBegin) -> AsyncIterator[asset_pb2.UploadAssetRequest]:
    """Asks how far the upload is."""
    yield asset_pb2.UploadAssetRequest(begin=begin)


async def _steps(
    path: Path, begin: asset_pb2.UploadBegin, digest: str, confirmed: int, advance: Advance | None
) -> AsyncIterator[asset_pb2.UploadAssetRequest]:
    yield asset_pb2.UploadAssetRequest(begin=begin)
    with path.open("rb") as file:
        file.seek(confirmed)
        offset = confirmed
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield asset_pb2.UploadAssetRequest(chunk=asset_pb2.UploadChunk(offset=offset, chunk=chunk))
            offset += len(chunk)
            if advance is not None:
                advance(offset, begin.size_bytes)
    yield asset_pb2.UploadAssetRequest(finish=asset_pb2.UploadFinish(digest=digest))


def _told(asset: asset_pb2.Asset, size: int, advance: Advance | None) -> asset_pb2.Asset:
    if advance is not None:
        advance(size, size)
    return asset
