"""The installation's secret: what keyed digests are made with, so that nobody can tell from a name what it names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SECRET: Final = "asset.secret"
SECRET_BYTES: Final = 32


def read_or_make_secret(folder: Path) -> bytes:
    """The one of a data folder, made at first use; 32 bytes. Two processes that make it at once agree on one.

    Args:
        folder: the data folder; it exists.
    """
    path = folder / SECRET
    while True:
        try:
            secret = path.read_bytes()
        except FileNotFoundError:
            secret = b""
        if len(secret) == SECRET_BYTES:
            return secret
        _make(path)


def _make(path: Path) -> None:
    """It appears whole, and only where there is none; one that was torn is replaced."""
    writing = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(SECRET_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        if path.exists():
            writing.replace(path)
        else:
            os.link(writing, path)
    except FileExistsError:
        return
    finally:
        writing.unlink(missing_ok=True)
