"""The six services in one process: each on an address of its own, all on one loop, one pool, one runtime, one store.

They talk to each other over the contract, as they do between machines; only the addresses differ.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from services.common.access.addresses import is_local
from services.common.access.door import build_public_server
from services.common.access.wire import MeshWire
from services.common.channels import build_channel
from services.common.deps import Registration, ServiceDeps
from services.common.inference.opening import open_runtime
from services.common.inference.runtime import Runtime
from services.common.lanes.handshake import lane_service
from services.common.pool import Pool
from services.common.records.database import Records
from services.common.server import Server, build_server
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.common.store.objects import ObjectStore
from services.common.store.opening import open_store
from services.standalone.data_folder import DataFolder

SERVICES = ("ingest", "detector", "swapper", "segmenter", "compositor", "orchestrator")
"""In the order in which they start: who is called before who calls."""

PUBLIC = "public"
"""Name of the server for other systems."""

Builder = Callable[[ServiceDeps], Awaitable[list[Registration]]]


@dataclass(frozen=True, slots=True)
class Mesh:
    """Running services.

    Attributes:
        targets: address by the short name of the service.
        channels: an open channel to each.
        public: address of the public services; empty where none is served.
        store: the store that all of them use.
        records: rows of jobs, assets and identities.
        runtime: where their models run.
        pool: their CPU work.
        folder: the data folder.
        servers: for what only tests and tools ask.
    """

    targets: Mapping[str, str]
    channels: Mapping[str, grpc.aio.Channel]
    public: str
    store: ObjectStore
    records: Records
    runtime: Runtime
    pool: Pool
    folder: DataFolder
    servers: Mapping[str, Server] = field(repr=False)

    async def warmed(self) -> None:
        """Return when every service serves; raise what its warming up raised."""
        for server in self.servers.values():
            await server.warmed()


@asynccontextmanager
async def running_mesh(
    folder: DataFolder,
    settings: ServiceSettings,
    *,
    flags: Mapping[str, object] | None = None,
    first_port: int | None = None,
    public: str | None = None,
    services: Sequence[str] = SERVICES,
) -> AsyncIterator[Mesh]:
    """Run services until the block ends, then drain them.

    Args:
        folder: owned by the caller.
        settings: what all services share.
        flags: settings from the command line, for every service's own settings.
        first_port: listen on loopback ports from this one on, for other programs; else on sockets in a private folder.
        public: where other systems call; unset means a socket in a private folder, which only this user can open.
        services: which, by short name.
    """
    async with contextlib.AsyncExitStack() as stack:
        sockets = Path(tempfile.mkdtemp(prefix="masquerade-"))
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        pool = Pool(settings.workers)
        stack.push_async_callback(pool.close)
        runtime = open_runtime(settings, pool=pool)
        stack.push_async_callback(runtime.close)
        store = open_store(settings)
        if isinstance(store, FolderStore):
            await store.sweep()
        stack.push_async_callback(store.close)
        shutil.rmtree(folder.scratch, ignore_errors=True)
        records = Records(settings.records_url())
        stack.push_async_callback(records.close)
        secret = settings.secret_bytes()

        targets = {name: f"unix:{sockets}/{name}" for name in services}
        if first_port is not None:
            targets = {name: f"127.0.0.1:{first_port + SERVICES.index(name)}" for name in services}
        channels: dict[str, grpc.aio.Channel] = {}
        wire = MeshWire.of(settings)
        for name, target in targets.items():
            channels[name] = build_channel(target, peer=name, tls=wire.channel() if wire else None)
            stack.push_async_callback(channels[name].close)

        servers: dict[str, Server] = {}
        doors: list[Registration] = []
        for name in services:
            deps = ServiceDeps(
                store=store,
                pool=pool,
                channels=channels,
                scratch=folder.scratch / name,
                runtime=runtime,
                records=records,
                secret=secret,
            )
            server_flags = {**(flags or {}), "listen": targets[name]}
            built = await _builder(name, server_flags)(deps)
            doors += [each for each in built if each.is_public]
            registrations = [*(each for each in built if not each.is_public), lane_service()]
            servers[name] = build_server(registrations, ServiceSettings.load({**server_flags, "metrics_listen": ""}))
            stack.push_async_callback(servers[name].stop)
            await servers[name].start()
        if doors:
            listen = public or f"unix:{sockets}/{PUBLIC}"
            servers[PUBLIC] = _public_server(doors, {**(flags or {}), "listen": listen}, records, secret)
            stack.push_async_callback(servers[PUBLIC].stop)
            await servers[PUBLIC].start()
        door = servers[PUBLIC].target if doors else ""
        yield Mesh(targets, channels, door, store, records, runtime, pool, folder, servers)


def _public_server(
    doors: Sequence[Registration], flags: Mapping[str, object], records: Records, secret: bytes
) -> Server:
    """One address for all public services, with a lock on it unless only this machine can reach it."""
    settings = ServiceSettings.load({**flags, "metrics_listen": ""})
    if is_local(settings.listen) and settings.origin("access") == "default":
        settings = settings.model_copy(update={"access": "open"})
    return build_public_server(doors, settings, listen=settings.listen, records=records, secret=secret)


def _builder(name: str, flags: Mapping[str, object]) -> Builder:
    """A service's own wiring with its own settings; imported when it is run, so that the command starts fast."""
    match name:
        case "ingest":
            from services.ingest import app as ingest
            from services.ingest.settings import IngestSettings

            return lambda deps: ingest.build(deps, IngestSettings.load(flags))
        case "detector":
            from services.detector import app as detector
            from services.detector.settings import DetectorSettings

            return lambda deps: detector.build(deps, DetectorSettings.load(flags))
        case "swapper":
            from services.swapper import app as swapper
            from services.swapper.settings import SwapperSettings

            return lambda deps: swapper.build(deps, SwapperSettings.load(flags))
        case "segmenter":
            from services.segmenter import app as segmenter
            from services.segmenter.settings import SegmenterSettings

            return lambda deps: segmenter.build(deps, SegmenterSettings.load(flags))
        case "compositor":
            from services.compositor import app as compositor
            from services.compositor.settings import CompositorSettings

            return lambda deps: compositor.build(deps, CompositorSettings.load(flags))
        case "orchestrator":
            from services.orchestrator import app as orchestrator
            from services.orchestrator.settings import OrchestratorSettings

            return lambda deps: orchestrator.build(deps, OrchestratorSettings.load(flags))
    raise ValueError(f"no service is called {name}")
