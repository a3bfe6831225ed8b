"""The output's way out of the store: whole or not at all, its record first."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from pathlib import Path

from services.common.errors import NoSpace, OutputExists, OutputUnwritable
from services.common.store.folder import sync_folder
from services.common.store.objects import ObjectStore


async def publish(
    store: ObjectStore, *, artifact_key: str, record_key: str, output: Path, record: Path, replaces: bool
) -> None:
    """Copy artifact and record beside each other.

    Raises:
        OutputExists: somebody put a file there while the job ran, and it is not to be replaced.
        OutputUnwritable, NoSpace: it cannot be written; what was there is as it was.
    """
    if output.exists() and not replaces:
        raise OutputExists(path=str(output))
    async with store.local_path(artifact_key) as made, store.local_path(record_key) as said:
        partial = await asyncio.to_thread(_copied, made, output)
        try:
            await asyncio.to_thread(_replace, said, record)
            partial.replace(output)
            sync_folder(output.absolute().parent)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        _replace(Path(file.name), path)


def _replace(source: Path, target: Path) -> None:
    partial = _copied(source, target)
    try:
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _copied(source: Path, target: Path) -> Path:
    """A copy under another name beside its target, on the disk for good."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with source.open("rb") as reading, partial.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fsync(writing.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(target.absolute().parent).free
            raise NoSpace(path=str(target.parent), needed_bytes=source.stat().st_size, free_bytes=free) from error
        raise OutputUnwritable(path=str(target), detail=error.strerror) from error
    return partial
