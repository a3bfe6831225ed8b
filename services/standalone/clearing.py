"""What this command put into the data folder goes when nobody has worked on it for a while.

Jobs that other systems made, and what they uploaded, stay as long as the settings of the services say; those of the
command were copied out to where they belong, and stay only for as long as the same command may be run again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from services.common.errors import JobNotFound, JobStateForbids
from services.common.records.database import Records
from services.common.records.tables import assets, jobs
from services.common.store.objects import ObjectStore
from services.standalone.data_folder import DataFolder

REQUESTS: Final = "command-"
"""What the command's request ids begin with."""


async def clear(
    folder: DataFolder,
    records: Records,
    store: ObjectStore,
    *,
    tenant: str,
    older_than_s: float,
    delete: Callable[[str], Awaitable[object]],
) -> int:
    """Remove the command's jobs that ended, and its inputs that were stored, so long ago; answers how many.

    Args:
        folder: owned by the caller.
        records: opened.
        store: where inputs lie.
        tenant: of the command.
        older_than_s: how long ago.
        delete: deletes a job by its id, with all that belongs to it.
    """
    before = time.time() - older_than_s
    ended = await records.read(lambda connection: _ended_jobs(connection, tenant, before_ms=round(before * 1000)))
    count = 0
    for job in ended:
        try:
            await delete(job)
        except (JobNotFound, JobStateForbids):
            # Another owner was faster, or somebody has just retried it.
            continue
        count += 1
    stored = await asyncio.to_thread(_old_inputs, folder.objects / tenant / "assets", before)
    if not stored:
        return count
    needed = await records.read(lambda connection: _needed(connection, tenant))
    for name in stored:
        key = f"{tenant}/assets/{name}"
        if not any(key in text for text in needed):
            await store.delete(key)
            count += 1
    return count


def _ended_jobs(connection: sa.Connection, tenant: str, *, before_ms: int) -> list[str]:
    found = connection.execute(
        sa.select(jobs.c.id).where(
            jobs.c.tenant == tenant, jobs.c.request_id.startswith(REQUESTS), jobs.c.ended_ms < before_ms
        )
    )
    return [row.id for row in found]


def _needed(connection: sa.Connection, tenant: str) -> list[str]:
    """Texts in which keys of inputs stand that must stay: uploads, which have rows, and specs of jobs on their way."""
    uploaded = connection.execute(sa.select(assets.c.key).where(assets.c.tenant == tenant)).scalars()
    running = connection.execute(
        sa.select(jobs.c.spec).where(jobs.c.tenant == tenant, jobs.c.ended_ms.is_(None))
    ).scalars()
    return [*uploaded, *running]


def _old_inputs(place: Path, before: float) -> list[str]:
    """Names of inputs that were last written before a time."""
    if not place.is_dir():
        return []
    return [
        each.name
        for each in place.iterdir()
        if each.is_dir() and max(one.stat().st_mtime for one in (each, *each.iterdir())) < before
    ]
