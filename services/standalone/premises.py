"""Where a command works: in a house of its own, or as a guest in that of the command which came first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common import child
from services.common.channels import build_channel
from services.common.errors import DataFolderBusy, MasqueradeError, Unavailable
from services.common.lanes.registry import REGIONS
from services.common.store.objects import ObjectStore
from services.common.store.opening import open_store
from services.standalone import door, jobs
from services.standalone.clearing import clear
from services.standalone.data_folder import DataFolder
from services.standalone.logbook import logged_in
from services.standalone.mesh import Mesh, running_mesh
from services.standalone.settings import StandaloneSettings

log = logging.getLogger(__name__)

DOOR_OPENS_S: Final = 60.0
"""So long an owner may take from its lock to its door: it clears, and imports."""

VISITS_AT_MOST: Final = 10
_LOOK_S: Final = 0.1
_WARM_S: Final = 120.0

Say = Callable[[str], None]
T = TypeVar("T")


class Premises(Protocol):
    """What a command needs of the services, whoever runs them."""

    @property
    def channels(self) -> Mapping[str, grpc.aio.Channel]:
        """An open channel to each, by its short name."""

    @property
    def store(self) -> ObjectStore:
        """Where inputs are put and results are found."""

    @property
    def folder(self) -> DataFolder:
        """The data folder."""

    async def warmed(self) -> None:
        """Return when the services serve."""


@dataclass(frozen=True, slots=True)
class Visit:
    """`Premises` of another process."""

    channels: Mapping[str, grpc.aio.Channel]
    store: ObjectStore
    folder: DataFolder

    async def warmed(self) -> None:
        """See Premises."""
        until = time.monotonic() + _WARM_S
        stub: Any = health_pb2_grpc.HealthStub(self.channels["orchestrator"])
        while True:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_WARM_S)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            if time.monotonic() > until:
                raise Unavailable(peer="the command that owns the data folder", detail="it does not get ready")
            await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def house(
    settings: StandaloneSettings,
    flags: Mapping[str, object],
    *,
    first_port: int | None = None,
    public: str | None = None,
    say: Say | None = None,
) -> AsyncIterator[Mesh]:
    """The data folder owned and the six services running in it, until the block ends; then nothing is left of them.

    Guests are waited for at the end, unless this process is told a second time to stop.

    Args:
        settings: the command's.
        flags: for the services' own settings.
        first_port: for other programs, on loopback; unset means for this user alone.
        public: where other systems call; unset means on a socket for this user alone.
        say: told why it takes longer.

    Raises:
        DataFolderBusy: another process owns it.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(DataFolder(settings.data))
        if first_port is None:
            stack.enter_context(logged_in(folder.path, level=settings.log_level, days=settings.log_days))
        stack.callback(REGIONS.close)
        stack.push_async_callback(asyncio.to_thread, child.close_nursery)
        own = {**flags, "drain_s": settings.drain_s}
        mesh = await stack.enter_async_context(
            running_mesh(folder, settings, flags=own, first_port=first_port, public=public)
        )
        stack.enter_context(door.opened(folder.path, mesh.targets, mesh.public))
        clearing = asyncio.create_task(_cleared(mesh, older_than_s=settings.kept_hours * 3600))
        stack.push_async_callback(_ended, clearing)
        try:
            yield mesh
        finally:
            await _alone(folder, say)


@asynccontextmanager
async def premises(
    settings: StandaloneSettings, flags: Mapping[str, object], *, say: Say | None = None
) -> AsyncIterator[Premises]:
    """A house of its own, or a visit to that of the process which owns the data folder.

    A visit whose host dies or leaves ends in Unavailable; who then asks for premises again may become the owner.

    Raises:
        DataFolderBusy: another process owns it and does not open its door.
    """
    async with contextlib.AsyncExitStack() as stack:
        until = time.monotonic() + DOOR_OPENS_S
        place: Premises | None = None
        while place is None:
            try:
                place = await stack.enter_async_context(house(settings, flags, say=say))
            except DataFolderBusy:
                found = door.read_door(settings.data)
                if found is not None:
                    place = await stack.enter_async_context(_visit(found, settings))
                elif time.monotonic() > until:
                    raise
                else:
                    await asyncio.sleep(_LOOK_S)
        yield place


async def at_work(
    settings: StandaloneSettings,
    flags: Mapping[str, object],
    work: Callable[[Premises], Awaitable[T]],
    *,
    say: Say | None = None,
) -> T:
    """Do something on premises, again on others when the host of a visit has gone: what was finished there is found.

    Raises:
        Unavailable: hosts keep going away.
    """
    for attempt in range(1, VISITS_AT_MOST + 1):
        async with premises(settings, flags, say=say) as place:
            try:
                return await work(place)
            except Unavailable:
                if not isinstance(place, Visit) or attempt == VISITS_AT_MOST:
                    raise
        if say is not None:
            say("the command that ran the services has gone; taking over")
    raise AssertionError("the last attempt returns or raises")


@asynccontextmanager
async def _visit(found: door.Door, settings: StandaloneSettings) -> AsyncIterator[Visit]:
    async with contextlib.AsyncExitStack() as stack:
        folder = DataFolder(settings.data)
        stack.enter_context(door.as_guest(folder.path))
        channels: dict[str, grpc.aio.Channel] = {}
        for name, target in found.targets.items():
            channels[name] = build_channel(target, peer=name)
            stack.push_async_callback(channels[name].close)
        store = open_store(settings)
        stack.push_async_callback(store.close)
        yield Visit(channels, store, folder)


async def _cleared(mesh: Mesh, *, older_than_s: float) -> None:
    """Clear beside the work; what is not cleared now is the next command's."""
    try:
        await mesh.warmed()
        count = await clear(
            mesh.folder,
            mesh.records,
            mesh.store,
            tenant=jobs.TENANT,
            older_than_s=older_than_s,
            delete=lambda job: jobs.delete(mesh.channels["orchestrator"], job),
        )
    except (MasqueradeError, OSError):
        log.exception("old jobs were not cleared")
    else:
        if count:
            log.info("old jobs and inputs were cleared", extra={"fields": {"count": count}})


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _alone(folder: DataFolder, say: Say | None) -> None:
    """Return when no guest needs the services any more."""
    if not await asyncio.to_thread(door.has_guests, folder.path):
        return
    if say is not None:
        say("finishing what another command has begun here; interrupt again to leave at once")
    while await asyncio.to_thread(door.has_guests, folder.path):  # noqa: ASYNC110  the kernel rings no bell
        await asyncio.sleep(_LOOK_S)
