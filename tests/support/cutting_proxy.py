"""A TCP proxy that cuts its connections when it is told to, or after so many bytes: a bad line between two programs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

PIECE = 16 << 10


class CuttingProxy:
    """Hands bytes on in both directions.

    Attributes:
        target: host:port where it listens.
        connections: how many there were so far.
        down: bytes that came from the server.
        up: bytes that came from clients.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._cut_down: list[int] = []
        self._cut_up: list[int] = []
        self.target = ""
        self.connections = self.down = self.up = 0

    async def until_up(self, count: int) -> None:
        """Return when so many bytes in all have come from clients."""
        while self.up < count:
            self._moved.clear()
            await self._moved.wait()

    def cut(self) -> None:
        """Break all connections, without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def end(self) -> None:
        """Break all connections, and leave none to be found by the garbage collector in another test."""
        self.cut()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving, timeout=10)
        # What was aborted closes its socket in the loop's next turns.
        for _ in range(3):
            await asyncio.sleep(0)

    def cut_after(self, *, down: tuple[int, ...] = (), up: tuple[int, ...] = ()) -> None:
        """Break all connections once so many bytes in all have come from the server, or from clients."""
        self._cut_down += [self.down + count for count in down]
        self._cut_up += [self.up + count for count in up]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        self._writers.add(writer)
        host, _, port = self._target.rpartition(":")
        try:
            there, here = await asyncio.open_connection(host, int(port))
        except BaseException as error:
            self._writers.discard(writer)
            writer.transport.abort()
            if isinstance(error, OSError):
                return
            raise
        self._writers.add(here)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hand_on(reader, here, is_up=True))
                group.create_task(self._hand_on(there, writer, is_up=False))
        finally:
            self._writers -= {writer, here}
            for each in (writer, here):
                each.transport.abort()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool) -> None:
        with contextlib.suppress(OSError):
            while content := await reader.read(PIECE):
                self._moved.set()
                if is_up:
                    self.up += len(content)
                else:
                    self.down += len(content)
                writer.write(content)
                await writer.drain()
                for done, limits in ((self.up, self._cut_up), (self.down, self._cut_down)):
                    if limits and done >= limits[0]:
                        limits.pop(0)
                        self.cut()
        for each in self._writers & {writer}:
            each.transport.abort()


@contextlib.asynccontextmanager
async def cutting_proxy(target: str) -> AsyncIterator[CuttingProxy]:
    """Listen before a server."""
    proxy = CuttingProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        async with asyncio.timeout(10):
            await server.wait_closed()
