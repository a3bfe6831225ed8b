"""The client for programs without an event loop: the same methods, run on a loop in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

from masquerade.client.aio import TIMEOUT_S, AsyncClient
from masquerade.client.connection import Access
from masquerade.client.looping import LoopThread
from masquerade.client.transfers import Advance
from masquerade.v1 import asset_pb2, identity_pb2, job_pb2


class Client:
    """A mesh as its callers see it. `with Client(...) as client:`.

    Attributes:
        jobs: see `Jobs`.
        identities: see `Identities`.
        assets: see `Assets`.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        key: str | None = None,
        access: Access | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Address a mesh; see `AsyncClient`."""
        self._client = AsyncClient(endpoint, key=key, access=access, timeout_s=timeout_s)
        self._loop = LoopThread()
        self.jobs = Jobs(self._client, self._loop)
        self.identities = Identities(self._client, self._loop)
        self.assets = Assets(self._client, self._loop)

    def __enter__(self) -> Client:
        self._loop.start()
        try:
            self._loop.run(self._client.__aenter__())
        except BaseException:
            self._loop.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._loop.run(self._client.__aexit__(kind, error, trace))
        finally:
            self._loop.stop()


class _Part:
    def __init__(self, client: AsyncClient, loop: LoopThread) -> None:
        self._client, self._loop = client, loop


class Assets(_Part):
    """Files in the mesh; see `AsyncAssets`."""

    def upload(
        self, path: str | Path, *, name: str | None = None, upload_id: str | None = None, advance: Advance | None = None
    ) -> asset_pb2.Asset:
        """Store a file."""
        return self._loop.run(self._client.assets.upload(path, name=name, upload_id=upload_id, advance=advance))

    def download(
        self, identifier: str, path: str | Path, *, digest: str | None = None, advance: Advance | None = None
    ) -> Path:
        """Fetch an asset or an artifact."""
        return self._loop.run(self._client.assets.download(identifier, path, digest=digest, advance=advance))

    def get(self, asset: str) -> asset_pb2.Asset:
        """One asset, by its id."""
        return self._loop.run(self._client.assets.get(asset))

    def list(self, *, page_size: int = 0) -> Iterator[asset_pb2.Asset]:
        """All assets, newest first."""
        return self._loop.each(self._client.assets.list(page_size=page_size))

    def delete(self, asset: str) -> None:
        """Delete an asset that no running job and no identity uses."""
        self._loop.run(self._client.assets.delete(asset))


class Identities(_Part):
    """Faces to put on; see `AsyncIdentities`."""

    def create(
        self,
        name: str,
        *,
        portraits: Sequence[str],
        consent: job_pb2.Consent,
        landmarks: str | None = None,
        request_id: str | None = None,
    ) -> identity_pb2.Identity:
        """Enrol portraits."""
        return self._loop.run(
            self._client.identities.create(
                name, portraits=portraits, consent=consent, landmarks=landmarks, request_id=request_id
            )
        )

    def get(self, identity: str) -> identity_pb2.Identity:
        """One identity, by its id."""
        return self._loop.run(self._client.identities.get(identity))

    def list(self, *, page_size: int = 0) -> Iterator[identity_pb2.Identity]:
        """All identities, newest first."""
        return self._loop.each(self._client.identities.list(page_size=page_size))

    def delete(self, identity: str) -> None:
        """Erase an identity everywhere; running jobs that use it stop."""
        self._loop.run(self._client.identities.delete(identity))

    def revoke_consent(self, identity: str) -> identity_pb2.Identity:
        """Withdraw the consent to use a face; running jobs that use it stop without a result."""
        return self._loop.run(self._client.identities.revoke_consent(identity))


class Jobs(_Part):
    """Videos being transformed; see `AsyncJobs`."""

    def create(self, spec: job_pb2.JobSpec, *, request_id: str | None = None) -> job_pb2.Job:
        """Hand in a job."""
        return self._loop.run(self._client.jobs.create(spec, request_id=request_id))

    def get(self, job: str) -> job_pb2.Job:
        """One job, by its id."""
        return self._loop.run(self._client.jobs.get(job))

    def list(
        self,
        *,
        state: job_pb2.JobState | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        page_size: int = 0,
    ) -> Iterator[job_pb2.Job]:
        """Jobs, newest first."""
        return self._loop.each(
            self._client.jobs.list(state=state, labels=labels, since=since, before=before, page_size=page_size)
        )

    def cancel(self, job: str) -> job_pb2.Job:
        """Stop a job; one that has ended stays as it is."""
        return self._loop.run(self._client.jobs.cancel(job))

    def retry(self, job: str) -> job_pb2.Job:
        """Take up a failed or cancelled job from its finished segments."""
        return self._loop.run(self._client.jobs.retry(job))

    def rerender(self, job: str, spec: job_pb2.JobSpec, *, request_id: str | None = None) -> job_pb2.Job:
        """A new job that uses what another one found out about the same video."""
        return self._loop.run(self._client.jobs.rerender(job, spec, request_id=request_id))

    def delete(self, job: str) -> None:
        """Delete a job that has ended, its artifacts and its face data."""
        self._loop.run(self._client.jobs.delete(job))

    def describe(self) -> job_pb2.DescribeResponse:
        """What jobs can ask for."""
        return self._loop.run(self._client.jobs.describe())

    def watch(self, job: str, *, from_sequence: int = 0) -> Iterator[job_pb2.Progress]:
        """Progress as it happens, to the job's end."""
        return self._loop.each(self._client.jobs.watch(job, from_sequence=from_sequence))

    def wait(self, job: str, *, told: Callable[[job_pb2.Progress], None] | None = None) -> job_pb2.Job:
        """Wait until a job has succeeded; JobFailed when it ended otherwise."""
        if told is not None:
            # In the caller's thread, where it may call the client.
            for progress in self.watch(job):
                told(progress)
        return self._loop.run(self._client.jobs.wait(job))

    def download(self, job: job_pb2.Job, path: str | Path, *, advance: Advance | None = None) -> Path:
        """Fetch the result of a job that has succeeded."""
        return self._loop.run(self._client.jobs.download(job, path, advance=advance))
