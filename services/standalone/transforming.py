"""One transformation from files to files, through the services of a running mesh."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masquerade.command.progress import View
from masquerade.v1 import job_pb2
from services.common.errors import OutputUnwritable
from services.standalone import jobs, publishing
from services.standalone.assets import Assets
from services.standalone.order import Order
from services.standalone.premises import Premises

ATTEMPTS_AT_MOST = 1000


async def transform(mesh: Premises, order: Order, view: View, *, replaces: bool) -> dict[str, Any]:
    """Run an order to its end and put its outputs where they belong; answers the report.

    When the task is cancelled the job is too; what it has finished stays, and the same order goes on from there.

    Raises:
        JobFailed: the job did not succeed.
        MasqueradeError: anything before or after it.
    """
    began = time.monotonic()
    assets = Assets(mesh.store, mesh.folder, tenant=jobs.TENANT)
    spec = await jobs.spec_of(order, assets)
    view.say("loading the models")
    await mesh.warmed()
    job = await _done(mesh, order, spec, assets, view)
    await publishing.publish(
        mesh.store,
        artifact_key=job.artifact.key,
        record_key=job.record.key,
        output=order.output,
        record=order.record,
        replaces=replaces,
    )
    report = await _report(mesh, job, seconds=time.monotonic() - began)
    if order.report is not None:
        await asyncio.to_thread(
            publishing.write_text, order.report, json.dumps(report, indent=2, sort_keys=True) + "\n"
        )
    if order.sheet is not None:
        view.say("making the contact sheet")
        await asyncio.to_thread(_write_sheet, order, report, order.sheet)
    return report


async def _done(mesh: Premises, order: Order, spec: job_pb2.JobSpec, assets: Assets, view: View) -> job_pb2.Job:
    """The finished job. One whose result was cleared away since is done anew, under a request of its own."""
    request = jobs.request_id(spec, order.output)
    for attempt in range(ATTEMPTS_AT_MOST):
        again = f"{request}-{attempt}" if attempt else request
        submitted = await jobs.submit(mesh.channels["orchestrator"], spec=spec, request=again, names=assets.names)
        try:
            job = await submitted.finished(view.show)
        except asyncio.CancelledError:
            await submitted.cancel()
            raise
        kept = [await mesh.store.stat(key) for key in (job.artifact.key, job.record.key, job.report.key)]
        if all(kept):
            return job
    raise OutputUnwritable(path=str(order.output), detail="its job's result is gone from the data folder")


async def _report(mesh: Premises, job: job_pb2.Job, *, seconds: float) -> dict[str, Any]:
    """The job's own report and what only the command knows."""
    report: dict[str, Any] = json.loads(await mesh.store.get_bytes(job.report.key))
    return {**report, "job": job.id, "seconds": round(seconds, 3)}


def _write_sheet(order: Order, report: Mapping[str, Any], out: Path) -> None:
    from services.standalone.sheet import write_sheet

    kept = report["kept_frames"] or [[0, report["frames_source"]]]
    frames = [frame for first, last in kept for frame in range(first, last)]
    try:
        write_sheet(order.source, order.output, out, source_frames=frames)
    except OSError as error:
        raise OutputUnwritable(path=str(out), detail=error.strerror) from error
