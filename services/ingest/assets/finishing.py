"""The end of an upload: its parts become one file, the file an object, the object a row.

Once begun it is done whether or not its caller stays: an object without a row would belong to nobody. If the process
dies on the way, the row of the upload says which asset it was about to be, and the next who comes finishes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from services.common.audit.chain import Entry
from services.common.audit.log import append
from services.common.errors import NoSpace, ObjectCorrupt, ObjectMissing, UploadConflict
from services.common.heap import give_back
from services.common.records.database import Records
from services.common.store.objects import ObjectStore
from services.ingest.assets import rows
from services.ingest.assets.naming import asset_id, asset_key, now_ms, part_key
from services.ingest.assets.rows import Asset, Begun

AT_ONCE: Final = 2
"""Files that are put together at once: each reads and writes the disk as fast as it can."""

ATTEMPTS: Final = 3
"""So often an asset is kept again that somebody deletes in the same moment."""

ABANDONED_AFTER_S: Final = 6 * 3600
CLOSING_S: Final = 60.0

_PREFIX: Final = "upload-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_log = logging.getLogger(__name__)


class Finishing:
    """Makes assets of uploads of which every byte is confirmed."""

    def __init__(self, records: Records, store: ObjectStore, *, scratch: Path, secret: bytes) -> None:
        self._records = records
        self._store = store
        self._scratch = scratch
        self._secret = secret
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="finishing")
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._running: dict[tuple[str, str], asyncio.Task[Asset]] = {}

    async def finish(self, begun: Begun, digest: str, *, prefix: str, actor: str) -> Asset:
        """The asset that the parts of an upload are. Who asks for it twice at once gets one answer.

        Args:
            begun: the upload.
            digest: SHA-256 that its bytes must have.
            prefix: where its parts lie.
            actor: who makes the call.

        Raises:
            UploadConflict: its bytes have another digest, and were dropped; or a part is gone or damaged.
            NoSpace: the disk is full.
        """
        name = (prefix, digest)
        task = self._running.get(name)
        if task is None:
            task = asyncio.create_task(self._finish(begun, digest, prefix, actor), name="finish an upload")
            self._running[name] = task
            task.add_done_callback(lambda _: self._ended(name))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for what is running."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=CLOSING_S)
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def keep(self, begun: Begun, digest: str, *, actor: str) -> Asset:
        """Write the row of an asset whose object is stored, and with it the line of the audit log."""
        asset = asset_id(begun.tenant, digest, self._secret)
        return await self._records.write(lambda connection: _keep(connection, begun, asset, digest, actor))

    async def sweep(self) -> None:
        """Remove the scratch files of processes that died."""
        await asyncio.to_thread(_sweep, self._scratch)

    def _ended(self, name: tuple[str, str]) -> None:
        task = self._running.pop(name)
        if not task.cancelled() and task.exception() is not None:
            # Its caller has heard it, unless it left.
            _log.info("an upload was not finished", extra={"reason": str(task.exception())[:200]})

    async def _finish(self, begun: Begun, digest: str, prefix: str, actor: str) -> Asset:
        async with self._turn:
            with self._scratch_file() as path:
                standing, found = await self._join(begun, prefix, path)
                if standing is not None and found == digest:
                    return standing
                if standing is not None:
                    raise conflict(begun, "it was finished with another digest", confirmed_bytes=begun.size_bytes)
                if found != digest:
                    await self._drop(begun, prefix)
                    raise conflict(begun, f"its bytes have the digest {found}; they were dropped", confirmed_bytes=0)
                asset = await self._store_whole(begun, digest, path, actor)
        await self._store.delete_prefix(prefix)
        return asset

    async def _join(self, begun: Begun, prefix: str, path: Path) -> tuple[Asset | None, str]:
        """Put all parts into the file, one in memory at a time; gives their digest, or what another made of them."""
        loop = asyncio.get_running_loop()
        sha = hashlib.sha256()
        offset = 0
        while offset < begun.size_bytes:
            key = part_key(prefix, offset)
            try:
                part = await self._store.get_bytes(key)
            except (ObjectMissing, ObjectCorrupt) as error:
                standing = await self._records.write(partial(_reopen, begun=begun, offset=offset))
                if standing is not None:
                    return standing, standing.digest
                await self._store.delete(key)
                raise conflict(begun, f"the part at {offset} was lost", confirmed_bytes=offset) from error
            await loop.run_in_executor(self._threads, _append, path, part, sha)
            offset += len(part)
            # One part in memory, not two: threads have heaps of their own, and each would keep one.
            del part
            await loop.run_in_executor(self._threads, give_back)
        return None, sha.hexdigest()

    async def _store_whole(self, begun: Begun, digest: str, path: Path, actor: str) -> Asset:
        asset = asset_id(begun.tenant, digest, self._secret)
        key = asset_key(begun.tenant, asset)
        await self._records.write(lambda connection: rows.change_upload(connection, begun, asset=asset))
        for _ in range(ATTEMPTS):
            info = await self._store.put_file(key, path)
            if info.digest != digest:
                raise ObjectCorrupt(key=key, found=info.digest, expected=digest)
            kept = await self.keep(begun, digest, actor=actor)
            # Another may have deleted the same bytes between the two lines.
            if await self._store.stat(key) is not None:
                return kept
        raise conflict(begun, "the same bytes are being deleted", confirmed_bytes=begun.size_bytes)

    async def _drop(self, begun: Begun, prefix: str) -> None:
        await self._records.write(lambda connection: rows.delete_upload(connection, begun, rows.is_unfinished()))
        await self._store.delete_prefix(prefix)

    @contextlib.contextmanager
    def _scratch_file(self) -> Iterator[Path]:
        with _disk_errors(self._scratch):
            self._scratch.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._scratch, prefix=_PREFIX)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


def _keep(connection: sa.Connection, begun: Begun, asset: str, digest: str, actor: str) -> Asset:
    kept, is_new = rows.keep_asset(
        connection,
        asset=asset,
        tenant=begun.tenant,
        key=asset_key(begun.tenant, asset),
        name=begun.name,
        size_bytes=begun.size_bytes,
        digest=digest,
        now_ms=now_ms(),
    )
    rows.change_upload(connection, begun, asset=asset, changed_ms=now_ms())
    if is_new:
        append(connection, Entry(begun.tenant, actor, "asset.stored", asset, details={"size_bytes": begun.size_bytes}))
    return kept


def _reopen(connection: sa.Connection, *, begun: Begun, offset: int) -> Asset | None:
    """A part is gone: because the upload is finished, whose asset this gives, or lost, and asked for again."""
    known = rows.find_upload(connection, begun.tenant, begun.upload_id)
    standing = None if known is None else rows.asset_of(connection, known)
    if standing is None:
        rows.change_upload(connection, begun, confirmed_bytes=offset, asset=None, changed_ms=now_ms())
    return standing


def _append(path: Path, part: bytes, sha: hashlib._Hash) -> None:
    sha.update(part)
    # Only a file that is there: who was told to stop has removed it.
    with _disk_errors(path.parent), path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(part)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace(path=folder, detail=error.strerror) from error
        raise


def _sweep(scratch: Path) -> None:
    for path in scratch.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= ABANDONED_AFTER_S:
                path.unlink()


def conflict(begun: Begun, problem: str, *, confirmed_bytes: int) -> UploadConflict:
    """An upload that contradicts itself, with the place from which it can go on."""
    return UploadConflict(upload_id=begun.upload_id, problem=problem, confirmed_bytes=confirmed_bytes)
