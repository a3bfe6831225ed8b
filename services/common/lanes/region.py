"""One piece of memory that several processes see: its layout, how it is opened, and how a slot in it is borrowed.

    header | table: generation and length of the slot that begins at each page | pages of 64 KiB

A slot is named by where it begins and by its generation. The owner writes the generation into the table when it lends
the slot and takes it out when it takes the slot back; whoever borrows looks before and after, so that a late reader
gets an error and never another frame's pixels.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import secrets
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.errors import LaneRefused, LeaseExpired, NoSpace

PAGE_BYTES: Final = 64 * 1024
"""Grain of the memory: small enough for a matte, large enough that a ring of 1 GiB has 16,384 pages to search."""

_HEADER: Final = struct.Struct("<8sQQQ")
"""Magic with layout version, page size, number of pages, offset of the first page; all in bytes where not counted."""

_MAGIC: Final = b"MASQLAN1"
_TABLE_OFFSET: Final = 64
_ROW_BYTES: Final = 16
_MOST_PAGES: Final = 1 << 24
"""A terabyte of pages: beyond this a header is nonsense."""

_REGION_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_FULL = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class SlotRef:
    """The name of a lent slot, as it travels: nothing in it is believed before `Region.borrow` has looked.

    Attributes:
        region: id of the region, 32 hexadecimal digits.
        offset: where the slot begins in the region, bytes.
        nbytes: how much of it is meant, from its beginning.
        generation: which lending of the slot is meant.
    """

    region: str
    offset: int
    nbytes: int
    generation: int


class Region:
    """A mapping of shared memory, owned (see `create`) or opened from a descriptor or a file that another one made.

    It ends with `close`, or with the last array that looks into it; a killed process leaves no memory behind, and at
    most a file in a shared folder, which the next owner there sweeps away.
    """

    def __init__(self, *, region_id: str, descriptor: int, file: Path | None = None) -> None:
        """Map a descriptor whose header is already written; the region owns the descriptor from now on."""
        self.id = region_id
        self._descriptor = descriptor
        self._file = file
        self._closing = threading.Lock()
        self._closed = False
        try:
            self.nbytes = os.fstat(descriptor).st_size
            self.page_bytes, self.pages, self.first_page = _read_header(descriptor, self.nbytes)
            self._mapping = mmap.mmap(descriptor, self.nbytes)
        except BaseException:
            os.close(descriptor)
            raise
        self._memory = memoryview(self._mapping)
        self._table = self._memory[_TABLE_OFFSET : _TABLE_OFFSET + self.pages * _ROW_BYTES].cast("Q")

    @classmethod
    def create(cls, nbytes: int, *, folder: Path | None = None, page_bytes: int = PAGE_BYTES) -> Region:
        """Make a region with room for `nbytes` in slots, every page of it allocated now.

        Without allocating first, a full /dev/shm would end a process with SIGBUS at its first write.

        Args:
            nbytes: room for slots, rounded up to pages.
            folder: where to make a file that other containers of a pod open; None makes an anonymous memfd.
            page_bytes: grain; a multiple of 64.

        Raises:
            NoSpace: there is not that much memory.
        """
        if nbytes <= 0 or page_bytes <= 0 or page_bytes % 64:
            raise ValueError(f"a region of {nbytes} bytes in pages of {page_bytes} cannot be")
        pages = -(-nbytes // page_bytes)
        first_page = -(-(_TABLE_OFFSET + pages * _ROW_BYTES) // page_bytes) * page_bytes
        total = first_page + pages * page_bytes
        region_id = secrets.token_hex(16)
        file = None if folder is None else folder / region_id
        descriptor = os.memfd_create("masquerade-lane", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING) if file is None else -1
        try:
            if file is not None:
                descriptor = _create_file(file)
            os.posix_fallocate(descriptor, 0, total)
            os.pwrite(descriptor, _HEADER.pack(_MAGIC, page_bytes, pages, first_page), 0)
            if file is None:
                # A peer could otherwise shorten what we have mapped, and our next read would be SIGBUS.
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            if file is not None:
                file.unlink(missing_ok=True)
            if error.errno in _FULL:
                raise NoSpace(path=folder or "shared memory", needed_bytes=total) from error
            raise
        return cls(region_id=region_id, descriptor=descriptor, file=file)

    @classmethod
    def from_descriptor(cls, region_id: str, descriptor: int) -> Region:
        """Open a region that was passed as a descriptor, inside a process tree. The descriptor is duplicated."""
        return cls(region_id=_checked_id(region_id), descriptor=os.dup(descriptor))

    @classmethod
    def from_file(cls, folder: Path, region_id: str) -> Region:
        """Open a region in a folder that containers share.

        Raises:
            LaneRefused: there is no such file, it is no region, or we may not open it.
        """
        path = folder / _checked_id(region_id)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise LaneRefused(detail=f"region {region_id} cannot be opened: {error.strerror}") from error
        return cls(region_id=region_id, descriptor=descriptor)

    def fileno(self) -> int:
        """The descriptor, to be passed to a child process."""
        return self._descriptor

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def is_orphan(self) -> bool:
        """Whether the file that a region was opened from has lost its name: then only we keep its memory."""
        return self._closed or (self._file is None and os.fstat(self._descriptor).st_nlink == 0)

    def memory(self, offset: int, nbytes: int) -> memoryview:
        """Writable bytes, unchecked: for the owner, who knows what it has lent.

        Raises:
            LeaseExpired: the region was closed.
        """
        if self._closed:
            raise LeaseExpired(slot=offset)
        return self._memory[offset : offset + nbytes]

    def lend(self, offset: int, *, nbytes: int, generation: int) -> None:
        """Enter a slot into the table: from now on it can be borrowed."""
        row = self._row(offset)
        self._table[row + 1] = nbytes
        self._table[row] = generation

    def take_back(self, offset: int) -> None:
        """Take a slot out of the table: from now on borrowing it fails, and so does the end of borrowing it."""
        self._table[self._row(offset)] = 0

    def is_lent(self, ref: SlotRef) -> bool:
        """Whether `ref` names a slot that is lent, at least as long as it says. Any numbers may be asked about."""
        if self._closed or ref.region != self.id or ref.generation <= 0 or ref.nbytes < 0:
            return False
        page, rest = divmod(ref.offset - self.first_page, self.page_bytes)
        if rest or not 0 <= page < self.pages or ref.offset + ref.nbytes > self.nbytes:
            return False
        return self._table[2 * page] == ref.generation and ref.nbytes <= self._table[2 * page + 1]

    def check(self, ref: SlotRef) -> None:
        """Refuse a slot that is not, or no longer, lent.

        Raises:
            LeaseExpired: so it is.
        """
        if not self.is_lent(ref):
            raise LeaseExpired(slot=ref.offset, generation=ref.generation)

    @contextmanager
    def borrow(self, ref: SlotRef, *, writable: bool = False) -> Iterator[memoryview]:
        """The bytes of a lent slot, looked at before and after.

        What was made of the bytes is worthless if the end raises: do not pass it on inside the block.

        Raises:
            LeaseExpired: the slot is not lent, or was taken back meanwhile.
        """
        self.check(ref)
        view = self.memory(ref.offset, ref.nbytes)
        yield view if writable else view.toreadonly()
        self.check(ref)

    def peek(self, offset: int, nbytes: int) -> bytes:
        """A copy of a lent slot of exactly this length, whatever its generation: what a handshake may look at.

        Raises:
            LeaseExpired: no such slot is lent there.
        """
        page, rest = divmod(offset - self.first_page, self.page_bytes)
        if self._closed or rest or not 0 <= page < self.pages:
            raise LeaseExpired(slot=offset)
        ref = SlotRef(self.id, offset, nbytes, self._table[2 * page])
        if self._table[2 * page + 1] != nbytes:
            raise LeaseExpired(slot=offset)
        with self.borrow(ref) as view:
            return bytes(view)

    def close(self) -> None:
        """Give the memory up, and the file's name if we made it. Arrays that still look into it stay readable."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        os.close(self._descriptor)
        try:
            self._table.release()
            self._memory.release()
            self._mapping.close()
        except BufferError:
            # Somebody still holds an array on a slot. The mapping goes with the last of them.
            return

    def _row(self, offset: int) -> int:
        return 2 * ((offset - self.first_page) // self.page_bytes)


def sweep(folder: Path) -> int:
    """Remove the regions of owners that died in a shared folder; how many there were.

    An owner holds a lock on its file as long as it lives, so a file that we can lock has no owner.
    """
    swept = 0
    for path in folder.iterdir():
        if not _REGION_ID.fullmatch(path.name):
            continue
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            # Gone since we listed it, or not ours to open: then not ours to remove either.
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            swept += 1
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return swept


def _create_file(path: Path) -> int:
    """An empty file with its owner's lock on it; it gets its name when the lock is held, so no sweep can take it."""
    unnamed = path.with_suffix(".new")
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(path)
    except OSError:
        os.close(descriptor)
        unnamed.unlink(missing_ok=True)
        raise
    return descriptor


def _checked_id(region_id: str) -> str:
    """An id that is safe as a file's name.

    Raises:
        LaneRefused: it is anything but 32 hexadecimal digits.
    """
    if not _REGION_ID.fullmatch(region_id):
        raise LaneRefused(detail="a region's id is 32 hexadecimal digits")
    return region_id


def _read_header(descriptor: int, nbytes: int) -> tuple[int, int, int]:
    """Page size, number of pages and first page, if they describe exactly this many bytes.

    Raises:
        LaneRefused: this is not a region, or not one of our layout.
    """
    head = os.pread(descriptor, _HEADER.size, 0)
    if len(head) == _HEADER.size:
        magic, page_bytes, pages, first_page = _HEADER.unpack(head)
        if (
            magic == _MAGIC
            and 0 < pages <= _MOST_PAGES
            and 0 < page_bytes <= 1 << 30
            and first_page >= _TABLE_OFFSET + pages * _ROW_BYTES
            and first_page + pages * page_bytes == nbytes
        ):
            return page_bytes, pages, first_page
    raise LaneRefused(detail=f"{nbytes} bytes are not a region of this version")
