"""One service alone in a process: what `python -m services.segmenter` does, in a container or by hand.

What it offers to other systems is served on an address of its own, if the settings name one (`public_listen`).

In one process for all six, `services.standalone.mesh` does the same with one store, one pool and one runtime for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import grpc.aio

from services.common import child
from services.common.access.door import build_public_server
from services.common.access.wire import MeshWire
from services.common.channels import build_channel
from services.common.deps import Registration, ServiceDeps
from services.common.errors import MasqueradeError, exit_code_of
from services.common.inference.opening import open_runtime
from services.common.lanes.handshake import lane_service
from services.common.lanes.registry import REGIONS
from services.common.logs import configure_logs
from services.common.pool import Pool
from services.common.records.database import Records
from services.common.server import build_server, serve_until_told
from services.common.settings import ServiceSettings
from services.common.store.opening import open_store

S = TypeVar("S", bound=ServiceSettings)
PEERS = ("ingest", "detector", "swapper", "segmenter", "compositor", "orchestrator")


def run_service(
    settings_class: type[S], build: Callable[[ServiceDeps, S | None], Awaitable[list[Registration]]]
) -> NoReturn:
    """Serve until the process is told to stop, then end it with the exit status that says how it went."""
    try:
        settings = settings_class.load()
        configure_logs(service=settings.service, level=settings.log_level)
        asyncio.run(serve_alone(settings, build))
    except (MasqueradeError, KeyboardInterrupt) as error:
        print(error if isinstance(error, MasqueradeError) else "interrupted", file=sys.stderr)
        sys.exit(exit_code_of(error))
    sys.exit(0)


async def serve_alone(settings: S, build: Callable[[ServiceDeps, S | None], Awaitable[list[Registration]]]) -> None:
    """Open what the service stands on, serve until told to stop, close everything in turn."""
    async with contextlib.AsyncExitStack() as stack:
        if settings.lane_folder:
            REGIONS.folder = Path(settings.lane_folder)
        stack.callback(REGIONS.close)
        stack.push_async_callback(asyncio.to_thread, child.close_nursery)
        pool = Pool(settings.workers, gil_bound=settings.gil_bound_workers)
        stack.push_async_callback(pool.close)
        store = open_store(settings)
        stack.push_async_callback(store.close)
        runtime = open_runtime(settings, pool=pool)
        stack.push_async_callback(runtime.close)
        channels: dict[str, grpc.aio.Channel] = {}
        wire = MeshWire.of(settings)
        for name in PEERS:
            target, tls = getattr(settings, f"{name}_target"), wire.channel() if wire else None
            channels[name] = build_channel(target, peer=name, tls=tls)
            stack.push_async_callback(channels[name].close)
        scratch = settings.data / "scratch" / settings.service
        scratch.mkdir(parents=True, exist_ok=True)
        records = Records(settings.records_url())
        stack.push_async_callback(records.close)
        secret = settings.secret_bytes()
        deps = ServiceDeps(
            store=store,
            pool=pool,
            channels=channels,
            scratch=scratch,
            runtime=runtime,
            records=records,
            secret=secret,
        )
        built = await build(deps, settings)
        inner = [*(each for each in built if not each.is_public), lane_service()]
        servers = [build_server(inner, settings, wire=wire)]
        doors = [each for each in built if each.is_public]
        if doors and settings.public_listen:
            servers.append(
                build_public_server(doors, settings, listen=settings.public_listen, records=records, secret=secret)
            )
        await serve_until_told(servers)
