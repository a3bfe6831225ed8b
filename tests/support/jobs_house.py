"""The orchestrator's doors on servers of their own, with toys behind them: real rows, real engine, no picture."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from masquerade.v1 import compositor_pb2
from masquerade.v1 import job_pb2 as pb
from masquerade.v1.identity_pb2_grpc import IdentityServiceStub
from masquerade.v1.job_pb2_grpc import JobServiceStub
from masquerade.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from services.common.access.callers import Caller, set_caller
from services.common.channels import build_channel
from services.common.deps import ServiceDeps
from services.common.interceptors import CallInterceptor, CallName, Context
from services.common.records.database import Records
from services.common.records.tables import assets, audit, consents, identities
from services.common.server import Server, build_server
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.orchestrator import app
from services.orchestrator.identities.rows import PortraitReport, quality_json
from services.orchestrator.settings import OrchestratorSettings
from tests.support.toy_peers import StoringPeers

ENDED = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)


class CallersByName(CallInterceptor):
    """Takes everybody's word for who they are."""

    @contextlib.asynccontextmanager
    async def around(self, call: CallName, context: Context) -> AsyncIterator[None]:
        """See CallInterceptor."""
        metadata = dict(context.invocation_metadata() or ())
        tenant = str(metadata.get("who", ""))
        set_caller(Caller(tenant, f"key:{tenant}") if tenant else None)
        yield


@dataclass
class JobsHouse:
    """The doors, and what lies behind them."""

    records: Records
    store: FolderStore
    peers: StoringPeers
    stub: Any
    inner: Any
    people: Any

    async def ask(self, method: str, request: Any, *, who: str = "anna") -> Any:
        """Call a method of the public door as somebody."""
        return await getattr(self.stub, method)(request, metadata=(("who", who),), timeout=30)

    async def create(self, spec: pb.JobSpec, request: str, *, who: str = "anna") -> pb.Job:
        """A new job."""
        answer = await self.ask("CreateJob", pb.CreateJobRequest(request_id=request, spec=spec), who=who)
        return cast(pb.Job, answer.job)

    async def get(self, job: str, *, who: str = "anna") -> pb.Job:
        """One job."""
        return cast(pb.Job, (await self.ask("GetJob", pb.GetJobRequest(id=job), who=who)).job)

    async def watched(self, job: str, *, who: str = "anna", from_sequence: int = 0) -> list[pb.Progress]:
        """Everything that a watcher is told until the end."""
        request = pb.WatchJobRequest(id=job, from_sequence=from_sequence)
        call = self.stub.WatchJob(request, metadata=(("who", who),), timeout=30)
        return [answer.progress async for answer in call]

    async def ended(self, job: str, *, who: str = "anna", seconds: float = 20) -> pb.Job:
        """The job once it has ended."""
        return await self.when(job, lambda found: found.state in ENDED, who=who, seconds=seconds)

    async def when(
        self, job: str, is_so: Callable[[pb.Job], bool], *, who: str = "anna", seconds: float = 20
    ) -> pb.Job:
        """The job once something is so."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.get(job, who=who)
                if is_so(found):
                    return found
                await asyncio.sleep(0.02)

    async def asset(self, content: bytes, *, tenant: str = "anna") -> str:
        """An asset's id, as if it had been uploaded."""
        named = hashlib.sha256(tenant.encode() + content).hexdigest()[:26]
        now = time.time_ns() // 1_000_000
        stored = await self.store.put_bytes(f"{tenant}/assets/{named}", content)
        row = {
            "id": f"asset_{named}",
            "tenant": tenant,
            "key": stored.key,
            "name": "file",
            "size_bytes": stored.bytes,
            "digest": stored.digest,
            "number": secrets.randbits(40),
            "created_ms": now,
            "used_ms": now,
        }
        await self.records.write(lambda connection: connection.execute(assets.insert().values(**row)))
        return str(row["id"])

    async def identity(self, *, tenant: str = "anna", expires_ms: int | None = None) -> str:
        """An enrolled identity's id, with the consent for it."""
        ident, consent = f"idn_{secrets.token_hex(13)}", f"cns_{secrets.token_hex(13)}"
        stored = await self.store.put_bytes(f"{tenant}/identities/{ident}/identity", b"a face of " + ident.encode())
        now = time.time_ns() // 1_000_000
        portrait = secrets.token_hex(13)
        quality = quality_json((PortraitReport(f"asset_{portrait}", "p.png", 200.0, 0.0, 30.0, ("soft",)),))
        agreed = {
            "id": consent,
            "tenant": tenant,
            "subject": ident,
            "method": "self",
            "statement": "",
            "attested_by": "anna",
            "scopes": '["face_swap"]',
            "portraits": f'["{portrait}"]',
            "created_ms": now,
            "expires_ms": expires_ms,
        }
        row = {
            "id": ident,
            "tenant": tenant,
            "name": "face",
            "request_id": ident,
            "digest": "",
            "is_drawn": False,
            "key": stored.key,
            "object_digest": stored.digest,
            "quality": quality,
            "consent": consent,
            "number": secrets.randbits(40),
            "created_ms": now,
        }

        def write(connection: sa.Connection) -> None:
            connection.execute(consents.insert().values(**agreed))
            connection.execute(identities.insert().values(**row))

        await self.records.write(write)
        return ident

    async def revoke(self, ident: str) -> None:
        """Withdraw the consent in the rows alone."""
        now = time.time_ns() // 1_000_000
        chosen = sa.update(consents).where(consents.c.subject == ident).values(revoked_ms=now)
        await self.records.write(lambda connection: connection.execute(chosen))

    async def lines(self, job: str) -> list[tuple[str, str, str]]:
        """Action, actor and decision of each line of the audit log about a job, oldest first."""
        chosen = sa.select(audit).where(audit.c.object == job).order_by(audit.c.sequence)
        rows = await self.records.read(lambda connection: connection.execute(chosen).all())
        return [(row.action, row.actor, row.decision) for row in rows]

    async def objects(self, job: str, *, tenant: str = "anna") -> list[str]:
        """What lies under a job, by stage and name."""
        prefix = f"{tenant}/jobs/{job}/"
        return [each.key.removeprefix(prefix) for each in await self.store.list(prefix)]


