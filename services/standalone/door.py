"""The door of an owned data folder: where its owner's services answer, and whether somebody is in there with them.

The owner writes the addresses once its services listen. A second command finds the folder taken, reads them and works
there as a guest. Each guest holds a shared lock for as long as it works, which the kernel drops when it dies, so that
an owner who wants to leave knows whether anybody would lose their services.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DOOR: Final = "door.json"
GUESTS: Final = "guests.lock"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Door:
    """Addresses of running services.

    Attributes:
        owner: id of the process that runs them.
        targets: by the short name of the service.
        public: where other systems call; empty where nothing is served to them.
    """

    owner: int
    targets: Mapping[str, str]
    public: str


@contextlib.contextmanager
def opened(folder: Path, targets: Mapping[str, str], public: str) -> Iterator[None]:
    """Write the addresses into a data folder, for as long as the block lasts. The caller owns the folder."""
    path = folder / DOOR
    text = json.dumps({"format": _FORMAT, "owner": os.getpid(), "targets": dict(targets), "public": public})
    writing = path.with_name(f".{DOOR}.{os.getpid()}")
    descriptor = os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    writing.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_door(folder: Path) -> Door | None:
    """The door of a data folder; None while its owner has not opened it. What is read may be of an owner that died."""
    try:
        found = json.loads((folder / DOOR).read_text(encoding="utf-8"))
        return Door(int(found["owner"]), dict(found["targets"]), str(found["public"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def as_guest(folder: Path) -> Iterator[None]:
    """Be known to the owner as somebody who needs its services."""
    lock = os.open(folder / GUESTS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


def has_guests(folder: Path) -> bool:
    """Whether anybody works in a data folder beside its owner."""
    lock = os.open(folder / GUESTS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return True
    else:
        return False
    finally:
        os.close(lock)
