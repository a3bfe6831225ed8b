"""TLS as gRPC takes it: credentials of servers that follow renewed certificates, credentials of channels to them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Self, cast

import grpc

from services.common.access.addresses import is_local
from services.common.access.certificates import Files, Pems, Watched
from services.common.access.settings import AccessSettings
from services.common.errors import InvalidSetting

_log = logging.getLogger(__name__)
_OFFLOADED: Final = "set tls_certificate and tls_key, or tls_offloaded=true where something before it speaks TLS"


class ServerTls:
    """The server's side of a wire. With roots among the files, who connects must show a certificate of theirs."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._given = watched.current()

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`. gRPC asks at each handshake whether the files have changed: a new connection gets the
        new certificate, one that stands lives on."""
        # The stub knows no None, which says that nothing has changed.
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._changed)
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._given), fetch, require_client_authentication=self._watched.has_roots
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC in threads of its own."""
        pems = self._watched.current()
        if pems is self._given:
            return None
        self._given = pems
        return _configuration(pems)


class ChannelTls:
    """The client's side of a wire between services: both show a certificate of the same roots."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._given: Pems | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """As the files are now."""
        self._given = self._watched.current()
        return grpc.ssl_channel_credentials(self._given.roots, self._given.key, self._given.certificate)

    def has_changed(self) -> bool:
        """Whether there are new ones: gRPC cannot change those of a channel."""
        return self._watched.current() is not self._given


class MeshWire:
    """Both sides of the wire between services."""

    def __init__(self, files: Files) -> None:
        """Read the files.

        Raises:
            InvalidSetting: they cannot be used.
        """
        self._watched = Watched(files)

    @classmethod
    def of(cls, settings: AccessSettings) -> Self | None:
        """As the settings say; None for plain text.

        Raises:
            InvalidSetting: some of the three files are named, and not all; or they cannot be used.
        """
        named = (settings.mesh_certificate, settings.mesh_key, settings.mesh_ca)
        if not any(named):
            return None
        if not settings.mesh_ca:
            raise InvalidSetting(setting="mesh_ca", problem="is not set, and mesh_certificate or mesh_key is")
        return cls(Files("mesh", *named, ca_setting="mesh_ca"))

    def server(self) -> ServerTls:
        """For a server."""
        return ServerTls(self._watched)

    def channel(self) -> ChannelTls:
        """For one channel."""
        return ChannelTls(self._watched)


def public_tls(settings: AccessSettings, *, listen: str) -> ServerTls | None:
    """TLS of the public address; None for plain text.

    Raises:
        InvalidSetting: plain text would leave this machine and nobody said that it may, or the files cannot be used.
    """
    if settings.tls_certificate or settings.tls_key or settings.tls_client_ca:
        named = (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        return ServerTls(Watched(Files("tls", *named, ca_setting="tls_client_ca")))
    if is_local(listen):
        return None
    if settings.tls_offloaded:
        _log.warning("public calls come in plain text: something before this address speaks TLS", extra={"at": listen})
        return None
    raise InvalidSetting(
        setting="public_listen", value=listen, problem="keys would cross the network in plain text", remedy=_OFFLOADED
    )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], root_certificates=pems.roots)
