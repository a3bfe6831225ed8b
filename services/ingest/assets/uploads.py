"""Uploads: bytes that come in pieces, from callers who break off and come again, perhaps to another replica.

What is known of an upload lies in its row and in the store, never in this process. Bytes become safe by parts: a part
is stored once it is complete, and confirmed in the row; what was given of an incomplete one goes with its caller and is
asked for again. Two streams of one upload may run at once: a part is stored once, so both agree on it or one of them is
told that it contradicts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from services.common.audit.chain import REFUSED, Entry
from services.common.audit.log import write
from services.common.errors import InvalidSpec, Overloaded, QuotaExceeded, UploadConflict, Violation
from services.common.heap import give_back
from services.common.records.database import Records
from services.common.records.tables import uploads
from services.common.store.objects import CHUNK_BYTES, ObjectStore
from services.ingest.assets import rows
from services.ingest.assets.finishing import Finishing, conflict
from services.ingest.assets.naming import UPLOAD_ID_CHARACTERS, now_ms, part_key, parts_prefix, shown_name
from services.ingest.assets.quota import RETRY_AFTER_S, one_at_a_time, require_room
from services.ingest.assets.rows import Asset, Begun


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What uploads may take."""

    part_bytes: int = 8 << 20
    """So much is stored and confirmed at once; each stream holds so much in memory."""

    tenant_bytes: int = 50 << 30
    """Most stored bytes of a tenant."""

    streams: int = 32
    """Streams at once in this process."""


class Uploads:
    """Takes in what callers upload."""

    def __init__(
        self, records: Records, store: ObjectStore, *, scratch: Path, secret: bytes, limits: UploadLimits | None = None
    ) -> None:
        self.records = records
        self.store = store
        self.limits = limits or UploadLimits()
        self.finishing = Finishing(records, store, scratch=scratch, secret=secret)
        self._secret = secret
        self._streams = 0
        self._told: dict[str, float] = {}

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """Count a stream while the block lasts.

        Raises:
            Overloaded: there are too many.
        """
        if self._streams >= self.limits.streams:
            raise Overloaded(what="uploading", most=self.limits.streams, retry_after_s=1)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def begin(self, tenant: str, actor: str, *, name: str, upload_id: str, size_bytes: int) -> Upload:
        """Begin an upload, or go on with one.

        Args:
            tenant: whose it is.
            actor: who makes the call, for the audit log.
            name: for people.
            upload_id: the caller's own id of it.
            size_bytes: how long it will be.

        Raises:
            InvalidSpec: an id or a length that cannot be.
            QuotaExceeded: the tenant would have too many bytes.
            UploadConflict: the id was used with another length or name.
        """
        _check_begin(upload_id, size_bytes)
        wanted = Begun(tenant, upload_id, shown_name(name), size_bytes, 0, None, now_ms(), now_ms())
        try:
            begun, asset = await self.records.write(lambda connection: self._begin(connection, wanted))
        except QuotaExceeded as error:
            await self._tell(Entry(tenant, actor, "asset.stored", "", REFUSED, {"reason": error.reason}))
            raise
        prefix = parts_prefix(tenant, upload_id, begun.created_ms, self._secret)
        if begun.asset is not None and asset is None and await self.store.stat(part_key(prefix, 0)) is None:
            # What it brought was deleted since: it begins anew.
            await self.records.write(lambda connection: rows.delete_upload(connection, begun, rows.is_unfinished()))
            return await self.begin(tenant, actor, name=name, upload_id=upload_id, size_bytes=size_bytes)
        return Upload(self, begun, asset, prefix=prefix, actor=actor)

    async def _tell(self, refusal: Entry) -> None:
        """Write a refusal into the audit log, once for all that a caller asks before it was to come again."""
        now = time.monotonic()
        if now - self._told.get(refusal.tenant, float("-inf")) >= RETRY_AFTER_S:
            self._told[refusal.tenant] = now
            await write(self.records, refusal)

    async def close(self) -> None:
        """Let what is being finished come to its end."""
        await self.finishing.close()

    def _begin(self, connection: sa.Connection, wanted: Begun) -> tuple[Begun, Asset | None]:
        known = rows.find_upload(connection, wanted.tenant, wanted.upload_id)
        if known is None:
            one_at_a_time(connection, wanted.tenant)
            # Another replica may have begun it while this one waited for its turn.
            known = rows.find_upload(connection, wanted.tenant, wanted.upload_id)
        if known is None:
            require_room(connection, wanted.tenant, more_bytes=wanted.size_bytes, most_bytes=self.limits.tenant_bytes)
            rows.insert_upload(connection, wanted)
            return wanted, None
        for what, before, now in (
            ("length", known.size_bytes, wanted.size_bytes),
            ("name", known.name, wanted.name),
        ):
            if before != now:
                problem = f"it was begun with another {what}"
                raise conflict(known, problem, confirmed_bytes=known.confirmed_bytes)
        rows.change_upload(connection, known, changed_ms=wanted.changed_ms)
        return known, rows.asset_of(connection, known)


