"""Second places for results, by the names that the operator gave them: today folders, each kind behind one call.

What is put into a place appears there whole or not at all, and never in the place of something else: a job that is
repeated finds its own file and is done, any other file of that name stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from services.common.errors import ObjectCorrupt, PublishFailed
from services.common.store.folder import sync_folder
from services.common.store.objects import CHUNK_BYTES, ObjectStore, digest_of_file

TENANT: Final = "{tenant}"
"""In the name of a folder: one for each tenant, made when it is needed."""

ABANDONED_AFTER_S: Final = 6 * 3600
"""A writer that has not finished by then is dead."""

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+]+):/")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


class _Refused(Exception):
    """It cannot be put there; says why, and names no path."""


class _Stopped(Exception):
    """Nobody waits for it any more."""


Put: TypeAlias = Callable[[ObjectStore, Path, str, str], Awaitable[None]]
"""Puts an object into a place: the store, where the place is, the file's name there, the object's key."""


async def publish(store: ObjectStore, places: Mapping[str, Path], *, place: str, name: str, artifact_key: str) -> None:
    """Put a result into a place; where it is already, nothing happens.

    Args:
        store: holds the result.
        places: by name.
        place: name of the place.
        name: of the file there, without any folder.
        artifact_key: of the result; its first part is the tenant.

    Raises:
        PublishFailed: it could not be put there; the result is kept. The detail names no folder of this machine.
        ObjectMissing, ObjectCorrupt: the result itself is gone.
    """
    where = places.get(place)
    if where is None:
        raise PublishFailed(place=place, detail="there is no place of this name")
    put = KINDS.get(kind_of(where))
    if put is None:
        raise PublishFailed(place=place, detail=f"places of the kind {kind_of(where)} are not built yet")
    if Path(name).name != name or name in {"", ".", ".."}:
        raise PublishFailed(place=place, detail="the name of the file is no plain one")
    try:
        await put(store, where, name, artifact_key)
    except _Refused as refused:
        raise PublishFailed(place=place, detail=f"{name}: {refused}") from refused.__cause__
    except OSError as error:
        raise PublishFailed(place=place, detail=f"{name}: {error.strerror or 'it cannot be written'}") from error


def kind_of(where: Path) -> str:
    """`folder`, or the scheme that an address begins with, as `s3`."""
    scheme = _SCHEME.match(str(where))
    return scheme[1] if scheme else "folder"


async def _put_into_folder(store: ObjectStore, where: Path, name: str, key: str) -> None:
    stored = await store.stat(key)
    stop = threading.Event()
    async with store.local_path(key) as source:
        digest = stored.digest if stored is not None and stored.digest else ""
        try:
            await asyncio.to_thread(_copy, source, where, name, key, digest, stop)
        except asyncio.CancelledError:
            # A thread cannot be interrupted: it looks here between two pieces, and before the file appears.
            stop.set()
            raise


KINDS: Final[Mapping[str, Put]] = {"folder": _put_into_folder}
"""How something is put into a place, by the place's kind. A new kind is a function and a line here."""


def _copy(source: Path, where: Path, name: str, key: str, digest: str, stop: threading.Event) -> None:
    folder = _opened(where, key)
    expected = digest or digest_of_file(source)
    target = folder / name
    if _is_there(target, source, expected):
        return
    with _disk_errors(folder, source), _partial(folder, key) as writing:
        with source.open("rb") as reading, writing.open("xb") as file:
            sha = hashlib.sha256()
            while piece := reading.read(CHUNK_BYTES):
                if stop.is_set():
                    raise _Stopped
                sha.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if sha.hexdigest() != expected:
            raise ObjectCorrupt(key=key, found=sha.hexdigest(), expected=expected)
        if stop.is_set():
            raise _Stopped
        _appear(writing, target, source, expected)
        sync_folder(folder)


def _opened(where: Path, key: str) -> Path:
    """The folder. It is never made, but for a tenant's own: a disk that is not mounted must not be written beside."""
    folder = Path(str(where).replace(TENANT, key.partition("/")[0]))
    if folder != where and folder.parent.is_dir():
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
    if not folder.is_dir():
        raise _Refused("the place is not there")
    return folder


def _is_there(target: Path, source: Path, expected: str) -> bool:
    """Whether the very result lies there already.

    Raises:
        _Refused: something else does.
    """
    try:
        found = target.lstat()
    except FileNotFoundError:
        return False
    is_same = stat.S_ISREG(found.st_mode) and found.st_size == source.stat().st_size
    if not (is_same and digest_of_file(target) == expected):
        raise _Refused("something else of this name is there, and stays")
    return True


def _appear(writing: Path, target: Path, source: Path, expected: str) -> None:
    """Give the finished file its name, unless the name is taken."""
    try:
        # A link fails where a name is taken; a rename would replace what has come there meanwhile.
        os.link(writing, target)
    except FileExistsError:
        _is_there(target, source, expected)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if not _is_there(target, source, expected):
            writing.rename(target)


@contextlib.contextmanager
def _partial(folder: Path, key: str) -> Iterator[Path]:
    """A name beside the target for what is not finished; what an earlier attempt at it left behind goes."""
    mine = f".masquerade-{hashlib.sha256(key.encode()).hexdigest()[:12]}-"
    for left in folder.glob(f"{mine}*.partial"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED_AFTER_S:
                left.unlink()
    writing = folder / f"{mine}{secrets.token_hex(4)}.partial"
    try:
        yield writing
    finally:
        writing.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors(folder: Path, source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            needed, free = source.stat().st_size, shutil.disk_usage(folder).free
            raise _Refused(f"no space is left: {needed} bytes are needed, {free} are free") from error
        raise
