"""Every call from outside ends by itself: calls have a deadline, streams a longest pause and a longest time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from services.common import errors
from services.common.deadlines import set_remaining
from services.common.interceptors import CallInterceptor, CallName, Context
from services.common.status import to_grpc_status


class Ends(CallInterceptor):
    """Refuses calls without a deadline and ends streams that drip or never stop."""

    def __init__(self, *, idle_s: float, total_s: float) -> None:
        """Set the limits of streams.

        Args:
            idle_s: in which the caller's next message must come.
            total_s: after which a stream ends, whatever deadline its caller set.
        """
        self._idle_s = idle_s
        self._total_s = total_s

    @contextlib.asynccontextmanager
    async def around(self, call: CallName, context: Context) -> AsyncIterator[None]:
        """See CallInterceptor."""
        left = context.time_remaining()
        if call.kind == "unary":
            if left is None:
                raise errors.DeadlineRequired(rpc=f"{call.service}/{call.method}")
            yield
            return
        if left is None or left > self._total_s:
            set_remaining(self._total_s)
        limit = asyncio.timeout(self._total_s)
        over = errors.DeadlineExceeded(what="a stream", limit_s=f"{self._total_s:g}")
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise over from None
            raise
        except GeneratorExit:
            if limit.expired() and not context.cancelled():
                # gRPC was waiting for its reader when the time was over: it only lets go of the handler then, and the
                # caller would wait for an end that nobody tells.
                with contextlib.suppress(grpc.aio.AbortError):
                    await context.abort_with_status(to_grpc_status(over))
            raise

    async def requests(self, call: CallName, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """See CallInterceptor."""
        iterator = aiter(messages)
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    message = await anext(iterator)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise errors.DeadlineExceeded(
                    what="the next message of a stream",
                    limit_s=f"{self._idle_s:g}",
                    remedy="send on, or end the stream and take it up later",
                ) from None
            yield message
