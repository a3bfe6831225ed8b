"""The same Timeline for another job: what was analysed once is rendered again with other settings."""

from __future__ import annotations

from typing import Any

from services.common.errors import ObjectMissing
from services.common.store.objects import ObjectStore
from services.orchestrator.engine import JsonObject
from services.orchestrator.keys import job_prefix


async def adopt_timeline(
    store: ObjectStore, *, tenant: str, source: str, target: str, result: JsonObject
) -> JsonObject:
    """Copy what analysis found from a job to another one.

    Args:
        store: of both.
        tenant: of both.
        source: id of the job that was analysed.
        target: id of the job that renders again.
        result: of the source, as its workflow answered it.

    Returns:
        `timeline`, a reference to the copied object, and its `summary`.

    Raises:
        ObjectMissing: the source's Timeline is gone.
    """
    known: Any = result.get("timeline_object")
    if not known:
        raise ObjectMissing(key=f"Timeline of {source}")
    prefix = job_prefix(tenant=tenant, job=source)
    for each in await store.list(f"{prefix}link"):
        key = job_prefix(tenant=tenant, job=target) + each.key.removeprefix(prefix)
        async with store.local_path(each.key) as path:
            await store.put_file(key, path)
    key = job_prefix(tenant=tenant, job=target) + str(known["key"]).removeprefix(prefix)
    return {"timeline": {**known, "key": key}, "summary": result["timeline"]}
