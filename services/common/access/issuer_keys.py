"""The public keys of who issues tokens: a JWKS file, read again when it changes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import jwt

from services.common.errors import InvalidSetting

FILE_BYTES: Final = 1 << 20
_log = logging.getLogger(__name__)

_Stamp: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    by_id: Mapping[str, jwt.PyJWK]
    all: tuple[jwt.PyJWK, ...]


class IssuerKeys:
    """Keys by their id, as the file has them now.

    A file that is damaged or gone while the service runs changes nothing: who writes it in place is half-way through
    for a moment. The keys that were read before hold until it can be read.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            InvalidSetting: it cannot be read, or holds something else than public keys.
        """
        self._path = path
        self._seen: _Stamp | None = self._stamp()
        try:
            self._read = _read(path)
        except (OSError, ValueError) as error:
            raise InvalidSetting(setting="token_keys", value=path, problem=str(error)) from None

    def key(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key with this id; without an id, the only one there is."""
        self._read_again_if_changed()
        if key_id is None:
            return self._read.all[0] if len(self._read.all) == 1 else None
        return self._read.by_id.get(key_id)

    def _read_again_if_changed(self) -> None:
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._read = _read(self._path)
        except (OSError, ValueError) as error:
            _log.error("the issuer's new keys are not taken: %s", error, extra={"path": str(self._path)})

    def _stamp(self) -> _Stamp | None:
        try:
            stat = os.stat(self._path)
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> _Read:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES + 1)
    if len(content) > FILE_BYTES:
        raise ValueError(f"has more than {FILE_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError('has no list "keys"')
    keys = tuple(_key(entry, place) for place, entry in enumerate(entries) if _is_for_signing(entry))
    named = [key for key in keys if key.key_id is not None]
    by_id = {str(key.key_id): key for key in named}
    if not keys or len(by_id) != len(named):
        raise ValueError("has two keys of one id" if keys else "has no key for signatures")
    return _Read(by_id, keys)


def _is_for_signing(entry: Any) -> bool:
    return not isinstance(entry, dict) or entry.get("use", "sig") == "sig"


def _key(entry: Any, place: int) -> jwt.PyJWK:
    """One key; ValueError names its place and shows nothing of it."""
    kind = entry.get("kty") if isinstance(entry, dict) else None
    if kind not in ("RSA", "EC", "OKP"):
        raise ValueError(f"keys[{place}] is no public key: RSA, EC and OKP are")
    if "d" in entry:
        raise ValueError(f"keys[{place}] is a private key, which belongs to the issuer alone")
    try:
        key = jwt.PyJWK.from_dict(entry)
    except jwt.PyJWTError:
        raise ValueError(f"keys[{place}] cannot be understood") from None
    if key.Algorithm.check_key_length(key.key):
        raise ValueError(f"keys[{place}] is too short")
    return key
