"""The command's side of a job: an order as a job's spec, submitted, watched, cancelled."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio

from masquerade.command.progress import Step
from masquerade.v1 import errors_pb2, job_pb2, orchestrator_pb2
from masquerade.v1.job_pb2 import JobState
from masquerade.v1.media_pb2 import TimeRange
from masquerade.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from services.common.error_base import fill
from services.common.error_table import TABLE
from services.standalone.assets import Assets
from services.standalone.clearing import REQUESTS
from services.standalone.consent import ATTESTED, SELF, SYNTHETIC
from services.standalone.order import Behind, Face, Order
from services.standalone.ranges import Range

if TYPE_CHECKING:
    from masquerade.v1.orchestrator_pb2_grpc import OrchestratorServiceAsyncStub

TENANT = "local"
ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)
FETCH_S = 60.0
WATCH_S = 7 * 86_400.0
"""Long enough for any video; a channel's own deadline is meant for calls that end."""

_CONSENTS = {
    SELF: job_pb2.CONSENT_METHOD_SELF,
    ATTESTED: job_pb2.CONSENT_METHOD_ATTESTED,
    SYNTHETIC: job_pb2.CONSENT_METHOD_SYNTHETIC,
}
_KINDS = {"image": 2, "video": 3, "blur": 4, "colour": 5}


class JobFailed(Exception):
    """A job that ended in a failure: its reason, what is wrong, what to do."""

    def __init__(self, failure: errors_pb2.Failure, names: dict[str, str]) -> None:
        self.reason = errors_pb2.Reason.Name(failure.reason).removeprefix("REASON_")
        explanation = TABLE.get(self.reason, TABLE["INTERNAL"])
        self.remedy = failure.remedy or explanation.remedy
        # What a failure says for people may end with its remedy, which has a place of its own here.
        said = failure.message.removesuffix(f": {self.remedy}") or fill(explanation.text, {})
        self.text = _in_peoples_words(said, names)
        self.exit_code = int(explanation.exit)
        super().__init__(self.text)


async def spec_of(order: Order, assets: Assets) -> job_pb2.JobSpec:
    """Put the inputs into the store and name them in a spec."""
    spec = job_pb2.JobSpec(asset_key=await assets.put_file(order.source), profile=order.profile)
    spec.encode.container = order.container
    for number, face in enumerate(order.faces, start=1):
        spec.identities.append(await _identity(f"face{number}", face, assets))
    if order.background is not None:
        spec.background.CopyFrom(await _background(order.background, assets))
    spec.keep.extend(_time_range(each) for each in order.keep)
    spec.apply.extend(_time_range(each) for each in order.apply)
    if order.label:
        spec.provenance.label = order.label
    return spec


async def _identity(name: str, face: Face, assets: Assets) -> job_pb2.JobIdentity:
    identity = job_pb2.JobIdentity(
        name=name, portrait_keys=[await assets.put_file(face.picture)], portrait_names=[face.picture.name]
    )
    identity.consent.method = _CONSENTS[face.consent.method]
    identity.consent.statement = face.consent.statement
    if face.landmarks is not None:
        identity.landmarks_key = await assets.put_bytes(face.landmarks)
    return identity


async def _background(behind: Behind, assets: Assets) -> job_pb2.Background:
    background = job_pb2.Background(kind=_KINDS[behind.kind])  # type: ignore[arg-type]
    if behind.file is not None:
        background.asset_key = await assets.put_file(behind.file)
    if behind.rgb is not None:
        background.rgb = behind.rgb
    return background


def _time_range(each: Range) -> TimeRange:
    return TimeRange(start_ms=each.start_ms, end_ms=each.end_ms)


def request_id(spec: job_pb2.JobSpec, output: Path) -> str:
    """The same for the same inputs, settings and output, so that a command given again goes on with its job.

    The sources of this software go in too: whoever changes the code wants to see the change.
    """
    said = hashlib.sha256(spec.SerializeToString(deterministic=True))
    said.update(str(output.absolute()).encode())
    said.update(_sources().encode())
    return f"{REQUESTS}{said.hexdigest()}"


@functools.cache
def _sources() -> str:
    """Sizes and times of this checkout's files as one digest."""
    seen = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        found = path.stat()
        seen.update(f"{path.relative_to(root)} {found.st_size} {found.st_mtime_ns}\n".encode())
    return seen.hexdigest()


class Job:
    """A submitted job."""

    def __init__(self, stub: OrchestratorServiceAsyncStub, ident: str, names: dict[str, str]) -> None:
        self.id = ident
        self._stub = stub
        self._names = names

    async def finished(self, show: Callable[[Step], None]) -> job_pb2.Job:
        """Watch until it ends.

        Raises:
            JobFailed: it did not succeed.
        """
        call = self._stub.Watch(orchestrator_pb2.WatchRequest(id=self.id), timeout=WATCH_S)
        async for message in call:
            show(_step(message.progress))
        job = await self._fetch()
        while job.state not in ENDED:
            # A watch may end with the connection; the job has not.
            await asyncio.sleep(0.2)
            job = await self._fetch()
            show(_step(job.progress))
        if job.state != job_pb2.JOB_STATE_SUCCEEDED:
            failure = job.failure if job.HasField("failure") else errors_pb2.Failure(reason=_CANCELLED)
            raise JobFailed(failure, self._names)
        return job

    async def cancel(self) -> None:
        """Stop it; what it has finished is kept."""
        await self._stub.Cancel(orchestrator_pb2.CancelRequest(id=self.id), timeout=FETCH_S)

    async def _fetch(self) -> job_pb2.Job:
        answer = await self._stub.Fetch(orchestrator_pb2.FetchRequest(id=self.id), timeout=FETCH_S)
        return answer.job


_CANCELLED = errors_pb2.REASON_CANCELLED


async def submit(channel: grpc.aio.Channel, *, spec: job_pb2.JobSpec, request: str, names: dict[str, str]) -> Job:
    """Hand a job in, or take up the one of this request where it stopped."""
    stub = OrchestratorServiceStub(channel)
    answer = await stub.Submit(
        orchestrator_pb2.SubmitRequest(tenant=TENANT, request_id=request, spec=spec, retry=True), timeout=FETCH_S
    )
    return Job(stub, answer.job.id, names)


async def delete(channel: grpc.aio.Channel, job: str) -> None:
    """Delete a job that has ended, by its id."""
    await OrchestratorServiceStub(channel).Delete(orchestrator_pb2.DeleteRequest(id=job), timeout=FETCH_S)


def _step(progress: job_pb2.Progress) -> Step:
    return Step(
        stage=JobState.Name(progress.state).removeprefix("JOB_STATE_").lower(),
        frames_done=progress.frames_done,
        frames_total=progress.frames_total,
        frames_per_second=progress.frames_per_second,
        seconds_left=progress.seconds_left if progress.HasField("seconds_left") else None,
    )


def _in_peoples_words(text: str, names: dict[str, str]) -> str:
    """Keys of assets replaced by the names that the user gave."""
    for key, name in names.items():
        text = text.replace(key, name).replace(key.rpartition("/")[2], name)
    return text
