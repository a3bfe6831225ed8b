"""Certificate, key and roots as files: read, checked, and read again when they change."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from services.common import metrics
from services.common.errors import InvalidSetting

NEAR: Final = timedelta(days=14)
"""So long before its end a certificate is complained about."""

_log = logging.getLogger(__name__)
Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Files:
    """Where the three lie, and which settings say so."""

    name: str
    """`tls` for the public address or `mesh` between services; the settings' names begin with it."""
    certificate: str
    key: str
    ca: str
    ca_setting: str


@dataclass(frozen=True, slots=True)
class Pems:
    """What the files hold, checked: the key is the certificate's, which holds now."""

    certificate: bytes
    key: bytes
    roots: bytes | None
    ends: datetime


class Watched:
    """The files' content, read again when they change. Safe to be used by several threads.

    New files that do not fit together are not taken: whoever renews writes one after the other. What was read before
    stays until they do.
    """

    def __init__(self, files: Files, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Read the files.

        Raises:
            InvalidSetting: one cannot be read, the key is another's, or the certificate does not hold today.
        """
        self._files = files
        self._now = now
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._pems = read(files, now=now())
        self._tell()

    @property
    def has_roots(self) -> bool:
        """Whether the other side must show a certificate."""
        return bool(self._files.ca)

    def current(self) -> Pems:
        """What the files hold now; the same object as before while they have not changed."""
        with self._lock:
            stamp = self._stamp()
            if stamp is not None and stamp != self._seen:
                self._seen = stamp
                self._take()
            return self._pems

    def _take(self) -> None:
        try:
            self._pems = read(self._files, now=self._now())
        except InvalidSetting as error:
            # Also the half-way state of a renewal: its other half changes the stamp once more.
            _log.error("a new certificate is not taken: %s", error.text())
        else:
            self._tell()

    def _tell(self) -> None:
        ends = self._pems.ends
        timestamp = ends.timestamp()
        metrics.CERTIFICATE_EXPIRES.labels(self._files.name).set_function(lambda: timestamp - time.time())
        where = {"certificate": self._files.certificate, "ends": ends.isoformat()}
        if ends - self._now() < NEAR:
            _log.warning("the certificate expires on %s", _day(ends), extra=where)
        else:
            _log.info("certificate read", extra=where)

    def _stamp(self) -> Stamp | None:
        """None while one is missing, as in the middle of a renewal."""
        try:
            stats = [os.stat(path) for path in (self._files.certificate, self._files.key, self._files.ca) if path]
        except OSError:
            return None
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


def read(files: Files, *, now: datetime) -> Pems:
    """Read and check the three.

    Raises:
        InvalidSetting: names the setting, the file and what is wrong with it.
    """
    certificate = _content(f"{files.name}_certificate", files.certificate)
    key = _content(f"{files.name}_key", files.key)
    roots = _content(files.ca_setting, files.ca) if files.ca else None
    chain = _certificates(f"{files.name}_certificate", files.certificate, certificate)
    if roots is not None:
        _certificates(files.ca_setting, files.ca, roots)
    leaf = chain[0]
    if now < leaf.not_valid_before_utc:
        problem = f"holds from {_day(leaf.not_valid_before_utc)} on only"
        raise InvalidSetting(setting=f"{files.name}_certificate", value=files.certificate, problem=problem)
    ends = min(each.not_valid_after_utc for each in chain)
    if now >= ends:
        raise InvalidSetting(
            setting=f"{files.name}_certificate",
            value=files.certificate,
            problem=f"expired on {_day(ends)}",
            remedy="renew it: put the new certificate and its key into the same files",
        )
    if _public_key_of(files, key) != leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise InvalidSetting(
            setting=f"{files.name}_key",
            value=files.key,
            problem="is the key of another certificate",
            remedy="the first certificate in the file is the server's own, its issuers follow",
        )
    return Pems(certificate, key, roots, ends)


def _content(setting: str, path: str) -> bytes:
    if not path:
        raise InvalidSetting(setting=setting, problem="is not set, and the others of its kind are")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidSetting(setting=setting, value=path, problem=error.strerror or str(error)) from None


def _certificates(setting: str, path: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise InvalidSetting(setting=setting, value=path, problem="holds no certificate (PEM)") from None


def _public_key_of(files: Files, key: bytes) -> bytes:
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        # Not the library's words: they may quote the key.
        problem = "holds no private key without a password (PEM)"
        raise InvalidSetting(setting=f"{files.name}_key", value=files.key, problem=problem) from None
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
