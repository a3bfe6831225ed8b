"""How a Decode stream ends with an error that its caller is sure to hear.

gRPC's asyncio client puts "Internal error from Core" in place of the peer's status when one of its writes is on the way
as the stream ends (seen in 4 of 5 streams that failed while credit was being granted). A peer that is about to fail
therefore says so in the stream; the caller stops granting and closes its side; and only then the status is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, Protocol, TypeAlias

from masquerade.v1 import ingest_pb2 as pb

LAST_WORDS: Final = pb.DecodeResponse()
"""An answer without a frame: an error follows."""

GRACE_S: Final = 2.0
"""How long a caller may take to close its side; then it gets the status all the same, and perhaps does not hear it."""

_MOST_PENDING = 1024
"""Grants read ahead. A caller has a few frames in flight; one that floods us waits in gRPC's own window."""

Requests: TypeAlias = AsyncIterator[pb.DecodeRequest]
Answers: TypeAlias = AsyncGenerator[pb.DecodeResponse, None]


class _Context(Protocol):
    async def send_initial_metadata(self, initial_metadata: Any) -> None: ...


async def answered(context: _Context, requests: Requests, answer: Callable[[Requests], Answers]) -> Answers:
    """The answers to a stream of requests, with last words before an error.

    A servicer passes on what this yields. The initial metadata is sent at once, because a caller says nothing before
    it knows that the stream was let in.

    Args:
        context: of the call.
        requests: what the caller says.
        answer: makes the answers, an async generator; it may stop reading requests whenever it likes.
    """
    await context.send_initial_metadata(())
    pending: asyncio.Queue[pb.DecodeRequest | None] = asyncio.Queue(_MOST_PENDING)
    reading = asyncio.create_task(_read_all(requests, pending), name="decode requests")
    try:
        async with aclosing(answer(_taken(pending))) as answers:
            async for response in answers:
                yield response
    except Exception:
        yield LAST_WORDS
        await _until_closed(pending)
        raise
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read_all(requests: Requests, pending: asyncio.Queue[pb.DecodeRequest | None]) -> None:
    async for request in requests:
        await pending.put(request)
    await pending.put(None)


async def _taken(pending: asyncio.Queue[pb.DecodeRequest | None]) -> Requests:
    while (request := await pending.get()) is not None:
        yield request
    # Left for the next reader, or it would wait for ever.
    pending.put_nowait(None)


async def _until_closed(pending: asyncio.Queue[pb.DecodeRequest | None]) -> None:
    """Drop what the caller still says until it has closed its side."""
    try:
        async with asyncio.timeout(GRACE_S):
            while await pending.get() is not None:
                continue
    except TimeoutError:
        # A caller that does not know of last words, or hangs: it must not hold us.
        return
