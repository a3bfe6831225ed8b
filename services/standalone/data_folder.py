"""The data folder and the lock that says which process owns it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType

from services.common.errors import DataFolderBusy, OutputUnwritable

LOCK = "owner.lock"


class DataFolder:
    """Objects, jobs and settings of one user. `with DataFolder(path)` owns it until the block ends.

    The kernel drops the lock when the owner dies, however it dies, so a lock never outlives its owner.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock: int | None = None

    @property
    def objects(self) -> Path:
        """Root of the store."""
        return self.path / "objects"

    @property
    def scratch(self) -> Path:
        """Temporary files, on the disk that the store is on."""
        return self.path / "scratch"

    @property
    def consents(self) -> Path:
        """Remembered answers about portraits."""
        return self.path / "consents.json"

    def __enter__(self) -> DataFolder:
        try:
            for folder in (self.path, self.objects, self.scratch):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutputUnwritable(path=str(self.path), detail=error.strerror or str(error)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(lock, 64, 0).decode(errors="replace").strip()
            os.close(lock)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise DataFolderBusy(path=str(self.path), pid=owner.removeprefix("process ") or "unknown") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}".encode(), 0)
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
