"""The server for other systems: the same as between services, with a lock on it and smaller limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.common.access.interceptor import public_interceptors
from services.common.access.unpacking import GRPC_UNPACKS_NOTHING, Unpacking
from services.common.access.wire import public_tls
from services.common.deps import Registration
from services.common.records.database import Records
from services.common.server import MESSAGE_BYTES, Options, Server
from services.common.settings import ServiceSettings

RECEIVED_BYTES: Final = 4 << 20
"""Hard cap of a message from outside, packed and unpacked."""

METADATA_BYTES: Final = 16 << 10
CALLS_PER_CONNECTION: Final = 1024
"""More wait at the client. Few enough to hurt nobody, and more than a client begins before it is told of a limit."""


def build_public_server(
    registrations: Sequence[Registration],
    settings: ServiceSettings,
    *,
    listen: str,
    records: Records,
    secret: bytes,
) -> Server:
    """A server for callers who say who they are.

    Args:
        registrations: what it serves.
        settings: who may call, how often, with which certificate.
        listen: host:port or unix:/path. `settings.listen` is the other server's.
        records: where keys are, and where refused calls are told.
        secret: of this installation.

    Raises:
        InvalidSetting: an address that others reach with open access or without TLS, or files that cannot be used.
    """
    return Server(
        registrations,
        settings.model_copy(update={"listen": listen, "metrics_listen": ""}),
        doors=(
            *public_interceptors(settings, listen=listen, records=records, secret=secret),
            Unpacking(bytes_at_most=RECEIVED_BYTES),
        ),
        options=_options(settings),
        tls=public_tls(settings, listen=listen),
    )


def _options(settings: ServiceSettings) -> Options:
    options: Options = (
        ("grpc.max_receive_message_length", RECEIVED_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        GRPC_UNPACKS_NOTHING,
        # Refused from the first number on by chance and from the second on always: one number is clear to everybody.
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION),
        # A caller that vanished holds its places until somebody asks whether it is there.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Neither do connections without calls, nor those that never say hello, stay for ever.
        ("grpc.max_connection_idle_ms", 900_000),
        ("grpc.server_handshake_timeout_ms", 20_000),
        # Who pings more often than every 20 s (see OPTIONS of the server) is sent away after these.
        ("grpc.http2.max_ping_strikes", 2),
    )
    if not settings.connection_age_s:
        return options
    age_ms = round(1000 * settings.connection_age_s)
    grace_ms = round(1000 * settings.stream_total_s)
    return (*options, ("grpc.max_connection_age_ms", age_ms), ("grpc.max_connection_age_grace_ms", grace_ms))
