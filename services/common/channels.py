"""Channels to peers: errors of a peer rise here as what they were there, deadlines and log fields go along.

The stubs take such a channel as any other. It wraps calls itself and uses no client interceptors, which put a task and
a queue between a stream and its caller.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio

from services.common.access.addresses import is_socket
from services.common.access.wire import ChannelTls
from services.common.deadlines import remaining_s
from services.common.errors import Cancelled, MasqueradeError
from services.common.interceptors import METADATA_PREFIX
from services.common.logs import TRAVELLING, current_log_fields
from services.common.server import MESSAGE_BYTES
from services.common.status import from_rpc_error

CALL_TIMEOUT_S = 600.0
"""Deadline of a call whose caller set none. Streams have none of their own: a job is watched for hours."""

OLD_CALLS_S: Final = 6 * 3600.0
"""So long a call may still run on the channel that was there before a certificate was renewed."""

_RETRY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # Only what says that nothing was begun. gRPC does not keep messages above 256 KiB for another attempt.
    "retryableStatusCodes": ["UNAVAILABLE"],
}

_CONDUCTORS: Final = [{"service": "masquerade.v1.CompositorService"}, {"service": "masquerade.v1.DetectorService"}]
"""Their calls are steps of jobs, which are repeated by who keeps the job: it must see each call that broke off, because
the one that kills its service is found by counting."""


def build_channel(
    target: str,
    *,
    peer: str | None = None,
    timeout_s: float = CALL_TIMEOUT_S,
    is_retried: bool = True,
    health_of: str | None = None,
    tls: ChannelTls | None = None,
) -> grpc.aio.Channel:
    """A channel to a peer.

    Args:
        target: host:port, unix:/path, or dns:///name:port for all pods behind a headless service.
        peer: what errors call it; the target if not given.
        timeout_s: deadline of unary calls where neither the caller nor its caller set one.
        is_retried: try again when the peer is unavailable. Only where every method may be repeated.
        health_of: full name of a service; pods that say it does not serve are left out.
        tls: unset means plain text, as does a unix socket. The peer's certificate must name the target's host.
    """
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if is_retried:
        config["methodConfig"] = [{"name": [{}], "retryPolicy": _RETRY}, {"name": _CONDUCTORS}]
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    if health_of:
        config["healthCheckConfig"] = {"serviceName": health_of}
    options = (
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.service_config", json.dumps(config)),
        # A proxy for the web has no business between our own services.
        ("grpc.enable_http_proxy", 0),
    )
    if tls is None or is_socket(target):
        return PeerChannel(grpc.aio.insecure_channel(target, options=options), peer or target, timeout_s)

    def secure() -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, tls.credentials(), options=options)

    return PeerChannel(secure(), peer or target, timeout_s, Renewal(tls.has_changed, secure))


@dataclass(frozen=True, slots=True)
class Renewal:
    """When a channel's credentials are old, and how one with new ones is made: gRPC cannot change a channel's."""

    is_due: Callable[[], bool]
    make: Callable[[], grpc.aio.Channel]


class PeerChannel(grpc.aio.Channel):
    """A channel whose calls raise typed errors, and whose new calls use the certificate of today."""

    def __init__(self, channel: grpc.aio.Channel, peer: str, timeout_s: float, renewal: Renewal | None = None) -> None:
        self._channel = channel
        self._peer = peer
        self._timeout_s = timeout_s
        self._renewal = renewal
        self._closing: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    @property
    def current(self) -> grpc.aio.Channel:
        """The channel for a new call; running ones end on the one that they began on."""
        if self._renewal is not None and self._renewal.is_due():
            old, self._channel = self._channel, self._renewal.make()
            task = asyncio.create_task(old.close(OLD_CALLS_S))
            self._closing[task] = old
            task.add_done_callback(lambda done: self._closing.pop(done, None))
        return self._channel

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Method(self, lambda channel: channel.unary_unary(*args, **kwargs), self._peer, self._timeout_s)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Method(self, lambda channel: channel.stream_unary(*args, **kwargs), self._peer, None)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Method(self, lambda channel: channel.unary_stream(*args, **kwargs), self._peer, None)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Method(self, lambda channel: channel.stream_stream(*args, **kwargs), self._peer, None)

    async def __aenter__(self) -> PeerChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """See grpc.aio.Channel."""
        await self._channel.close(grace)
        old = dict(self._closing)
        for task in old:
            task.cancel()
        await asyncio.gather(*old, return_exceptions=True)
        for channel in old.values():
            await channel.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See grpc.aio.Channel."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See grpc.aio.Channel."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See grpc.aio.Channel."""
        await self._channel.channel_ready()


class _Method:
    """One method of a stub; called as the one that it wraps."""

    def __init__(
        self, owner: PeerChannel, make: Callable[[grpc.aio.Channel], Any], peer: str, timeout_s: float | None
    ) -> None:
        self._owner = owner
        self._make = make
        self._channel = owner.current
        self._method = make(self._channel)
        self._peer = peer
        self._timeout_s = timeout_s

    def __call__(self, *args: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any) -> _Call:
        channel = self._owner.current
        if channel is not self._channel:
            self._channel, self._method = channel, self._make(channel)
        bounds = [bound for bound in (timeout, remaining_s()) if bound is not None]
        limit = min(bounds) if bounds else self._timeout_s
        fields = current_log_fields()
        own = [(METADATA_PREFIX + name, fields[name]) for name in TRAVELLING if name in fields]
        return _Call(self._method(*args, timeout=limit, metadata=[*(metadata or ()), *own], **kwargs), self._peer)


class _Call:
    """A call in progress; everything is the wrapped call's, but its errors are typed."""

    def __init__(self, call: Any, peer: str) -> None:
        self._call = call
        self._peer = peer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self._call.__await__())
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._peer) from None

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for message in self._call:
                yield message
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._peer) from None

    async def read(self) -> Any:
        """The next message, or grpc.aio.EOF."""
        try:
            return await self._call.read()
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._peer) from None

    async def write(self, message: Any) -> None:
        """Send a message on the stream."""
        try:
            await self._call.write(message)
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._peer) from None
        except asyncio.InvalidStateError:
            # The peer has ended the call already; why, is in its status.
            raise await self._end() from None

    async def _end(self) -> MasqueradeError:
        code = await self._call.code()
        if code is grpc.StatusCode.OK:
            return Cancelled(what="a stream that its peer has ended", peer=self._peer)
        trailing, details = await self._call.trailing_metadata(), await self._call.details()
        ended = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)
        return from_rpc_error(ended, peer=self._peer)

    async def done_writing(self) -> None:
        """Say that no message follows."""
        try:
            await self._call.done_writing()
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._peer) from None
