"""Services as a cluster runs them, each in a process of its own, which tests kill, stop and start again.

They share a database and a folder of objects. Orchestrators are called o0, o1 and so on; each is an executor of its
name and has a public door beside the inner one. All the others have the names of their services.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import sqlalchemy as sa
from grpc_health.v1 import health_pb2, health_pb2_grpc

from masquerade.v1 import job_pb2, orchestrator_pb2
from masquerade.v1.job_pb2_grpc import JobServiceStub
from masquerade.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from services.common.access import keys
from services.common.channels import build_channel
from services.common.records.database import Records, insert_or_ignore
from services.common.records.tables import assets
from services.common.store.folder import FolderStore
from tests.support.engine_process import executions
from tests.support.processes import MARK, gone_within, marked
from tests.support.watched_compositor import LOG, SLOWLY

REPOSITORY = Path(__file__).parents[2]
SERVING_WITHIN_S = 60.0
WORKERS = ("ingest", "detector", "swapper", "segmenter", "compositor")


@dataclass
class Cluster:
    """Processes by name."""

    folder: Path
    sockets: Path
    environment: dict[str, str]
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    doors: dict[str, Replica] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    """Of those that do not listen on a socket named after them."""

    @property
    def store(self) -> FolderStore:
        """What all of them share."""
        return FolderStore(self.folder / "objects")

    def target(self, name: str) -> str:
        """Where a process serves the others."""
        return self.addresses.get(name) or f"unix:{self.sockets}/{name}"

    def public(self, name: str) -> str:
        """Where an orchestrator serves other systems."""
        return f"unix:{self.sockets}/{name}.public"

    def start(self, *names: str) -> None:
        """Start processes; `serving` waits for them."""
        for name in names:
            service = name.rstrip("0123456789")
            is_orchestrator = service not in WORKERS
            service = "orchestrator" if is_orchestrator else service
            own = {f"MASQUERADE_{service.upper()}__LISTEN": self.target(name)}
            if is_orchestrator:
                own["MASQUERADE_ORCHESTRATOR__EXECUTOR"] = name
                own["MASQUERADE_ORCHESTRATOR__PUBLIC_LISTEN"] = self.public(name)
            module = "tests.support.watched_compositor" if service == "compositor" else f"services.{service}"
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", module],
                    cwd=REPOSITORY,
                    env={**self.environment, **own, MARK: self.mark},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    async def serving(self, *names: str) -> None:
        """Return when processes serve."""
        for name in names:
            async with asyncio.timeout(SERVING_WITHIN_S):
                while not await self._is_serving(name):
                    assert self.processes[name].poll() is None, self.said(name)
                    await asyncio.sleep(0.1)

    async def _is_serving(self, name: str) -> bool:
        async with grpc.aio.insecure_channel(self.target(name)) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def again(self, name: str) -> None:
        """Start one that was killed, and wait until it serves."""
        self.start(name)
        await self.serving(name)

    def signal(self, name: str, number: int) -> None:
        """Send one a signal."""
        self.processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        """kill -9; its children notice by themselves."""
        self.processes[name].kill()
        self.processes[name].wait(10)

    def lives(self, name: str) -> bool:
        """Whether one runs."""
        return self.processes[name].poll() is None

    def resident(self, name: str) -> int:
        """Bytes of memory of one."""
        return int(psutil.Process(self.processes[name].pid).memory_info().rss)

    @property
    def secret(self) -> str:
        """Of this installation."""
        return self.environment["MASQUERADE_SECRET"]

    async def key(self, tenant: str) -> str:
        """The text of a tenant's key; one each."""
        if tenant not in self.keys:
            async with self._records() as records:
                made = await keys.make(records, self.secret.encode(), tenant=tenant, actor="test")
            self.keys[tenant] = made[1]
        return self.keys[tenant]

    async def asset(self, tenant: str, name: str) -> str:
        """Id of an object `{tenant}/assets/{name}`, as if it had been uploaded."""
        stored = await self.store.stat(f"{tenant}/assets/{name}")
        assert stored is not None
        digest = base64.b32encode(hashlib.sha256(stored.key.encode()).digest())[:26].decode().lower()
        row = {
            "id": f"asset_{digest}",
            "tenant": tenant,
            "key": stored.key,
            "name": name,
            "size_bytes": stored.bytes,
            "digest": stored.digest,
            "number": secrets.randbits(40),
            "created_ms": 1,
            "used_ms": time.time_ns() // 1_000_000,
        }

        def write(connection: sa.Connection) -> None:
            connection.execute(insert_or_ignore(connection, assets).values(**row))

        async with self._records() as records:
            await records.write(write)
        return str(row["id"])

    @contextlib.asynccontextmanager
    async def _records(self) -> AsyncIterator[Records]:
        url = self.environment.get("MASQUERADE_DATABASE") or f"sqlite:///{self.folder}/records.sqlite"
        records = Records(url)
        await records.open()
        try:
            yield records
        finally:
            await records.close()

    def said(self, name: str) -> str:
        """Last words of one."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def counted(self, name: str, message: str) -> int:
        """How often one logged a message, in all its lives."""
        return (self.folder / f"{name}.log").read_text(errors="replace").count(f'"message": "{message}"')

    def at(self, name: str) -> Replica:
        """An orchestrator to talk to."""
        if name not in self.doors:
            self.doors[name] = Replica(self, name)
        return self.doors[name]

    def rendering(self) -> bool:
        """Whether a segment is being rendered, by a process that lives."""
        alive = {process.pid for process in self.processes.values() if process.poll() is None}
        return any(each.ended is None and each.process in alive for each in executions(self.folder))

    @contextlib.contextmanager
    def slowly(self) -> Iterator[None]:
        """Let each frame take a moment, so that nobody misses a segment in the middle."""
        (self.folder / SLOWLY).touch()
        try:
            yield
        finally:
            (self.folder / SLOWLY).unlink()

    def rendered(self, job: str) -> set[str]:
        """Segments of a job that are in the store."""
        return {path.name for path in self.folder.glob(f"objects/*/jobs/{job}/render/*.mkv")}

    async def close(self) -> None:
        """End all of them, and see that nothing stays."""
        for door in self.doors.values():
            await door.close()
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)
        assert gone_within(self.mark, seconds=10), f"left behind: {marked(self.mark)}"


class Replica:
    """One of the orchestrators, from inside and from outside."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._channels = [build_channel(target, peer=name) for target in (cluster.target(name), cluster.public(name))]
        self.inner: Any = OrchestratorServiceStub(self._channels[0])
        self.outer: Any = JobServiceStub(self._channels[1])

    async def close(self) -> None:
        """Close what leads there."""
        for channel in self._channels:
            await channel.close()

    async def submit(self, spec: job_pb2.JobSpec, request: str, *, tenant: str) -> str:
        """A new job's id."""
        asked = orchestrator_pb2.SubmitRequest(tenant=tenant, request_id=request, spec=spec)
        return str((await self.inner.Submit(asked, timeout=30)).job.id)

    async def get(self, job: str) -> job_pb2.Job:
        """A job as it stands."""
        answer: job_pb2.Job = (await self.inner.Fetch(orchestrator_pb2.FetchRequest(id=job), timeout=30)).job
        return answer

    async def ended(self, job: str, *, seconds: float = 60) -> job_pb2.Job:
        """A job once it has ended; asked for again and again, whatever dies in between."""
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(Exception):
                found = await self.get(job)
                if found.state >= job_pb2.JOB_STATE_SUCCEEDED:
                    return found
            assert time.monotonic() < until, f"{job} did not end"
            await asyncio.sleep(0.1)

    async def report(self, job: str, *, seconds: float = 60) -> Any:
        """The report of a job that must succeed."""
        found = await self.ended(job, seconds=seconds)
        assert found.state == job_pb2.JOB_STATE_SUCCEEDED, found.failure
        return json.loads(await self._cluster.store.get_bytes(found.report.key))


