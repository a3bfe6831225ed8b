"""A gRPC server as every service runs it: health that is true, calls that end before it does, one place for limits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from services.common import errors, metrics
from services.common.access.addresses import is_socket
from services.common.access.wire import MeshWire, ServerTls
from services.common.deps import Registration
from services.common.health import Health
from services.common.interceptors import server_interceptors
from services.common.settings import ServiceSettings

MESSAGE_BYTES: Final = 16 << 20
"""Hard cap of one message. A larger one holds the event loop for tens of milliseconds; frames travel in the ring."""

Options: TypeAlias = tuple[tuple[str, int], ...]

OPTIONS: Final[Options] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # Two processes on one port by mistake would both "work", each with half of the calls.
    ("grpc.so_reuseport", 0),
    # Clients ping every 30 s; without these the server takes that for an attack.
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_log = logging.getLogger(__name__)


class Server:
    """Services on one address. `start`, then `stop`; `target` is what a channel connects to."""

    def __init__(
        self,
        registrations: Sequence[Registration],
        settings: ServiceSettings,
        *,
        doors: Sequence[grpc.aio.ServerInterceptor] = (),
        options: Options = (),
        tls: ServerTls | None = None,
    ) -> None:
        """Put the services together; nothing listens yet.

        Args:
            registrations: what it serves.
            settings: where it listens and what it bears.
            doors: what it asks of its callers, between deadline and admission.
            options: of gRPC, instead of those of the same name in OPTIONS.
            tls: unset means plain text.
        """
        self._registrations = tuple(registrations)
        self._settings = settings
        self._tls = tls
        self._health = Health(registration.service for registration in registrations)
        self._server = grpc.aio.server(
            options=tuple({**dict(OPTIONS), **dict(options)}.items()),
            interceptors=server_interceptors(calls_at_most=settings.rpcs_at_most, doors=doors),
        )
        for registration in registrations:
            registration.add(self._server)
        self._health.add_to(self._server)
        if settings.reflection:
            names = [registration.service for registration in registrations]
            reflection.enable_server_reflection([*names, self._health.name, reflection.SERVICE_NAME], self._server)
        self._open = contextlib.AsyncExitStack()
        self._warming: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._target = settings.listen
        self.metrics_port: int | None = None

    @property
    def target(self) -> str:
        """What a channel connects to; known once started."""
        return self._target

    async def start(self) -> None:
        """Listen, answer, warm up in the background: health says NOT_SERVING until that is done."""
        await self._health.begin()
        self._target = self._bind(self._settings.listen)
        await self._server.start()
        await self._open.enter_async_context(metrics.loop_lag_watched())
        if self._settings.metrics_listen:
            exposition = metrics.Exposition(self._settings.metrics_listen)
            self.metrics_port = exposition.port
            self._open.push_async_callback(asyncio.to_thread, exposition.close)
        self._warming = asyncio.create_task(self._warm())
        _log.info("listening", extra={"target": self._target})

    async def warmed(self) -> None:
        """Return when every service serves; raise what its warming up raised."""
        if self._warming is not None:
            await asyncio.shield(self._warming)

    async def stop(self, *, drain_s: float | None = None) -> None:
        """Drain, then close.

        Args:
            drain_s: instead of the setting; calls still running then are cancelled.
        """
        if self._is_stopped:
            return
        begin = time.monotonic()
        await self.drain(drain_s=drain_s)
        await self.close()
        _log.info("stopped", extra={"seconds": round(time.monotonic() - begin, 3)})

    async def drain(self, *, drain_s: float | None = None) -> None:
        """Say NOT_SERVING, refuse new calls, let running ones end."""
        await self._health.end()
        if self._settings.drain_notice_s:
            await asyncio.sleep(self._settings.drain_notice_s)
        await self._server.stop(self._settings.drain_s if drain_s is None else drain_s)

    async def close(self) -> None:
        """Give back what the services hold, once no call runs."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        for registration in reversed(self._registrations):
            if registration.close is not None:
                await registration.close()
        await self._open.aclose()

    async def _warm(self) -> None:
        for registration in self._registrations:
            if registration.warm is not None:
                await registration.warm()
            await self._health.set_warm(registration.service)

    def _bind(self, listen: str) -> str:
        try:
            # On a unix socket the folder's rights say who may connect, and there is no name to check.
            if self._tls is None or is_socket(listen):
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, self._tls.credentials())
        except RuntimeError as error:
            raise errors.InvalidSetting(setting="listen", value=listen, problem="cannot be bound") from error
        if is_socket(listen):
            return listen
        host = listen.rpartition(":")[0]
        return f"{'127.0.0.1' if host in ('0.0.0.0', '[::]', '') else host}:{port}"


def build_server(
    registrations: Sequence[Registration], settings: ServiceSettings, *, wire: MeshWire | None = None
) -> Server:
    """A server for what services say to each other; for other systems see access.door.

    Args:
        registrations: what it serves.
        settings: where it listens and what it bears.
        wire: TLS between services; unset means as the settings say.

    Raises:
        InvalidSetting: the settings' certificates cannot be used.
    """
    wire = wire or MeshWire.of(settings)
    return Server(registrations, settings, tls=wire.server() if wire else None)


async def serve_until_told(servers: Sequence[Server]) -> None:
    """Serve until the process is told to stop (SIGTERM or SIGINT), then drain; for a service's `main`.

    Args:
        servers: in the order in which they start; they drain together and close in the other.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        for server in servers:
            await server.start()
        stopping = asyncio.create_task(told.wait())
        warming = asyncio.gather(*(server.warmed() for server in servers))
        either: set[asyncio.Future[Any]] = {stopping, warming}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not told.is_set():
                await warming
            await stopping
        finally:
            stopping.cancel()
            warming.cancel()
            await asyncio.gather(stopping, warming, return_exceptions=True)
    finally:
        # All at once: whoever watches a job for hours takes no time from those who only need some seconds.
        await asyncio.gather(*(server.drain() for server in servers))
        for server in reversed(servers):
            await server.close()
        _log.info("stopped")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
