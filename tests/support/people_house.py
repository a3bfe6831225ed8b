"""The identities' door on a server of its own, with a toy detector behind it: no model, no picture is understood."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import sqlalchemy as sa
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from masquerade.v1 import detector_pb2, media_pb2
from masquerade.v1.detector_pb2_grpc import DetectorServiceServicer, add_DetectorServiceServicer_to_server
from masquerade.v1.identity_pb2_grpc import IdentityServiceStub
from services.common import errors
from services.common.access.callers import Caller, set_caller
from services.common.channels import build_channel
from services.common.interceptors import Errors
from services.common.records.database import Records
from services.common.records.tables import assets, audit, job_identities, jobs
from services.common.store.folder import FolderStore
from services.common.store.objects import keyed_digest
from services.orchestrator.client import WirePeers
from services.orchestrator.identities.opening import registration
from services.orchestrator.keys import job_prefix
from services.orchestrator.progress import JobState

SECRET = b"s" * 32
ANNA, BOB = Caller("anna", "key:anna"), Caller("bob", "key:bob")
FAULTS = {
    b"no face": errors.NoFaceInPortrait,
    b"crowd": errors.SeveralFacesInPortrait,
    b"turned": errors.FaceTurned,
}


def portrait(canary: str = "") -> bytes:
    """A picture that is like no other, with words in it that can be searched for."""
    said = PngInfo()
    said.add_text("Comment", canary or secrets.token_hex(16))
    file = io.BytesIO()
    noise = np.random.default_rng(secrets.randbits(64)).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(file, "PNG", pnginfo=said)
    return file.getvalue()


def found_in(folder: Path, word: bytes) -> list[str]:
    """Files, databases and their journals among them, that hold a word or are named by it."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if word in path.read_bytes() or word in os.fsencode(path):
                found.append(str(path))
    return found


class ToyDetector(DetectorServiceServicer):
    """Enrols whatever it is given, unless its bytes name a fault; the identity holds the bytes of the portraits."""

    def __init__(self, store: FolderStore) -> None:
        self.store = store
        self.asked: list[detector_pb2.EnrollRequest] = []
        self.fails: Exception | None = None

    async def Enroll(self, request: detector_pb2.EnrollRequest, context: Any) -> detector_pb2.EnrollResponse:
        self.asked.append(request)
        if self.fails is not None:
            raise self.fails
        pictures = []
        # As the real one does, it opens all before it looks at any.
        contents = [await self.store.get_bytes(each.asset_key) for each in request.portraits]
        for each, content in zip(request.portraits, contents, strict=True):
            if content == b"text":
                raise errors.NotAnImage(path=each.name, found="text")
        for each, content in zip(request.portraits, contents, strict=True):
            if content in FAULTS:
                raise FAULTS[content](portrait=each.name)
            pictures.append(content)
        stored = await self.store.put_bytes(request.output_key, b"IDENTITY" + b"".join(pictures))
        return detector_pb2.EnrollResponse(
            identity=media_pb2.ObjectRef(key=stored.key, digest=stored.digest, size_bytes=stored.bytes),
            quality=[
                detector_pb2.PortraitQuality(name=each.name, face_width_px=120.5, sharpness=30.0, warnings=["soft"])
                for each in request.portraits
            ],
        )


class _CallersByName(grpc.aio.ServerInterceptor):
    """Takes everybody's word for who they are."""

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(details)
        named = dict(details.invocation_metadata).get("who")
        caller = {"anna": ANNA, "bob": BOB}.get(str(named))

        async def behaviour(request: Any, context: Any) -> Any:
            set_caller(caller)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


