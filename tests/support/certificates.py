"""Certificates of authorities that tests make up, as the files that settings name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from services.common.access.certificates import Files, Watched
from services.common.access.wire import ChannelTls


def after(days: float) -> datetime:
    """A moment from now."""
    return datetime.now(UTC) + timedelta(days=days)


def write(path: Path, content: bytes) -> None:
    """As who renews carefully does it: the file appears whole."""
    writing = path.with_suffix(".new")
    writing.write_bytes(content)
    writing.replace(path)


class Papers:
    """Certificate, key and roots in a folder, to be renewed."""

    def __init__(self, folder: Path, *, ca: trustme.CA | None = None, ends_days: float = 90) -> None:
        folder.mkdir(exist_ok=True)
        self.certificate, self.key, self.ca_file = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
        self.ca = ca or trustme.CA()
        self.renew(ends_days=ends_days)

    def renew(
        self, *, ca: trustme.CA | None = None, ends_days: float = 90, begins_days: float = -30, host: str = "127.0.0.1"
    ) -> None:
        """Other certificates into the same files."""
        self.ca = ca or self.ca
        issued = self.ca.issue_cert(host, not_before=after(begins_days), not_after=after(ends_days))
        write(self.key, issued.private_key_pem.bytes())
        write(self.certificate, b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        write(self.ca_file, self.ca.cert_pem.bytes())

    @property
    def public(self) -> Mapping[str, str]:
        """Settings of a public server with this certificate."""
        return {"tls_certificate": os.fspath(self.certificate), "tls_key": os.fspath(self.key)}

    @property
    def mesh(self) -> Mapping[str, str]:
        """Settings of services that show this certificate to each other."""
        named = {"mesh_certificate": self.certificate, "mesh_key": self.key, "mesh_ca": self.ca_file}
        return {name: os.fspath(path) for name, path in named.items()}

    def files(self) -> Files:
        """As the mesh's settings name them."""
        return Files("mesh", *(os.fspath(p) for p in (self.certificate, self.key, self.ca_file)), ca_setting="mesh_ca")

    def channel(self) -> ChannelTls:
        """The client's side with these papers."""
        return ChannelTls(Watched(self.files()))
