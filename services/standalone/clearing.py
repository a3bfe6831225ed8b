"""What nobody has worked on for a while leaves the data folder: inputs, segments, results that were copied out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from services.standalone.data_folder import DataFolder

KINDS = ("jobs", "assets")
"""Folders of a tenant that fill up by themselves. Identities are enrolled on purpose and stay."""


def clear(folder: DataFolder, *, older_than_s: float) -> int:
    """Remove jobs' objects and assets that were last written so long ago; answers how many were removed.

    The caller owns the data folder, and no service runs in it yet. A command that still wants an asset puts it back.
    """
    before = time.time() - older_than_s
    stale = [place for place in _places(folder.objects) if _last_written(place) < before]
    for place in stale:
        shutil.rmtree(place)
    return len(stale)


def _places(objects: Path) -> Iterator[Path]:
    for kind in KINDS:
        yield from (place for place in objects.glob(f"[!.]*/{kind}/*") if place.is_dir())


def _last_written(place: Path) -> float:
    return max(each.stat().st_mtime for each in (place, *place.rglob("*")))
