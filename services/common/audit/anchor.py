"""Anchors: the log's newest entry, told to a place that who can write to the database cannot change.

The chain shows that an entry was edited, moved or taken out. That entries at its end were cut off, or that all of it
was written anew, shows only who remembers how it ended: a file on another machine or an append-only one, or a bucket
whose policy locks objects.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import sqlalchemy as sa

from services.common.errors import AuditBroken, InvalidSpec, MasqueradeError, OutputUnwritable
from services.common.records.database import Records
from services.common.records.tables import audit
from services.common.store.objects import ObjectStore

log = logging.getLogger(__name__)

PREFIX: Final = "_audit/anchors"
"""Where anchors lie in a store: below no tenant."""

STORE: Final = "store"
"""What a setting or an option says for the objects' own store."""

CLOSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Anchor:
    """The newest entry at some time."""

    sequence: int
    digest: str
    time_ms: int
    """Of the entry."""


class Anchorage(Protocol):
    """A place that remembers."""

    async def put(self, anchor: Anchor) -> None:
        """Remember an anchor; one that is remembered already is no error."""
        ...

    async def all(self) -> Sequence[Anchor]:
        """All that were put, by sequence."""
        ...


class FileAnchorage:
    """Lines of JSON at the end of a file, each on the disk before `put` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def put(self, anchor: Anchor) -> None:
        """See Anchorage.

        Raises:
            OutputUnwritable: the file cannot be written to.
        """
        await asyncio.to_thread(self._put, anchor)

    async def all(self) -> Sequence[Anchor]:
        """See Anchorage.

        Raises:
            InvalidSpec: the file cannot be read, or a line of it is no anchor.
        """
        return await asyncio.to_thread(self._read)

    def _put(self, anchor: Anchor) -> None:
        line = json.dumps(asdict(anchor), sort_keys=True, separators=(",", ":")).encode() + b"\n"
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                    # Whoever wrote last died over it; an append-only file keeps the piece.
                    line = b"\n" + line
                # One write: lines of two processes do not mix.
                file.write(line)
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputUnwritable(path=self._path, detail=error.strerror) from error

    def _read(self) -> Sequence[Anchor]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSpec(field="anchors", problem=f"{self._path.name} cannot be read") from error
        whole = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if not _is_torn(line)]
        return sorted((_anchor(line, f"line {number}") for number, line in whole), key=lambda each: each.sequence)


class StoreAnchorage:
    """An object for each anchor, written once. That nobody can delete it is for the bucket's policy to say."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, anchor: Anchor) -> None:
        """See Anchorage.

        Raises:
            AuditBroken: another entry was anchored under this sequence before.
        """
        content = json.dumps(asdict(anchor), sort_keys=True, separators=(",", ":")).encode()
        key = f"{PREFIX}/{anchor.sequence:020d}"
        await self._store.put_bytes(key, content)
        if await self._store.get_bytes(key) != content:
            raise AuditBroken(sequence=anchor.sequence, problem="another entry was anchored before")

    async def all(self) -> Sequence[Anchor]:
        """See Anchorage."""
        found = await self._store.list(PREFIX)
        return [_anchor((await self._store.get_bytes(each.key)).decode(), each.key) for each in found]


async def head(records: Records) -> Anchor | None:
    """The newest entry; None of an empty log."""
    newest = sa.select(audit.c.sequence, audit.c.digest, audit.c.time_ms).order_by(audit.c.sequence.desc()).limit(1)
    row = await records.read(lambda connection: connection.execute(newest).first())
    return None if row is None else Anchor(row.sequence, row.digest, row.time_ms)


async def publish(records: Records, places: Sequence[Anchorage], *, known: Anchor | None = None) -> Anchor | None:
    """Anchor the newest entry in all places, unless it is the known one; gives it.

    Raises:
        MasqueradeError: a place does not take it.
    """
    newest = await head(records)
    if newest is not None and newest != known:
        for place in places:
            await place.put(newest)
    return newest


def anchorages(where: str, store: ObjectStore) -> Sequence[Anchorage]:
    """The places that a setting names: `store`, the path of a file, or nothing for none."""
    if where == STORE:
        return [StoreAnchorage(store)]
    return [FileAnchorage(Path(where).expanduser())] if where else []


class Anchoring:
    """Publishes the newest entry on schedule, from `start` to `stop`."""

    def __init__(self, records: Records, places: Sequence[Anchorage], *, pause_s: float) -> None:
        """Args:
        records: opened before `start`.
        places: where to; with none it does nothing.
        pause_s: between two anchors.
        """
        self._records, self._places, self._pause_s = records, places, pause_s
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with the entry that is the newest now."""
        if self._places:
            self._loop = asyncio.create_task(self._run(), name="audit-anchors")

    async def stop(self) -> None:
        """Stop."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop], timeout=CLOSE_S)

    async def _run(self) -> None:
        known: Anchor | None = None
        while True:
            try:
                known = await publish(self._records, self._places, known=known)
            except MasqueradeError as error:
                # Tried again at the next time.
                fields = {"reason": error.reason}
                log.error("the audit log was not anchored: %s", error.text(), extra={"fields": fields})
            # Replicas that started together do not anchor together.
            await asyncio.sleep(self._pause_s * random.uniform(0.8, 1.2))


def _is_torn(line: str) -> bool:
    return not line.strip() or (line.startswith("{") and not line.endswith("}"))


def _anchor(line: str, place: str) -> Anchor:
    try:
        value: Any = json.loads(line)
        found = Anchor(**value)
    except (ValueError, TypeError) as error:
        raise InvalidSpec(field="anchors", problem=f"{place} is no anchor") from error
    if type(found.sequence) is not int or type(found.digest) is not str:
        raise InvalidSpec(field="anchors", problem=f"{place} is no anchor")
    return found
