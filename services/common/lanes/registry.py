"""The regions that this process can see, by id."""

from __future__ import annotations

import threading
from pathlib import Path

from services.common.errors import LaneRefused
from services.common.lanes.region import Region

MOST_OPENED = 32
"""Regions of others kept mapped at once. A pod has a handful of conductors; more means that ids are being tried."""


class Registry:
    """Finds a region by id: our own, one that was handed to us, or a file in the folder that containers share."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, Region] = {}
        self._opened: dict[str, Region] = {}

    def register(self, region: Region) -> None:
        """Make a region known. It stays its owner's to close."""
        with self._lock:
            self._known[region.id] = region

    def forget(self, region_id: str) -> None:
        """Take a region out, if it is there; close it if we opened it."""
        with self._lock:
            self._known.pop(region_id, None)
            opened = self._opened.pop(region_id, None)
        if opened is not None:
            opened.close()

    def find(self, region_id: str) -> Region:
        """The region of this id, opened if need be.

        A region opened from a file stays mapped until its owner has gone: looked at whenever another one is opened.

        Raises:
            LaneRefused: nobody told us of it, and the shared folder, if there is one, does not hold it.
        """
        with self._lock:
            region = self._known.get(region_id) or self._opened.get(region_id)
            if region is not None and not region.is_closed:
                return region
            if self.folder is None:
                raise LaneRefused(detail="this process does not see the region")
            self._drop_orphans()
            if len(self._opened) >= MOST_OPENED:
                raise LaneRefused(detail=f"{MOST_OPENED} regions are open already")
            opened = Region.from_file(self.folder, region_id)
            self._opened[region_id] = opened
            return opened

    def close(self) -> None:
        """Let go of every region that was opened from a file."""
        with self._lock:
            opened, self._opened = self._opened, {}
        for region in opened.values():
            region.close()

    def _drop_orphans(self) -> None:
        """Held lock."""
        for region_id in [region_id for region_id, region in self._opened.items() if region.is_orphan]:
            self._opened.pop(region_id).close()


REGIONS = Registry()
"""This process's regions. One, because an id must mean the same to every service that lives here; a service that shares
memory with other containers sets `REGIONS.folder` when it starts."""