class Upload:
    """One stream's part in an upload. Made by `Uploads.begin`."""

    def __init__(self, house: Uploads, begun: Begun, asset: Asset | None, *, prefix: str, actor: str) -> None:
        self._house = house
        self._begun = begun
        self._prefix = prefix
        self._actor = actor
        self._part = io.BytesIO()
        self.asset = asset
        """What the upload has brought; None while it is not finished."""
        self.confirmed_bytes = begun.size_bytes if asset is not None else begun.confirmed_bytes
        """Bytes that are safe, and of which this stream knows it."""

    async def add(self, offset: int, content: bytes) -> None:
        """Take some bytes. Those that are there already are passed over.

        Raises:
            InvalidSpec: too many at once.
            UploadConflict: bytes before these are missing, or some lie beyond the end; or another stream of this
                upload gave other bytes, or had it dropped.
            NoSpace: the store is full.
        """
        if len(content) > CHUNK_BYTES:
            problem = f"it has {len(content)} bytes, at most {CHUNK_BYTES} are taken"
            raise InvalidSpec(violations=[Violation("chunk.chunk", problem)])
        if offset + len(content) > self._begun.size_bytes:
            raise self._conflict(f"bytes beyond its end at {self._begun.size_bytes}")
        if offset > self._received:
            raise self._conflict(f"bytes from {self._received} to {offset} are missing")
        new = memoryview(content)[self._received - offset :]
        while new and self.asset is None:
            taken = self._part.write(new[: self._part_bytes - self._part.tell()])
            new = new[taken:]
            if self._part.tell() == self._part_bytes:
                await self._keep_part()

    async def finish(self, digest: str) -> Asset:
        """Make an asset of it; doing so again gives the same one.

        Args:
            digest: SHA-256 of all bytes, 64 hexadecimal digits.

        Raises:
            InvalidSpec: not a digest.
            UploadConflict: bytes are missing, or these are not the bytes of this digest: they are then dropped.
            NoSpace: the disk is full; what was confirmed stays.
        """
        digest = _checked_digest(digest)
        if self.asset is None:
            if self.confirmed_bytes < self._begun.size_bytes:
                raise self._conflict(f"bytes from {self._received} to {self._begun.size_bytes} are missing")
            self.asset = await self._house.finishing.finish(self._begun, digest, prefix=self._prefix, actor=self._actor)
        elif self.asset.digest != digest:
            raise self._conflict("it was finished with another digest")
        return self.asset

    @property
    def _received(self) -> int:
        return self.confirmed_bytes + self._part.tell()

    @property
    def _part_bytes(self) -> int:
        """Length of the part that is being filled: the last one is shorter."""
        return min(self._house.limits.part_bytes, self._begun.size_bytes - self.confirmed_bytes)

    async def _keep_part(self) -> None:
        content = self._part.getvalue()
        self._part = io.BytesIO()
        begin, end = self.confirmed_bytes, self.confirmed_bytes + len(content)
        key = part_key(self._prefix, begin)
        kept = await self._house.store.put_bytes(key, content)
        if kept.digest != await asyncio.to_thread(_digest, content):
            raise self._conflict("these bytes differ from those that came before under the same id")
        # Threads have heaps of their own: without this each of them keeps a part that nobody needs.
        del content
        await asyncio.to_thread(give_back)
        known, self.asset = await self._house.records.write(
            lambda connection: _confirm(connection, self._begun, begin, end)
        )
        if known is None or self.asset is not None:
            # Whoever ended the upload may have done so before this part was stored.
            await self._house.store.delete_prefix(self._prefix)
        self.confirmed_bytes = 0 if known is None else min(end, known.confirmed_bytes)
        if self.asset is not None:
            self.confirmed_bytes = self._begun.size_bytes
        elif self.confirmed_bytes < end:
            raise self._conflict("it was dropped meanwhile, or a part of it was lost")

    def _conflict(self, problem: str) -> UploadConflict:
        return conflict(self._begun, problem, confirmed_bytes=self.confirmed_bytes)


def _confirm(connection: sa.Connection, begun: Begun, begin: int, end: int) -> tuple[Begun | None, Asset | None]:
    """Say in the row that a part is safe. Answers what the row then says, if it is there, and what the upload became:
    another stream of it may be ahead, or have ended it."""
    is_next = uploads.c.confirmed_bytes == begin
    rows.change_upload(connection, begun, is_next, confirmed_bytes=end, changed_ms=now_ms())
    known = rows.find_upload(connection, begun.tenant, begun.upload_id)
    if known is None or known.created_ms != begun.created_ms:
        return None, None
    return known, rows.asset_of(connection, known)


def _check_begin(upload_id: str, size_bytes: int) -> None:
    problems = []
    if not 0 < len(upload_id) <= UPLOAD_ID_CHARACTERS or not upload_id.isprintable():
        problem = f"takes 1 to {UPLOAD_ID_CHARACTERS} visible characters"
        problems.append(Violation("begin.upload_id", problem))
    if not 0 < size_bytes < 1 << 62:
        problems.append(Violation("begin.size_bytes", "must be the length of what is to come, at least one byte"))
    if problems:
        raise InvalidSpec(violations=problems)


def _checked_digest(digest: str) -> str:
    text = digest.lower()
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise InvalidSpec(violations=[Violation("finish.digest", "is no SHA-256: 64 hexadecimal digits")])
    return text


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