@contextlib.asynccontextmanager
async def jobs_house(
    folder: Path, *, url: str = "", peers: StoringPeers | None = None, **flags: Any
) -> AsyncIterator[JobsHouse]:
    """The doors, open; `flags` are settings of the orchestrator."""
    settings = OrchestratorSettings.load({"data": str(folder), "database": url or None, **flags})
    store = FolderStore(folder / "objects")
    records = Records(settings.records_url())
    toys = peers or StoringPeers(store)
    deps = ServiceDeps(
        store=store,
        pool=cast(Any, None),
        channels={},
        scratch=folder / "scratch",
        records=records,
        secret=b"s" * 32,
        extras={"peers": toys},
    )
    built = await app.build(deps, settings)
    common = ServiceSettings.load({"data": str(folder), "listen": "127.0.0.1:0", "drain_s": 0.0})
    inner = build_server([each for each in built if not each.is_public], common)
    door = Server([each for each in built if each.is_public], common, doors=[CallersByName()])
    try:
        await inner.start()
        await door.start()
        await inner.warmed()
        await door.warmed()
        async with (
            build_channel(door.target, peer="orchestrator", is_retried=False) as outside,
            build_channel(inner.target, peer="orchestrator", is_retried=False) as inside,
        ):
            people = IdentityServiceStub(outside)
            yield JobsHouse(records, store, toys, JobServiceStub(outside), OrchestratorServiceStub(inside), people)
    finally:
        await door.stop()
        await inner.stop()
        await records.close()


async def blurred(house: JobsHouse, *, tenant: str = "anna", content: bytes = b"video") -> pb.JobSpec:
    """A spec that needs no face."""
    spec = pb.JobSpec(asset_id=await house.asset(content, tenant=tenant))
    spec.background.kind = compositor_pb2.BACKGROUND_KIND_BLUR
    return spec


async def faced(house: JobsHouse, content: bytes, **options: Any) -> tuple[pb.JobSpec, str]:
    """A spec that puts on an enrolled face, and the face's id."""
    face = await house.identity(**options)
    spec = pb.JobSpec(asset_id=await house.asset(content))
    spec.identities.add(name="face1", identity_id=face)
    return spec, face
