"""One call: its deadline, its key, its retries; errors rise as `ClientError`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import grpc
import grpc.aio

from masquerade.client.connection import Access
from masquerade.client.errors import ClientError, from_rpc_error

PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0)
"""Between the attempts at a stream that broke, each a little more or less; together longer than a mesh needs to start
again. gRPC itself repeats unary calls, and streams before their first answer."""

GROWTH_AT_MOST: Final = 16

_GONE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
"""How a stream ends that neither side wanted to end: the connection broke, the server stopped, or the server gives no
stream more time than this. We set no deadline and cancel none that we wait for."""

_WRITE_FAILED: Final = "Internal error from Core"
"""What gRPC for Python makes of the status, whatever it was, when a stream ends while a message is written to it."""

_LATER: Final = frozenset({"RATE_LIMITED", "OVERLOADED"})
"""Reasons that only mean `not so fast`. A quota that is used up is for people to look at."""


class Calls:
    """What the parts of a client share."""

    def __init__(self, access: Access, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self.channel = channel
        self.timeout_s = timeout_s
        self._metadata = access.metadata()

    async def ask(self, method: Any, request: Any, *, timeout_s: float | None = None) -> Any:
        """A unary call; when the mesh says `later`, it is made again then, as long as there is time.

        Raises:
            ClientError: whatever it ended with.
        """
        until = time.monotonic() + (timeout_s or self.timeout_s)
        growth = 1
        while True:
            try:
                return await method(
                    request, timeout=max(until - time.monotonic(), 0.001), metadata=self._metadata, wait_for_ready=False
                )
            except grpc.aio.AioRpcError as error:
                failed = from_rpc_error(error)
                if failed.reason not in _LATER or failed.retry_after_s is None:
                    raise failed from None
                # The time that is named is for one caller; when many wait for it, each waits longer every time.
                pause = failed.retry_after_s * growth * random.uniform(1.0, 1.3)
                growth = min(2 * growth, GROWTH_AT_MOST)
                if time.monotonic() + pause >= until:
                    raise failed from None
            await asyncio.sleep(pause)

    async def stream(self, method: Any, request: Any) -> AsyncGenerator[Any, None]:
        """Answers of a server stream.

        Raises:
            ClientError: whatever it ended with.
        """
        call = method(request, metadata=self._metadata)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()

    async def send(self, method: Any, requests: AsyncGenerator[Any, None]) -> Any:
        """A client stream; what reading the requests raises, rises here.

        Raises:
            ClientError: whatever it ended with.
        """
        call = method(metadata=self._metadata)
        try:
            async with aclosing(requests):
                # The mesh may answer before it has heard everything: that it refuses, or has it already.
                with contextlib.suppress(asyncio.InvalidStateError):
                    async for request in requests:
                        await call.write(request)
                    await call.done_writing()
            return await call
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INTERNAL and error.details() == _WRITE_FAILED:
                broken = grpc.StatusCode.UNAVAILABLE
                raise ClientError(broken.name, "the connection broke while a file was sent", code=broken) from None
            raise from_rpc_error(error) from None
        finally:
            call.cancel()


class Patience:
    """Pauses between attempts at a stream; progress in between starts them anew."""

    def __init__(self) -> None:
        self._failures = 0
        self._is_reached = False

    def reached(self) -> None:
        """The mesh has answered: if it goes away now, it is waited for."""
        self._is_reached = True

    def moved(self) -> None:
        """Something got through."""
        self._is_reached = True
        self._failures = 0

    async def after(self, error: ClientError) -> None:
        """Wait before the next attempt.

        Raises:
            ClientError: the given one, when trying again makes no sense.
        """
        is_later = error.reason in _LATER
        # Nobody answers at an address that was mistyped; gRPC has tried it five times already.
        is_gone = error.code in _GONE and self._is_reached
        if not (is_gone or is_later) or self._failures >= len(PAUSES_S):
            raise error
        pause = PAUSES_S[self._failures] * random.uniform(0.8, 1.2)
        self._failures += 1
        await asyncio.sleep(max(pause, (error.retry_after_s or 0.0) if is_later else 0.0))
