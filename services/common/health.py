"""Health as it is: NOT_SERVING until a service is warm and again as soon as it is to stop."""

from __future__ import annotations

from collections.abc import Iterable

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WHOLE = ""
"""The name under which the whole server is asked for."""


class Health:
    """The standard health service for a server and each of its services."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = tuple(services)
        self._servicer = health_aio.HealthServicer()
        self._warm: set[str] = set()

    @property
    def name(self) -> str:
        """Full name of the service, for reflection."""
        return str(health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Put it on a server."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def begin(self) -> None:
        """Nothing serves yet; the library's own beginning is SERVING."""
        for service in (WHOLE, *self._services):
            await self._servicer.set(service, NOT_SERVING)

    async def set_warm(self, service: str) -> None:
        """This one serves; the whole does as soon as all do (and never if there is none)."""
        self._warm.add(service)
        await self._servicer.set(service, SERVING)
        if self._services and self._warm.issuperset(self._services):
            await self._servicer.set(WHOLE, SERVING)

    async def end(self) -> None:
        """NOT_SERVING from now on, whatever is set later."""
        await self._servicer.enter_graceful_shutdown()
