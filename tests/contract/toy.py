"""A service with one method of each kind, on bytes: what tests put behind the interceptors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from services.common.channels import build_channel
from services.common.deps import Registration
from services.common.server import Server, build_server
from services.common.settings import ServiceSettings

NAME = "toy.ToyService"
METHODS = {
    "Unary": "unary_unary",
    "ServerStream": "unary_stream",
    "ClientStream": "stream_unary",
    "Bidi": "stream_stream",
}
KINDS = {"Unary": "unary", "ServerStream": "server_stream", "ClientStream": "client_stream", "Bidi": "bidi_stream"}

Work = Callable[[bytes, Any], Awaitable[bytes]]


async def echo(request: bytes, _context: Any) -> bytes:
    return request


class Toy:
    """Answers each request with what `work` makes of it."""

    def __init__(self, work: Work = echo) -> None:
        self.work = work
        self.is_closed = False
        self.warming = asyncio.Event()
        self.warming.set()

    async def unary(self, request: bytes, context: Any) -> bytes:
        return await self.work(request, context)

    async def server_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for part in request.split(b","):
            yield await self.work(part, context)

    async def client_stream(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b",".join([await self.work(request, context) async for request in requests])

    async def bidi(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await self.work(request, context)

    async def close(self) -> None:
        self.is_closed = True

    async def warm(self) -> None:
        await self.warming.wait()

    def registration(self) -> Registration:
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),  # type: ignore[arg-type]
            "ServerStream": grpc.unary_stream_rpc_method_handler(self.server_stream),  # type: ignore[arg-type]
            "ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),  # type: ignore[arg-type]
            "Bidi": grpc.stream_stream_rpc_method_handler(self.bidi),  # type: ignore[arg-type]
        }
        generic = grpc.method_handlers_generic_handler(NAME, handlers)
        return Registration(NAME, lambda server: server.add_generic_rpc_handlers((generic,)), self.warm, self.close)


async def requests_of(text: bytes) -> AsyncIterator[bytes]:
    for part in text.split(b","):
        yield part


async def ask(channel: grpc.aio.Channel, method: str, text: bytes, **options: Any) -> bytes:
    """Call a method of any kind with words between commas; gives the answers likewise."""
    callable_: Any = getattr(channel, METHODS[method])(f"/{NAME}/{method}")
    request: Any = requests_of(text) if method in ("ClientStream", "Bidi") else text
    call = callable_(request, **options)
    if method in ("Unary", "ClientStream"):
        answer: bytes = await call
        return answer
    return b",".join([part async for part in call])


@asynccontextmanager
async def served(toy: Toy, **settings: Any) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    """The toy on a free port and a channel to it."""
    server = build_server([toy.registration()], ServiceSettings(**{"listen": "127.0.0.1:0", **settings}))
    await server.start()
    channel = build_channel(server.target, peer="toy")
    try:
        yield server, channel
    finally:
        await channel.close()
        await server.stop(drain_s=0)
