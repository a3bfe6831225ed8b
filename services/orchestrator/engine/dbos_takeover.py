"""Runs that nobody runs: those of a version that is gone, and those that this process lost without dying.

DBOS takes up a run only in the version that began it, and looks for lost ones of a process only when that process
starts. Both would wait for ever, silently.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any, Final

import sqlalchemy as sa
from dbos import DBOS
from dbos._dbos import _get_dbos_instance

from services.orchestrator.engine.dbos_rows import FAILURE, IN_FLIGHT, RUNNING, job_of
from services.orchestrator.failures import Failure

log = logging.getLogger(__name__)

INTERNAL_QUEUE: Final = "_dbos_internal_queue"
"""Where DBOS puts what it recovers and what was started without a queue."""


async def other_versions(mine: str) -> frozenset[str]:
    """Versions but this one of which runs are in flight."""
    known = [each["version_name"] for each in await DBOS.list_application_versions_async()]
    others = [name for name in known if name != mine]
    if not others:
        return frozenset()
    rows = await DBOS.list_workflows_async(
        status=list(IN_FLIGHT), app_version=others, load_input=False, load_output=False
    )
    return frozenset(row.app_version for row in rows if row.app_version)


async def adopt(version: str, *, mine: str) -> int:
    """Go on with the runs of a version whose histories this one can follow; how many."""
    return await asyncio.to_thread(_requeue, version=version, mine=mine)


async def fail(version: str, *, mine: str) -> list[str]:
    """End the runs of a version that this one cannot follow, with the reason; ids of the jobs.

    What their segments have finished lies in the store, where the next attempt finds it.
    """
    detail = f"it was begun by a version of this software that cannot be gone on with ({version}, this is {mine})"
    failure = Failure("INTERNAL", {"detail": detail}, remedy="retry the job: it goes on from its finished segments")
    rows = await DBOS.list_workflows_async(
        status=list(IN_FLIGHT), app_version=version, load_input=False, load_output=False
    )
    jobs = [row.workflow_id for row in rows if row.name == "job"]
    for workflow in jobs:
        # First the reason: whoever sees the run ended sees why.
        await DBOS.update_workflow_attributes_async(workflow, {FAILURE: failure.to_json()}, merge=True)
    if jobs:
        await DBOS.cancel_workflows_async(jobs, cancel_children=True)
    if left := [row.workflow_id for row in rows if row.name != "job"]:
        await DBOS.cancel_workflows_async(left)
    return [job_of(workflow)[0] for workflow in jobs]


async def requeue(workflows: Collection[str], *, executor: str) -> int:
    """Have runs begun again that stand under a name as running, and that its process does not run; how many."""
    return await asyncio.to_thread(_requeue, workflows=workflows, executor=executor)


def _requeue(*, version: str = "", mine: str = "", workflows: Collection[str] = (), executor: str = "") -> int:
    # DBOS has no call for either: its own recovery asks for the same version and is not made for a living process.
    # A test says when the table or these columns are no longer there.
    database = _get_dbos_instance()._sys_db
    status = database.tables.workflow_status
    which = (
        [status.c.application_version == version]
        if version
        else [
            status.c.workflow_uuid.in_(list(workflows)),
            status.c.executor_id == executor,
        ]
    )
    values: dict[str, Any] = {"application_version": mine} if version else {}
    with database.engine.begin() as connection:
        begun = connection.execute(
            sa.update(status)
            .where(*which, status.c.status == RUNNING)
            .values(
                status="ENQUEUED",
                # Whoever should still be at it can write nothing any more.
                owner_xid=None,
                started_at_epoch_ms=None,
                queue_name=sa.func.coalesce(status.c.queue_name, INTERNAL_QUEUE),
                **values,
            )
        ).rowcount
        if version:
            begun += connection.execute(
                sa.update(status).where(*which, status.c.status.in_(IN_FLIGHT)).values(**values)
            ).rowcount
    return int(begun)
