"""Files to and from the mesh: in chunks, taken up where they broke off, checked by their digest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, Final

from masquerade.client.calls import Calls, Patience
from masquerade.client.errors import ClientError
from masquerade.v1 import asset_pb2
from masquerade.v1.asset_pb2_grpc import AssetServiceStub

CHUNK_BYTES: Final = 512 << 10
DIGEST_BYTES: Final = 8 << 20

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
        digest, size = await _digest(path)
        name = name or path.name
        begin = asset_pb2.UploadBegin(name=name, upload_id=upload_id or _upload_id(name, digest), size_bytes=size)
        return await _stored(calls, path, begin, digest, advance)
    except OSError as error:
        raise ClientError(
            "INPUT_MISSING", f"{path} cannot be read ({error.strerror})", remedy="look at the path and its rights"
        ) from error


async def _stored(
    calls: Calls, path: Path, begin: asset_pb2.UploadBegin, digest: str, advance: Advance | None
) -> asset_pb2.Asset:
    """The asset, once all of the file is there; goes on at the last confirmed byte when the connection breaks."""
    stub: Any = AssetServiceStub(calls.channel)
    patience = Patience()
    confirmed = 0
    while True:
        try:
            answer = await calls.send(stub.UploadAsset, _only(begin))
            if not answer.HasField("asset"):
                patience.reached()
                if answer.confirmed_bytes > confirmed:
                    patience.moved()
                confirmed = answer.confirmed_bytes
                answer = await calls.send(stub.UploadAsset, _steps(path, begin, digest, confirmed, advance))
            break
        except ClientError as error:
            await patience.after(error)
    if not answer.HasField("asset"):
        raise ClientError("ANSWER_MISMATCH", "the mesh has all bytes and names no asset", remedy="try again")
    if advance is not None:
        advance(begin.size_bytes, begin.size_bytes)
    asset = answer.asset
    assert isinstance(asset, asset_pb2.Asset)
    return asset


async def download(calls: Calls, identifier: str, path: Path, *, digest: str | None, advance: Advance | None) -> Path:
    """Fetch an asset or artifact into a file, which appears whole or not at all.

    Args:
        calls: of the client.
        identifier: id of an asset, or key of an artifact of the caller's job.
        path: where to; an existing file is replaced.
        digest: SHA-256 that it must have, as hexadecimal digits.
        advance: told of progress.

    Raises:
        ClientError: OBJECT_CORRUPT when the bytes are not those of the digest, OUTPUT_UNWRITABLE, or whatever the mesh
            said.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            found = await _fetched(calls, identifier, file, advance)
        if digest and found != digest:
            raise ClientError("OBJECT_CORRUPT", f"{identifier} did not arrive as it was stored", remedy="try again")
        part.replace(path)
    except OSError as error:
        raise ClientError(
            "OUTPUT_UNWRITABLE",
            f"{path} cannot be written ({error.strerror})",
            remedy="look at the folder, its rights and the space that is left",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


async def _fetched(calls: Calls, identifier: str, file: BinaryIO, advance: Advance | None) -> str:
    """SHA-256 of the bytes that were written; goes on where it was when the connection breaks."""
    stub: Any = AssetServiceStub(calls.channel)
    patience, sha, done = Patience(), hashlib.sha256(), 0
    while True:
        asked = asset_pb2.DownloadAssetRequest(id=identifier, offset=done)
        try:
            async with aclosing(calls.stream(stub.DownloadAsset, asked)) as answers:
                async for answer in answers:
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
    return sha.hexdigest()


def _upload_id(name: str, digest: str) -> str:
    """The same for the same file in another process; another one for a copy with another name, because an upload has
    one name."""
    return "file-" + hashlib.sha256(f"{digest} {name}".encode()).hexdigest()


async def _digest(path: Path) -> tuple[str, int]:
    """SHA-256 and length; piece by piece, so that who waits for a long file can be interrupted."""
    sha, size = hashlib.sha256(), 0

    def piece(file: BinaryIO) -> int:
        content = file.read(DIGEST_BYTES)
        sha.update(content)
        return len(content)

    with path.open("rb") as file:
        while count := await asyncio.to_thread(piece, file):
            size += count
    return sha.hexdigest(), size


def _write(file: BinaryIO, sha: Any, chunk: bytes) -> None:
    sha.update(chunk)
    file.write(chunk)


async def _only(begin: asset_pb2.UploadBegin) -> AsyncGenerator[asset_pb2.UploadAssetRequest, None]:
    """Asks how far the upload is."""
    yield asset_pb2.UploadAssetRequest(begin=begin)


async def _steps(
    path: Path, begin: asset_pb2.UploadBegin, digest: str, confirmed: int, advance: Advance | None
) -> AsyncGenerator[asset_pb2.UploadAssetRequest, None]:
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
