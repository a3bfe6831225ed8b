"""What uploads leave behind is removed on schedule, by every replica: what one did, the next finds done."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from services.common.audit.chain import Entry
from services.common.audit.log import write
from services.common.errors import MasqueradeError
from services.common.records.database import Records
from services.common.records.tables import uploads
from services.common.store.objects import ObjectStore
from services.ingest.assets import rows
from services.ingest.assets.finishing import Finishing
from services.ingest.assets.naming import asset_id, asset_key, now_ms, parts_prefix, uploads_prefix
from services.ingest.assets.rows import Begun

ACTOR: Final = "retention"
EVERY_S: Final = 3600.0
DAY_MS: Final = 24 * 3600 * 1000

_ROWS_AT_ONCE = 200
_log = logging.getLogger(__name__)


async def sweep_uploads(
    records: Records, store: ObjectStore, older_than_ms: int, *, secret: bytes, finishing: Finishing | None = None
) -> int:
    """Remove uploads that nobody continued for so long, and parts that no upload owns; gives how many were unfinished.

    Args:
        records: their rows.
        store: their parts.
        older_than_ms: how long they have been idle, in milliseconds.
        secret: of this installation.
        finishing: keeps the asset of an upload whose process died between storing it and writing its row.
    """
    before_ms = now_ms() - older_than_ms
    swept: Counter[str] = Counter()
    while idle := await records.read(partial(rows.idle_uploads, before_ms=before_ms, most=_ROWS_AT_ONCE)):
        for begun in idle:
            is_finished = await _finished(records, store, finishing, begun, secret)
            if await records.write(partial(_forget, begun=begun, before_ms=before_ms)):
                swept[begun.tenant] += not is_finished
                await store.delete_prefix(parts_prefix(begun.tenant, begun.upload_id, begun.created_ms, secret))
    for tenant, count in (+swept).items():
        await write(records, Entry(tenant, ACTOR, "retention.swept", "uploads", details={"uploads": count}))
    for tenant in await records.read(rows.tenants):
        await _sweep_parts(records, store, tenant, secret)
    return swept.total()


async def _finished(
    records: Records, store: ObjectStore, finishing: Finishing | None, begun: Begun, secret: bytes
) -> bool:
    """Whether an upload brought an asset. An object that was stored without its row is given one: it is then listed,
    counted, and deleted in its time."""
    if begun.asset is None:
        return False
    if await records.read(lambda connection: rows.asset_of(connection, begun)) is not None:
        return True
    info = await store.stat(asset_key(begun.tenant, begun.asset))
    if finishing is None or info is None or asset_id(begun.tenant, info.digest, secret) != begun.asset:
        return False
    await finishing.keep(begun, info.digest, actor=ACTOR)
    return True


def _forget(connection: sa.Connection, *, begun: Begun, before_ms: int) -> bool:
    return rows.delete_upload(connection, begun, uploads.c.changed_ms < before_ms)


async def _sweep_parts(records: Records, store: ObjectStore, tenant: str, secret: bytes) -> None:
    # Parts are listed before rows: a row is there before its first part.
    found = {info.key.rpartition("/")[0] for info in await store.list(uploads_prefix(tenant))}
    if not found:
        return
    needed = await records.read(lambda connection: rows.unfinished_uploads(connection, tenant))
    owned = {parts_prefix(tenant, each.upload_id, each.created_ms, secret) for each in needed}
    for prefix in found - owned:
        await store.delete_prefix(prefix)


class Sweeper:
    """Calls something again and again, at times of its own, until it is closed."""

    def __init__(self, work: Callable[[], Awaitable[object]], *, every_s: float = EVERY_S) -> None:
        self._work = work
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="sweep uploads")

    async def close(self) -> None:
        """End."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        # Replicas that start together do not sweep together.
        await asyncio.sleep(random.uniform(0, self._every_s / 10))
        while True:
            try:
                await self._work()
            except (MasqueradeError, SQLAlchemyError, OSError):
                _log.warning("uploads were not swept; the next round tries again", exc_info=True)
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))
