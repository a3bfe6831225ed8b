"""Objects in a folder.

Each object is a directory named by its key that holds one file named by its digest: `KEY/sha256-HEX`. The directory is
prepared elsewhere on the same disk and renamed into place, which either happens as a whole or fails because the key is
there: object and digest appear together, written once, without a second file that could be lost or disagree.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from services.common import errors
from services.common.store.objects import (
    ObjectInfo,
    checked_key,
    checked_prefix,
    copy_and_digest,
    digest_of_file,
)

INCOMING = ".incoming"
NAME = "sha256-"
ABANDONED_AFTER_S = 6 * 3600
"""A writer that has not finished by then is dead: the largest upload has its own, shorter deadline."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class FolderStore:
    """Objects below a folder. Several processes may share it; digests are checked when objects are read.

    A file that was checked is not read again until it changes (inode, size, time): a decoder that opens an asset for
    each segment would otherwise spend its time in SHA-256.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._checked: set[tuple[str, int, int, int]] = set()

    async def put_file(self, key: str, path: Path) -> ObjectInfo:
        """See ObjectStore."""
        return await asyncio.to_thread(self._put_path, checked_key(key), path)

    async def put_bytes(self, key: str, content: bytes) -> ObjectInfo:
        """See ObjectStore."""
        return await asyncio.to_thread(self._put, checked_key(key), io.BytesIO(content))

    async def get_bytes(self, key: str) -> bytes:
        """See ObjectStore."""
        return await asyncio.to_thread(lambda: self._verified(checked_key(key)).read_bytes())

    @contextlib.asynccontextmanager
    async def local_path(self, key: str) -> AsyncIterator[Path]:
        """See ObjectStore; the file is the stored one and must not be written to."""
        yield await asyncio.to_thread(self._verified, checked_key(key))

    async def stat(self, key: str) -> ObjectInfo | None:
        """See ObjectStore."""
        return await asyncio.to_thread(self._info, checked_key(key))

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        """See ObjectStore."""
        return await asyncio.to_thread(self._list, checked_prefix(prefix))

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await asyncio.to_thread(self._remove, checked_key(key))

    async def delete_prefix(self, prefix: str) -> int:
        """See ObjectStore."""
        return await asyncio.to_thread(self._remove_all, checked_prefix(prefix))

    async def sweep(self, *, older_than_s: float = ABANDONED_AFTER_S) -> int:
        """Remove what writers that died have left; gives how many."""
        return await asyncio.to_thread(self._sweep, older_than_s)

    async def close(self) -> None:
        """Nothing is held open."""

    def _put_path(self, key: str, path: Path) -> ObjectInfo:
        with path.open("rb") as source:
            return self._put(key, source)

    def _put(self, key: str, source: BinaryIO) -> ObjectInfo:
        with self._disk_errors():
            kept = self._intact(key)
            if kept is not None:
                return kept
            with self._incoming() as folder:
                file, digest, count = _write(folder, source)
                place = self._root / key
                written = _fingerprint(file)
                # Its parents may be swept away between the two lines by a delete_prefix: once more is enough, because
                # whoever deletes a job no longer starts its steps.
                for _ in range(2):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        os.rename(folder, place)
                        break
                    except FileNotFoundError:
                        continue
                    except OSError as error:
                        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                            raise
                        kept = self._intact(key)
                        if kept is not None:
                            return kept
                        if any(place.iterdir()):
                            raise errors.InvalidSpec(
                                field="key", problem=f"{key!r} is a folder of other keys"
                            ) from error
                else:
                    os.rename(folder, place)
                # From here on it can be deleted: that is no fault of whoever wrote it.
                with contextlib.suppress(FileNotFoundError):
                    sync_folder(place.parent)
                self._checked.add(written)
                return ObjectInfo(key, digest, count)

    def _intact(self, key: str) -> ObjectInfo | None:
        """What is under a key; a corrupt object is removed, so that the retry that writes it again mends it."""
        info = self._info(key)
        if info is None:
            return None
        try:
            self._verified(key)
        except errors.ObjectCorrupt:
            self._remove(key)
            return None
        return info

    def _file(self, key: str) -> Path | None:
        try:
            with os.scandir(self._root / key) as entries:
                for entry in entries:
                    if entry.name.startswith(NAME) and entry.is_file(follow_symlinks=False):
                        return Path(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None

    def _info(self, key: str) -> ObjectInfo | None:
        file = self._file(key)
        if file is None:
            return None
        try:
            return ObjectInfo(key, file.name.removeprefix(NAME), file.stat().st_size)
        except FileNotFoundError:
            return None

    def _verified(self, key: str) -> Path:
        file = self._file(key)
        if file is None:
            raise errors.ObjectMissing(key=key)
        try:
            fingerprint = _fingerprint(file)
            if fingerprint not in self._checked:
                found, expected = digest_of_file(file), file.name.removeprefix(NAME)
                if found != expected:
                    raise errors.ObjectCorrupt(key=key, found=found, expected=expected)
                self._checked.add(fingerprint)
        except FileNotFoundError:
            raise errors.ObjectMissing(key=key) from None
        return file

    def _list(self, prefix: str) -> Sequence[ObjectInfo]:
        found = []
        for folder, _, names in os.walk(self._root / prefix):
            for name in names:
                if name.startswith(NAME):
                    key = Path(folder).relative_to(self._root).as_posix()
                    info = self._info(key)
                    if info is not None:
                        found.append(info)
        return sorted(found, key=lambda info: info.key)

    def _remove(self, key: str) -> None:
        """Only the object's own file: keys below it, if there are any, are other objects."""
        file = self._file(key)
        if file is not None:
            with self._disk_errors(), contextlib.suppress(FileNotFoundError):
                file.unlink()
        self._remove_empty_folders(key)

    def _remove_all(self, prefix: str) -> int:
        """Out of sight at once, by one rename; then off the disk."""
        count = len(self._list(prefix))
        with self._disk_errors(), self._incoming() as folder, contextlib.suppress(FileNotFoundError):
            os.rename(self._root / prefix, folder / "deleted")
        self._remove_empty_folders(prefix)
        return count

    def _remove_empty_folders(self, key: str) -> None:
        place = self._root / key
        for folder in (place, *place.parents):
            if folder == self._root:
                return
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                # Not empty: other objects live there.
                return

    def _sweep(self, older_than_s: float) -> int:
        count = 0
        incoming = self._root / INCOMING
        for folder in incoming.iterdir() if incoming.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime >= older_than_s:
                    shutil.rmtree(folder)
                    count += 1
        return count

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        """A fresh folder on the same disk; gone afterwards unless it was renamed into place."""
        incoming = self._root / INCOMING
        incoming.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=incoming))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise errors.NoSpace(path=self._root, free_bytes=shutil.disk_usage(self._root).free) from error
            if error.errno in _FORBIDDEN:
                raise errors.OutputUnwritable(path=error.filename or self._root, detail=error.strerror) from error
            raise


def _write(folder: Path, source: BinaryIO) -> tuple[Path, str, int]:
    writing = folder / "writing"
    with writing.open("xb") as target:
        digest, count = copy_and_digest(source, target)
        target.flush()
        os.fsync(target.fileno())
    file = folder / f"{NAME}{digest}"
    writing.rename(file)
    sync_folder(folder)
    # mkdtemp gives 0700; containers of one pod share the folder under different users of one group.
    folder.chmod(0o750)
    return file, digest, count


def _fingerprint(file: Path) -> tuple[str, int, int, int]:
    found = file.stat()
    return (file.name, found.st_ino, found.st_size, found.st_mtime_ns)


def sync_folder(folder: Path) -> None:
    """Make names that were just put into a folder outlive a loss of power."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
