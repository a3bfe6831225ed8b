"""Stored objects: what a store promises, what a key may look like, and how assets are named.

An object is written once. Whoever writes a key that exists keeps what is there and is told its digest: a retried step
then finds the work of its predecessor, even where an encoder gave other bytes for the same frames.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from services.common import errors

CHUNK_BYTES = 1 << 20
KEY_CHARACTERS = 800
"""S3 takes 1024 bytes; a folder store needs some of them for itself."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]{0,199}")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of a stored object without reading it."""

    key: str
    digest: str
    """SHA-256 of its bytes, as hexadecimal digits."""
    bytes: int


class ObjectStore(Protocol):
    """Artifacts by key, written once."""

    async def put_file(self, key: str, path: Path) -> ObjectInfo:
        """Store a file; if the key exists, what is there is kept (replaced only if it is corrupt) and described."""
        ...

    async def put_bytes(self, key: str, content: bytes) -> ObjectInfo:
        """Store a few bytes, as `put_file` does."""
        ...

    async def get_bytes(self, key: str) -> bytes:
        """The whole object, checked against its digest. ObjectMissing or ObjectCorrupt."""
        ...

    def local_path(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The object as a readable file for as long as the block lasts, checked against its digest."""
        ...

    async def stat(self, key: str) -> ObjectInfo | None:
        """What is under a key, or None."""
        ...

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        """All objects whose key is the prefix or lies below it as a folder, by key."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove all that `list` would name; gives how many."""
        ...

    async def close(self) -> None:
        """Give back threads and connections."""
        ...


def checked_key(key: str) -> str:
    """The key itself; InvalidSpec when it could lead out of its tenant or its folder."""
    parts = key.split("/")
    if len(key) > KEY_CHARACTERS or not all(_PART.fullmatch(part) for part in parts):
        raise errors.InvalidSpec(field="key", problem=f"{key[:80]!r} is no object key")
    return key


def checked_prefix(prefix: str) -> str:
    """The prefix without a slash at its end; InvalidSpec as for keys, and for an empty one."""
    return checked_key(prefix.removesuffix("/"))


def keyed_digest(tenant: str, digest: str, secret: bytes) -> str:
    """The name of an asset: nobody outside the tenant can tell from it whether a known file was uploaded.

    Args:
        tenant: whose asset it is.
        digest: SHA-256 of its bytes, as hexadecimal digits.
        secret: of this installation.

    Returns:
        26 characters of base32 (130 bits of an HMAC-SHA256), small letters.
    """
    mac = hmac.new(secret, f"{tenant}\0{digest}".encode(), hashlib.sha256).digest()
    return base64.b32encode(mac)[:26].decode().lower()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_and_digest(source: BinaryIO, target: BinaryIO) -> tuple[str, int]:
    """Copy to the end; gives the SHA-256 and the number of bytes."""
    sha = hashlib.sha256()
    count = 0
    while chunk := source.read(CHUNK_BYTES):
        sha.update(chunk)
        target.write(chunk)
        count += len(chunk)
    return sha.hexdigest(), count