@dataclass
class PeopleHouse:
    """The door, and what lies behind it."""

    folder: Path
    records: Records
    store: FolderStore
    detector: ToyDetector
    stub: Any
    stopped: list[tuple[str, str, errors.MasqueradeError]] = field(default_factory=list)
    stop_fails: Exception | None = None
    faces_at_stop: list[int] = field(default_factory=list)
    """Objects of identities that were still there when a job was told to stop."""

    async def ask(self, method: str, request: Any, *, who: Caller = ANNA) -> Any:
        """Call a method as somebody."""
        return await getattr(self.stub, method)(request, metadata=(("who", who.tenant),), timeout=30)

    async def asset(self, content: bytes, *, name: str = "anna.png", tenant: str = "anna", has_row: bool = True) -> str:
        """Store a picture as the asset service would; gives its id."""
        digest = hashlib.sha256(content).hexdigest()
        named = keyed_digest(tenant, digest, SECRET)
        stored = await self.store.put_bytes(f"{tenant}/assets/{named}", content)
        values = {
            "id": f"asset_{named}",
            "tenant": tenant,
            "key": stored.key,
            "name": name,
            "size_bytes": stored.bytes,
            "digest": stored.digest,
            "number": secrets.randbits(40),
            "created_ms": 1,
            "used_ms": 1,
        }
        if has_row:
            await self.records.write(lambda c: c.execute(assets.insert().values(**values)))
        return f"asset_{named}"

    async def job(
        self, identities: Sequence[str], *, state: JobState, tenant: str = "anna", canary: bytes = b"face"
    ) -> str:
        """A job that uses identities, and what it has written so far."""
        job = f"job_{secrets.token_hex(13)}"
        values = {
            "id": job,
            "tenant": tenant,
            "request_id": job,
            "digest": "",
            "asked": "{}",
            "spec": "{}",
            "state": int(state),
            "number": secrets.randbits(40),
            "created_ms": 1,
            "changed_ms": 1,
        }

        def write(connection: sa.Connection) -> None:
            connection.execute(jobs.insert().values(**values))
            for identity in identities:
                connection.execute(job_identities.insert().values(job=job, identity=identity))

        await self.records.write(write)
        prefix = job_prefix(tenant=tenant, job=job)
        for place in (
            "index/000000-a",
            "analyse/000000-a",
            "identity/000000-a",
            "link/000000-a",
            "link/000000-a-parts/textures",
            "render/000000-a.mkv",
            "finalise/000000-a.mp4",
        ):
            await self.store.put_bytes(f"{prefix}{place}", canary + place.encode())
        return job

    async def stages(self, job: str, *, tenant: str = "anna") -> set[str]:
        """Stages of which something of a job is left."""
        prefix = job_prefix(tenant=tenant, job=job)
        return {each.key.removeprefix(prefix).split("/")[0] for each in await self.store.list(prefix)}

    async def lines(self) -> list[tuple[str, str, str]]:
        """Action, object and decision of each line of the audit log."""
        rows = await self.records.read(lambda c: c.execute(sa.select(audit).order_by(audit.c.sequence)).all())
        return [(row.action, row.object, row.decision) for row in rows]

    async def stop(self, tenant: str, job: str, error: errors.MasqueradeError) -> None:
        """What the book of jobs does: the job is failed, and nothing of it runs any more."""
        self.faces_at_stop.append(len(await self.store.list(f"{tenant}/identities")))
        if self.stop_fails is not None:
            raise self.stop_fails
        self.stopped.append((tenant, job, error))
        state = int(JobState.FAILED)
        await self.records.write(lambda c: c.execute(sa.update(jobs).where(jobs.c.id == job).values(state=state)))


@contextlib.asynccontextmanager
async def people_house(
    folder: Path, *, database: str = "", sweep_s: float = 3600.0, detector: grpc.aio.Channel | None = None
) -> AsyncIterator[PeopleHouse]:
    """Open it in a data folder; with a detector of its own, or a real one."""
    records = Records(database or f"sqlite:///{folder / 'records.sqlite'}")
    store = FolderStore(folder / "objects")
    toy = ToyDetector(store)
    server = grpc.aio.server(interceptors=[Errors(), _CallersByName()])
    add_DetectorServiceServicer_to_server(toy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    channel = build_channel(f"127.0.0.1:{port}", peer="detector")
    house = PeopleHouse(folder, records, store, toy, IdentityServiceStub(channel))
    peers = WirePeers({"detector": detector or channel}, step_s=20)
    door = registration(records=records, store=store, peers=peers, secret=SECRET, stop=house.stop, sweep_s=sweep_s)
    door.add(server)
    assert door.is_public
    assert door.warm is not None
    assert door.close is not None
    await server.start()
    await door.warm()
    try:
        yield house
    finally:
        await door.close()
        await channel.close()
        await server.stop(0)
        await records.close()