@contextlib.asynccontextmanager
async def cluster(
    *,
    database: str = "",
    services: Sequence[str],
    orchestrators: int = 1,
    addresses: Mapping[str, str] | None = None,
    **settings: object,
) -> AsyncIterator[Cluster]:
    """A running cluster.

    Args:
        database: of all; unset means files of SQLite.
        services: which, beside orchestrators; one that has a number at its end is another replica.
        orchestrators: how many.
        addresses: where those listen that others do not find by their names.
        settings: MASQUERADE_ variables by their names in small letters.
    """
    # Short: the path of a socket has at most 107 letters.
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    names = [*services, *(f"o{number}" for number in range(orchestrators))]
    (folder / "lane").mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith("MASQUERADE_")}
    shared = {
        "data": folder,
        "database": database,
        "secret": secrets.token_hex(16),
        "plane_digests": 1,
        "drain_s": 0,
        "lane_folder": folder / "lane",
        **{f"{name}_target": f"unix:{folder}/{name}" for name in services if name in WORKERS},
        **settings,
    }
    given = {f"MASQUERADE_{name.upper()}": str(value) for name, value in shared.items() if value != ""}
    running = Cluster(folder, folder, {**own, **given, LOG: str(folder / "log")}, addresses=dict(addresses or {}))
    try:
        running.start(*names)
        await running.serving(*names)
        yield running
    finally:
        try:
            await running.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def until(is_so: Callable[[], bool | Awaitable[bool]], *, seconds: float, what: str) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while True:
        found = is_so()
        if found is True or (found is not False and await found):
            return
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)
