"""A public server with assets alone, for callers of two tenants: the tenant is in a call's metadata."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from masquerade.v1 import asset_pb2 as pb
from masquerade.v1 import job_pb2
from masquerade.v1.asset_pb2_grpc import AssetServiceStub
from services.common.access.callers import Caller, set_caller
from services.common.channels import build_channel
from services.common.deps import ServiceDeps
from services.common.interceptors import CallInterceptor, CallName, Metadata
from services.common.pool import Pool
from services.common.records.database import Records
from services.common.records.tables import audit, jobs
from services.common.server import Server
from services.common.store.folder import FolderStore
from services.common.store.objects import ObjectStore
from services.ingest.app import build
from services.ingest.settings import IngestSettings

PART = 64 << 10
"""The least that the setting takes: every upload of some hundred kilobytes has several."""

SECRET = b"of this installation"
JOB = "job_" + "a" * 26


class TenantsDoor(CallInterceptor):
    """Believes every caller: the tenant is in the metadata."""

    async def before(self, call: CallName, metadata: Metadata) -> None:
        tenant = str(dict(metadata)["tenant"])
        set_caller(Caller(tenant, f"key:{tenant}"))


@dataclass
class House:
    """A public server with assets alone, and what it stands on."""

    folder: Path
    store: ObjectStore
    records: Records
    stub: AssetServiceStub

    async def upload(self, *requests: pb.UploadAssetRequest, tenant: str = "a") -> pb.UploadAssetResponse:
        return await self.stub.UploadAsset(iter(requests), metadata=(("tenant", tenant),), timeout=20)

    async def whole(self, content: bytes, *, tenant: str = "a", **named: str) -> pb.Asset:
        answer = await self.upload(*whole(content, **named), tenant=tenant)
        assert answer.confirmed_bytes == len(content)
        return answer.asset

    async def confirmed(self, content: bytes, upload_id: str = "u", *, tenant: str = "a") -> int:
        return (await self.upload(begin(content, upload_id), tenant=tenant)).confirmed_bytes

    async def get(self, asset: str, *, tenant: str = "a") -> pb.Asset:
        asked = pb.GetAssetRequest(id=asset)
        return (await self.stub.GetAsset(asked, metadata=(("tenant", tenant),), timeout=20)).asset

    async def delete(self, asset: str, *, tenant: str = "a") -> None:
        await self.stub.DeleteAsset(pb.DeleteAssetRequest(id=asset), metadata=(("tenant", tenant),), timeout=20)

    async def list(self, *, tenant: str = "a", **asked: Any) -> pb.ListAssetsResponse:
        return await self.stub.ListAssets(pb.ListAssetsRequest(**asked), metadata=(("tenant", tenant),), timeout=20)

    async def download(self, name: str, *, tenant: str = "a", **asked: Any) -> list[pb.DownloadAssetResponse]:
        request = pb.DownloadAssetRequest(id=name, **asked)
        call = self.stub.DownloadAsset(request, metadata=(("tenant", tenant),), timeout=20)
        return [piece async for piece in call]

    async def rows(self, table: sa.Table) -> Sequence[Any]:
        return await self.records.read(lambda connection: connection.execute(sa.select(table)).all())

    async def insert(self, table: sa.Table, **values: Any) -> None:
        await self.records.write(lambda connection: connection.execute(table.insert().values(**values)))

    async def audited(self) -> list[tuple[str, str, str]]:
        return [(row.action, row.object, row.decision) for row in await self.rows(audit)]

    async def objects(self, tenant: str = "a") -> list[str]:
        return [info.key for info in await self.store.list(tenant)]

    async def add_job(self, *, tenant: str = "a", state: int = job_pb2.JOB_STATE_RENDERING, **values: Any) -> None:
        texts = dict.fromkeys(("request_id", "digest", "asked", "spec"), "")
        numbers = dict.fromkeys(("number", "created_ms", "changed_ms"), 0)
        await self.insert(jobs, id=JOB, tenant=tenant, state=state, **texts, **numbers, **values)


@contextlib.asynccontextmanager
async def serving(
    folder: Path, store: ObjectStore | None = None, records: Records | None = None, **settings: Any
) -> AsyncIterator[House]:
    """A server of its own; several of them on one store and one database are replicas."""
    async with contextlib.AsyncExitStack() as stack:
        store = store or FolderStore(folder / "objects")
        pool = Pool(1)
        stack.push_async_callback(pool.close)
        if records is None:
            records = Records(f"sqlite:///{folder / 'records.sqlite'}")
            stack.push_async_callback(records.close)
        given = {"upload_part_bytes": PART, "data": folder, "listen": "127.0.0.1:0", **settings}
        chosen = IngestSettings(**given)
        deps = ServiceDeps(
            store=store, pool=pool, channels={}, scratch=folder / "scratch", records=records, secret=SECRET
        )
        doors = [each for each in await build(deps, chosen) if each.is_public]
        server = Server(doors, chosen, doors=(TenantsDoor(),))
        await server.start()
        stack.push_async_callback(server.stop, drain_s=1)
        await server.warmed()
        channel = build_channel(server.target, peer="assets", is_retried=False)
        stack.push_async_callback(channel.close)
        yield House(folder, store, records, AssetServiceStub(channel))


def some_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def begin(content: bytes, upload_id: str = "u", name: str = "clip.mp4") -> pb.UploadAssetRequest:
    return pb.UploadAssetRequest(begin=pb.UploadBegin(name=name, upload_id=upload_id, size_bytes=len(content)))


def chunk(content: bytes, offset: int, end: int) -> pb.UploadAssetRequest:
    return pb.UploadAssetRequest(chunk=pb.UploadChunk(offset=offset, chunk=content[offset:end]))


def chunks(content: bytes, *, first: int = 0, step: int = 25_000) -> Iterable[pb.UploadAssetRequest]:
    for offset in range(first, len(content), step):
        yield chunk(content, offset, offset + step)


def finish(content: bytes) -> pb.UploadAssetRequest:
    return pb.UploadAssetRequest(finish=pb.UploadFinish(digest=sha(content)))


def whole(content: bytes, *, upload_id: str = "u", name: str = "clip.mp4") -> list[pb.UploadAssetRequest]:
    return [begin(content, upload_id, name), *chunks(content), finish(content)]


VIDEO = some_bytes(3 * PART + 1234)
