"""Where the mesh is, and how a caller shows who it is."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from masquerade.client.errors import ClientError

DEFAULT_ENDPOINT: Final = "127.0.0.1:50050"
ENDPOINT, KEY, KEY_FILE, CA = "MASQUERADE_ENDPOINT", "MASQUERADE_KEY", "MASQUERADE_KEY_FILE", "MASQUERADE_CA"
MESSAGE_BYTES: Final = 16 << 20

_RETRY: Final = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "3s",
    "backoffMultiplier": 2,
    # Only what says that nothing was begun; every method of the contract may be repeated anyway.
    "retryableStatusCodes": ["UNAVAILABLE"],
}


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a mesh.

    Attributes:
        endpoint: host:port or unix:/path.
        key: an API key or a token; empty where the mesh asks for none.
        is_tls: whether to speak TLS.
        ca: PEM file with the roots to trust; None means those of the system.
        certificate: PEM file with this client's own certificate, where the mesh wants one.
        private_key: PEM file with the key of that certificate.
    """

    endpoint: str
    key: str = ""
    is_tls: bool = True
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    @classmethod
    def find(
        cls,
        endpoint: str | None = None,
        *,
        key: str | None = None,
        key_file: Path | None = None,
        tls: bool | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        private_key: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Access:
        """What was given, or else what the environment says.

        Args:
            endpoint: host:port or unix:/path; else `MASQUERADE_ENDPOINT`, else the port of `masquerade up`.
            key: else the file `key_file`, else `MASQUERADE_KEY`, else the file `MASQUERADE_KEY_FILE`.
            key_file: a file that holds the key alone.
            tls: unset means: unless the endpoint is a socket or a loopback address.
            ca: else `MASQUERADE_CA`.
            certificate: for a mesh that wants its callers to have one.
            private_key: of that certificate.
            environ: instead of the process's environment.

        Raises:
            ClientError: INPUT_MISSING, the file of the key cannot be read; UNAUTHENTICATED, it holds something else.
        """
        environ = os.environ if environ is None else environ
        place = endpoint or environ.get(ENDPOINT) or DEFAULT_ENDPOINT
        root = ca or (Path(environ[CA]) if environ.get(CA) else None)
        file = key_file or (None if key or environ.get(KEY) else environ.get(KEY_FILE))
        secret = key or (_read(Path(file)).decode(errors="replace").strip() if file else environ.get(KEY, ""))
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise ClientError(
                "UNAUTHENTICATED",
                f"what {file or 'was given as the key'} holds is no key",
                remedy="give the key as it was printed, and nothing else",
            )
        is_tls = tls if tls is not None else not _is_near(place) or root is not None
        return cls(place, secret, is_tls, root, certificate, private_key)

    def metadata(self) -> list[tuple[str, str]]:
        """What goes along with every call."""
        return [("authorization", f"Bearer {self.key}")] if self.key else []

    def channel(self) -> grpc.aio.Channel:
        """A new channel; call it inside the loop that uses it."""
        config: dict[str, Any] = {
            "methodConfig": [{"name": [{}], "retryPolicy": _RETRY}],
            "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        }
        options = (
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.max_pings_without_data", 0),
            # gRPC's own 120 s would let a client sleep long after the mesh is back.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 4_000),
            ("grpc.service_config", json.dumps(config)),
        )
        if not self.is_tls:
            return grpc.aio.insecure_channel(self.endpoint, options=options)
        credentials = grpc.ssl_channel_credentials(
            _read(self.ca) if self.ca else None,
            _read(self.private_key) if self.private_key else None,
            _read(self.certificate) if self.certificate else None,
        )
        return grpc.aio.secure_channel(self.endpoint, credentials, options=options)


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise ClientError(
            "INPUT_MISSING", f"{path} cannot be read ({error.strerror})", remedy="look at the path and its rights"
        ) from error


def _is_near(endpoint: str) -> bool:
    """Whether it is on this machine, where nobody listens in between."""
    if endpoint.startswith(("unix:", "unix-abstract:")):
        return True
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
