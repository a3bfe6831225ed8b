"""The client for asyncio."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from masquerade.client.calls import PAUSES_S, Calls, Patience
from masquerade.client.connection import Access
from masquerade.client.errors import ClientError, JobFailed
from masquerade.client.transfers import Advance, download, upload
from masquerade.v1 import asset_pb2, identity_pb2, job_pb2
from masquerade.v1.asset_pb2_grpc import AssetServiceStub
from masquerade.v1.identity_pb2_grpc import IdentityServiceStub
from masquerade.v1.job_pb2_grpc import JobServiceStub

M = TypeVar("M")
TIMEOUT_S: Final = 60.0
ENROL_S: Final = 300.0
"""Portraits are looked at while the caller waits."""

ENDED: Final = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


class AsyncClient:
    """A mesh as its callers see it. `async with AsyncClient(...) as client:` inside the loop that uses it."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        key: str | None = None,
        access: Access | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Address a mesh; nothing is sent yet.

        Args:
            endpoint: host:port or unix:/path; else what `Access.find` finds.
            key: an API key or a token; else what `Access.find` finds.
            access: all about the connection, instead of the two above.
            timeout_s: deadline of a call that names none.
        """
        self.access = access or Access.find(endpoint, key=key)
        self._timeout_s = timeout_s
        self._calls: Calls | None = None

    @property
    def jobs(self) -> AsyncJobs:
        """See `AsyncJobs`."""
        calls = self._opened()
        return AsyncJobs(calls, AsyncAssets(calls))

    @property
    def identities(self) -> AsyncIdentities:
        """See `AsyncIdentities`."""
        return AsyncIdentities(self._opened())

    @property
    def assets(self) -> AsyncAssets:
        """See `AsyncAssets`."""
        return AsyncAssets(self._opened())

    async def __aenter__(self) -> AsyncClient:
        self._calls = Calls(self.access, self.access.channel(), timeout_s=self._timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        calls, self._calls = self._opened(), None
        await calls.channel.close()

    def _opened(self) -> Calls:
        if self._calls is None:
            raise RuntimeError("the client is used outside of its `with` block")
        return self._calls


class AsyncAssets:
    """Files in the mesh."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._stub: Any = AssetServiceStub(calls.channel)

    async def upload(
        self, path: str | Path, *, name: str | None = None, upload_id: str | None = None, advance: Advance | None = None
    ) -> asset_pb2.Asset:
        """Store a file; see `transfers.upload`. The same bytes give the same asset."""
        return await upload(self._calls, Path(path), name=name, upload_id=upload_id, advance=advance)

    async def download(
        self, identifier: str, path: str | Path, *, digest: str | None = None, advance: Advance | None = None
    ) -> Path:
        """Fetch an asset or an artifact; see `transfers.download`."""
        return await download(self._calls, identifier, Path(path), digest=digest, advance=advance)

    async def get(self, asset: str) -> asset_pb2.Asset:
        """One asset, by its id."""
        answer = await self._calls.ask(self._stub.GetAsset, asset_pb2.GetAssetRequest(id=asset))
        return _typed(answer.asset, asset_pb2.Asset)

    async def list(self, *, page_size: int = 0) -> AsyncIterator[asset_pb2.Asset]:
        """All assets, newest first."""
        token = ""
        while True:
            asked = asset_pb2.ListAssetsRequest(page_size=page_size, page_token=token)
            answer = await self._calls.ask(self._stub.ListAssets, asked)
            for asset in answer.assets:
                yield asset
            token = answer.next_page_token
            if not token:
                return

    async def delete(self, asset: str) -> None:
        """Delete an asset that no running job and no identity uses."""
        await self._calls.ask(self._stub.DeleteAsset, asset_pb2.DeleteAssetRequest(id=asset))


