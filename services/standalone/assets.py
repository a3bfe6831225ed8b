"""Inputs on their way into the store, under names from which nobody can tell what they are."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from services.common.errors import InputMissing
from services.common.secret import read_or_make_secret
from services.common.store.objects import ObjectStore, digest_of_file, keyed_digest
from services.standalone.data_folder import DataFolder


class Assets:
    """Puts inputs of one tenant into the store."""

    def __init__(self, store: ObjectStore, folder: DataFolder, *, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self._secret = read_or_make_secret(folder.path)
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
