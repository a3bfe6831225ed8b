"""Inputs on their way into the store, under names from which nobody can tell what they are."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from services.common.errors import InputMissing
from services.common.store.objects import ObjectStore, digest_of_file, keyed_digest
from services.standalone.data_folder import DataFolder

SECRET = "asset.secret"
SECRET_BYTES = 32


class Assets:
    """Puts inputs of one tenant into the store."""

    def __init__(self, store: ObjectStore, folder: DataFolder, *, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self._secret = _secret(folder.path / SECRET)
        self.names: dict[str, str] = {}
        """What people call each asset, by its key."""

    async def put_file(self, path: Path) -> str:
        """Store a file of the user's; answers its key. What is there already is not copied again."""
        try:
            digest = await asyncio.to_thread(digest_of_file, path)
            key = self._key(digest)
            if await self._store.stat(key) is None:
                await self._store.put_file(key, path)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise InputMissing(path=str(path), detail=error.strerror) from error
        self.names[key] = str(path)
        return key

    async def put_bytes(self, content: bytes) -> str:
        """Store a few bytes; answers their key."""
        key = self._key(hashlib.sha256(content).hexdigest())
        await self._store.put_bytes(key, content)
        return key

    def _key(self, digest: str) -> str:
        return f"{self._tenant}/assets/{keyed_digest(self._tenant, digest, self._secret)}"


def _secret(path: Path) -> bytes:
    """The installation's own, made at first use. The caller owns the data folder."""
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        secret = b""
    if len(secret) == SECRET_BYTES:
        return secret
    secret = os.urandom(SECRET_BYTES)
    writing = path.with_name(f"{path.name}.new")
    descriptor = os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    writing.replace(path)
    return secret