class AsyncIdentities:
    """Faces to put on."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._stub: Any = IdentityServiceStub(calls.channel)

    async def create(
        self,
        name: str,
        *,
        portraits: Sequence[str],
        consent: job_pb2.Consent,
        landmarks: str | None = None,
        request_id: str | None = None,
    ) -> identity_pb2.Identity:
        """Enrol portraits.

        Args:
            name: for people.
            portraits: ids of assets.
            consent: by which consent the face is used.
            landmarks: id of the asset with the landmarks of a drawn portrait.
            request_id: the same id with the same content gives the same identity.
        """
        asked = identity_pb2.CreateIdentityRequest(
            name=name,
            asset_ids=portraits,
            consent=consent,
            request_id=request_id or uuid.uuid4().hex,
            landmarks_asset_id=landmarks,
        )
        answer = await self._calls.ask(self._stub.CreateIdentity, asked, timeout_s=ENROL_S)
        return _typed(answer.identity, identity_pb2.Identity)

    async def get(self, identity: str) -> identity_pb2.Identity:
        """One identity, by its id."""
        answer = await self._calls.ask(self._stub.GetIdentity, identity_pb2.GetIdentityRequest(id=identity))
        return _typed(answer.identity, identity_pb2.Identity)

    async def list(self, *, page_size: int = 0) -> AsyncIterator[identity_pb2.Identity]:
        """All identities, newest first."""
        token = ""
        while True:
            asked = identity_pb2.ListIdentitiesRequest(page_size=page_size, page_token=token)
            answer = await self._calls.ask(self._stub.ListIdentities, asked)
            for identity in answer.identities:
                yield identity
            token = answer.next_page_token
            if not token:
                return

    async def delete(self, identity: str) -> None:
        """Erase an identity everywhere; running jobs that use it stop."""
        await self._calls.ask(self._stub.DeleteIdentity, identity_pb2.DeleteIdentityRequest(id=identity))

    async def revoke_consent(self, identity: str) -> identity_pb2.Identity:
        """Withdraw the consent to use a face; running jobs that use it stop without a result."""
        answer = await self._calls.ask(self._stub.RevokeConsent, identity_pb2.RevokeConsentRequest(id=identity))
        return _typed(answer.identity, identity_pb2.Identity)


class AsyncJobs:
    """Videos being transformed."""

    def __init__(self, calls: Calls, assets: AsyncAssets) -> None:
        self._calls = calls
        self._assets = assets
        self._stub: Any = JobServiceStub(calls.channel)

    async def create(self, spec: job_pb2.JobSpec, *, request_id: str | None = None) -> job_pb2.Job:
        """Hand in a job.

        Args:
            spec: what is to be done.
            request_id: the same id with the same spec gives the same job, however often it is sent.
        """
        asked = job_pb2.CreateJobRequest(request_id=request_id or uuid.uuid4().hex, spec=spec)
        return _job(await self._calls.ask(self._stub.CreateJob, asked))

    async def get(self, job: str) -> job_pb2.Job:
        """One job, by its id."""
        return _job(await self._calls.ask(self._stub.GetJob, job_pb2.GetJobRequest(id=job)))

    async def list(
        self,
        *,
        state: job_pb2.JobState | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        page_size: int = 0,
    ) -> AsyncIterator[job_pb2.Job]:
        """Jobs, newest first.

        Args:
            state: only those in this state.
            labels: only those that carry all of these.
            since: only those accepted at this time or later.
            before: only those accepted earlier.
            page_size: how many are fetched at once; 0 leaves it to the mesh.
        """
        asked = job_pb2.ListJobsRequest(page_size=page_size, state=state, labels=labels or {})
        if since is not None:
            asked.create_time_from.FromDatetime(since)
        if before is not None:
            asked.create_time_before.FromDatetime(before)
        while True:
            answer = await self._calls.ask(self._stub.ListJobs, asked)
            for job in answer.jobs:
                yield job
            asked.page_token = answer.next_page_token
            if not asked.page_token:
                return

    async def cancel(self, job: str) -> job_pb2.Job:
        """Stop a job; one that has ended stays as it is."""
        return _job(await self._calls.ask(self._stub.CancelJob, job_pb2.CancelJobRequest(id=job)))

    async def retry(self, job: str) -> job_pb2.Job:
        """Take up a failed or cancelled job from its finished segments."""
        return _job(await self._calls.ask(self._stub.RetryJob, job_pb2.RetryJobRequest(id=job)))

    async def rerender(self, job: str, spec: job_pb2.JobSpec, *, request_id: str | None = None) -> job_pb2.Job:
        """A new job that uses what another one found out about the same video."""
        asked = job_pb2.RerenderJobRequest(id=job, request_id=request_id or uuid.uuid4().hex, spec=spec)
        return _job(await self._calls.ask(self._stub.RerenderJob, asked))

    async def delete(self, job: str) -> None:
        """Delete a job that has ended, its artifacts and its face data."""
        await self._calls.ask(self._stub.DeleteJob, job_pb2.DeleteJobRequest(id=job))

    async def describe(self) -> job_pb2.DescribeResponse:
        """What jobs can ask for."""
        answer = await self._calls.ask(self._stub.Describe, job_pb2.DescribeRequest())
        return _typed(answer, job_pb2.DescribeResponse)

    async def watch(self, job: str, *, from_sequence: int = 0) -> AsyncGenerator[job_pb2.Progress, None]:
        """Progress as it happens, to the job's end; goes on where it was when the connection breaks.

        A job that was retried is told with its earlier attempts: an end may be in the middle.

        Args:
            job: its id.
            from_sequence: first sequence number wanted, 0 for the whole history.
        """
        patience = Patience()
        while True:
            asked = job_pb2.WatchJobRequest(id=job, from_sequence=from_sequence)
            try:
                async with aclosing(self._calls.stream(self._stub.WatchJob, asked)) as answers:
                    async for answer in answers:
                        from_sequence = answer.progress.sequence + 1
                        patience.moved()
                        yield answer.progress
            except ClientError as error:
                await patience.after(error)
            else:
                return

    async def wait(self, job: str, *, told: Callable[[job_pb2.Progress], None] | None = None) -> job_pb2.Job:
        """Wait until a job has succeeded.

        Args:
            job: its id.
            told: called with every step of progress.

        Raises:
            JobFailed: it ended otherwise.
        """
        following = 0
        while True:
            async with aclosing(self.watch(job, from_sequence=following)) as steps:
                async for progress in steps:
                    following = progress.sequence + 1
                    if told is not None:
                        told(progress)
            ended = await self.get(job)
            if ended.state in ENDED:
                break
            # Somebody has retried it in the moment of its end.
            await asyncio.sleep(PAUSES_S[0])
        if ended.state != job_pb2.JOB_STATE_SUCCEEDED:
            raise JobFailed(ended)
        return ended

    async def download(self, job: job_pb2.Job, path: str | Path, *, advance: Advance | None = None) -> Path:
        """Fetch the result of a job that has succeeded.

        Raises:
            ClientError: JOB_STATE_FORBIDS, it has no result (yet); or see `transfers.download`.
        """
        artifact = job.artifact
        if not artifact.key:
            state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
            raise ClientError(
                "JOB_STATE_FORBIDS", f"the job {job.id} is {state} and has no result", remedy="wait for its end"
            )
        return await self._assets.download(artifact.key, path, digest=artifact.digest or None, advance=advance)


def _job(answer: Any) -> job_pb2.Job:
    return _typed(answer.job, job_pb2.Job)


def _typed(message: Any, kind: type[M]) -> M:
    assert isinstance(message, kind)
    return message
