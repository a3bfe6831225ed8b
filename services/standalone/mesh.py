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

from services.common.channels import build_channel
from services.common.deps import Registration, ServiceDeps
from services.common.inference.opening import open_runtime
from services.common.inference.runtime import Runtime
from services.common.lanes.handshake import lane_service
from services.common.pool import Pool
from services.common.server import Server, build_server
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.common.store.objects import ObjectStore
from services.standalone.data_folder import DataFolder

SERVICES = ("ingest", "detector", "swapper", "segmenter", "compositor", "orchestrator")
"""In the order in which they start: who is called before who calls."""

Builder = Callable[[ServiceDeps], Awaitable[list[Registration]]]


@dataclass(frozen=True, slots=True)
class Mesh:
    """Running services.

    Attributes:
        targets: address by the short name of the service.
        channels: an open channel to each.
        store: the store that all of them use.
        runtime: where their models run.
        pool: their CPU work.
        folder: the data folder.
        servers: for what only tests and tools ask.
    """

    targets: Mapping[str, str]
    channels: Mapping[str, grpc.aio.Channel]
    store: ObjectStore
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
    services: Sequence[str] = SERVICES,
) -> AsyncIterator[Mesh]:
    """Run services until the block ends, then drain them.

    Args:
        folder: owned by the caller.
        settings: what all services share.
        flags: settings from the command line, for every service's own settings.
        first_port: listen on loopback ports from this one on, for other programs; else on sockets in a private folder.
        services: which, by short name.
    """
    async with contextlib.AsyncExitStack() as stack:
        sockets = Path(tempfile.mkdtemp(prefix="masquerade-"))
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        pool = Pool(settings.workers)
        stack.push_async_callback(pool.close)
        runtime = open_runtime(settings, pool=pool)
        stack.push_async_callback(runtime.close)
        store = FolderStore(folder.objects)
        await store.sweep()
        stack.push_async_callback(store.close)
        shutil.rmtree(folder.scratch, ignore_errors=True)

        targets = {name: f"unix:{sockets}/{name}" for name in services}
        if first_port is not None:
            targets = {name: f"127.0.0.1:{first_port + SERVICES.index(name)}" for name in services}
        channels: dict[str, grpc.aio.Channel] = {}
        for name, target in targets.items():
            channels[name] = build_channel(target, peer=name)
            stack.push_async_callback(channels[name].close)

        servers: dict[str, Server] = {}
        for name in services:
            deps = ServiceDeps(
                store=store, pool=pool, channels=channels, scratch=folder.scratch / name, runtime=runtime
            )
            server_flags = {**(flags or {}), "listen": targets[name]}
            registrations = [*await _builder(name, server_flags)(deps), lane_service()]
            servers[name] = build_server(registrations, ServiceSettings.load({**server_flags, "metrics_listen": ""}))
            stack.push_async_callback(servers[name].stop)
            await servers[name].start()
        yield Mesh(targets, channels, store, runtime, pool, folder, servers)


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
