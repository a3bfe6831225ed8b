"""Bytes given back: of assets, and of what a caller's own jobs have made."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from services.common.errors import AssetNotFound, InvalidSpec, ObjectMissing, Overloaded, Violation
from services.common.records.database import Records
from services.common.store.objects import CHUNK_BYTES, ObjectStore
from services.ingest.assets import rows
from services.ingest.assets.naming import is_asset_id, job_of_key

READERS: Final = 4
"""Threads that read. A chunk is read when its caller has taken the one before it, so slow callers hold none."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of an object."""

    offset: int
    content: bytes
    size_bytes: int
    """Length of the whole object."""


class Downloads:
    """Gives out objects in pieces."""

    def __init__(self, records: Records, store: ObjectStore, *, streams: int = 64) -> None:
        self._records = records
        self._store = store
        self._most = streams
        self._streams = 0
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="downloads")

    async def read(self, tenant: str, name: str, *, offset: int, length: int) -> AsyncGenerator[Piece, None]:
        """The bytes of an object, in pieces of at most 1 MiB; one empty piece where there are none.

        Args:
            tenant: who asks.
            name: id of an asset, or key of an artifact, record or report of a job of the tenant.
            offset: first byte.
            length: number of bytes; 0, or more than there are, means to the end.

        Raises:
            AssetNotFound: the tenant has nothing of this name that is given out.
            InvalidSpec: the offset lies beyond the end.
            ObjectCorrupt: the bytes are not what was stored.
            Overloaded: too many downloads.
        """
        with self._counted():
            key = await self._key(tenant, name)
            try:
                async with self._store.local_path(key) as path:
                    with path.open("rb") as file:
                        pieces = self._pieces(file.fileno(), offset, length)
                        async with contextlib.aclosing(pieces):
                            async for piece in pieces:
                                yield piece
            except (ObjectMissing, FileNotFoundError) as error:
                raise AssetNotFound(asset=name[:80]) from error

    async def close(self) -> None:
        """Let the threads go."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def _key(self, tenant: str, name: str) -> str:
        if is_asset_id(name):
            asset = await self._records.read(lambda connection: rows.find_asset(connection, tenant, name))
            if asset is None:
                raise AssetNotFound(asset=name)
            return asset.key
        job = job_of_key(tenant, name)
        if not await self._records.read(lambda connection: rows.has_job(connection, tenant, job)):
            raise AssetNotFound(asset=name[:80])
        return name

    async def _pieces(self, descriptor: int, offset: int, length: int) -> AsyncGenerator[Piece, None]:
        size = os.fstat(descriptor).st_size
        if offset > size:
            raise InvalidSpec(violations=[Violation("offset", f"lies beyond the end at {size}")])
        end = min(size, offset + length) if length else size
        loop = asyncio.get_running_loop()
        if offset == end:
            yield Piece(offset, b"", size)
        while offset < end:
            wanted = min(CHUNK_BYTES, end - offset)
            content = await loop.run_in_executor(self._threads, os.pread, descriptor, wanted, offset)
            if not content:
                # Stored objects do not shrink; one that does was meddled with.
                raise ObjectMissing()
            yield Piece(offset, content, size)
            offset += len(content)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self._streams >= self._most:
            raise Overloaded(what="downloading", most=self._most, retry_after_s=1)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
