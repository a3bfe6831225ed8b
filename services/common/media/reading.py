"""A file as FFmpeg reads it: a read that fails ends the reading, and its error is raised behind it.

A demuxer takes the error of a read for damage and looks further on in the file; PyAV keeps one exception and prints
those that come after it. Where every read fails, for want of memory or of a disk, the two of them go on for ever. So
FFmpeg is told of the end of the file instead, which every demuxer believes, and the error waits until it has stopped.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


class WatchedFile:
    """What `av.open` needs of a file. After the first failure it is at its end, wherever it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failure: Exception | None = None

    def read(self, count: int) -> bytes:
        """At most so many bytes; none at the end, and after a failure."""
        if self.failure is not None:
            return b""
        try:
            return self._file.read(count)
        except (MemoryError, OSError) as error:
            self.failure = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new position; FFmpeg's own code for a fault of the device after a failure."""
        try:
            return -errno.EIO if self.failure is not None else self._file.seek(offset, whence)
        except MemoryError as error:
            self.failure = error
            return -errno.EIO

    def tell(self) -> int:
        """The position."""
        return self._file.tell()


@contextmanager
def watched(file: IO[bytes]) -> Iterator[WatchedFile]:
    """The file for the block; what went wrong in reading it rises at the end, in place of what followed from it.

    Raises:
        MemoryError, OSError: what a read failed of.
    """
    reading = WatchedFile(file)
    try:
        yield reading
    except Exception as error:
        if reading.failure is not None:
            raise reading.failure from error
        raise
    if reading.failure is not None:
        raise reading.failure
