"""Second places for results: folders that the operator has named."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from services.common.errors import PublishFailed
from services.common.store.objects import ObjectStore


async def publish(store: ObjectStore, places: Mapping[str, Path], *, place: str, name: str, artifact_key: str) -> None:
    """Put a result into a place; where it is already, nothing happens.

    Raises:
        PublishFailed: it could not be put there; the result is kept.
    """
    folder = places.get(place)
    if folder is None:
        raise PublishFailed(place=place, detail="there is no place of this name")
    async with store.local_path(artifact_key) as source:
        try:
            await asyncio.to_thread(_copy, source, folder / name)
        except OSError as error:
            raise PublishFailed(place=place, detail=error.strerror) from error


def _copy(source: Path, target: Path) -> None:
    writing = target.with_name(f".{target.name}.writing")
    shutil.copyfile(source, writing)
    os.replace(writing, target)
