"""One decoded frame in the hands of a caller of Decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

import numpy as np

from services.common.arrays import Rgb
from services.common.errors import LeaseExpired
from services.common.lanes.pictures import Picture
from services.common.lanes.ring import Slot
from services.common.lanes.views import CoverWanted, CropsWanted, PlanesWanted, RgbWanted, ViewWanted
from services.common.planes import Planes

Made = TypeVar("Made", Planes, Rgb)


class DecodedFrame:
    """The views of one frame, in memory that goes back with `release`: nothing of it may be looked at afterwards.

    The arrays are writable: they are ours until released.

    Attributes:
        index: presentation index.
        pts: in the stream's time base.
        top_field_first: of an interlaced frame; None for others.
    """

    def __init__(
        self,
        index: int,
        pts: int,
        *,
        views: Sequence[ViewWanted],
        pictures: Mapping[int, list[Picture]],
        top_field_first: bool | None = None,
        slot: Slot | None = None,
        on_release: Callable[[DecodedFrame], None] | None = None,
    ) -> None:
        """Wrap what was answered.

        Args:
            index: presentation index.
            pts: in the stream's time base.
            views: what was asked, in order.
            pictures: what was answered, by number of the view; views not wanted of this frame are left out.
            top_field_first: of an interlaced frame.
            slot: the memory that the pictures lie in; None if they own theirs.
            on_release: told when the memory is given back.
        """
        self.index = index
        self.pts = pts
        self.top_field_first = top_field_first
        self._views = views
        self._pictures: Mapping[int, list[Picture]] | None = pictures
        self._slot = slot
        self._on_release = on_release

    @property
    def views(self) -> list[list[Picture]]:
        """The pictures of each view, in the order asked; none where a view is not wanted of this frame."""
        return [self._of(number) for number in range(len(self._views))]

    @property
    def planes(self) -> Planes | None:
        """The frame's own planes, if they were asked for."""
        return self._one(PlanesWanted, Planes)

    @property
    def cover(self) -> Planes | None:
        """The frame covering another size, if that was asked for."""
        return self._one(CoverWanted, Planes)

    @property
    def rgb(self) -> Rgb | None:
        """The whole frame in small, if that was asked for: the first of such views."""
        return self._one(RgbWanted, np.ndarray)

    @property
    def crops(self) -> list[Rgb]:
        """The rectangles asked of this frame, in order."""
        found = (self._of(number) for number, view in enumerate(self._views) if isinstance(view, CropsWanted))
        return [crop for crops in found for crop in crops if isinstance(crop, np.ndarray)]

    @property
    def is_released(self) -> bool:
        """Whether the memory was given back."""
        return self._pictures is None

    def release(self, *, quarantine_s: float = 0.0) -> None:
        """Give the memory back; again is allowed and does nothing.

        Args:
            quarantine_s: how long to keep the memory from being used again, where somebody may still look at it.
        """
        if self._pictures is None:
            return
        self._pictures = None
        if self._slot is not None:
            if quarantine_s:
                self._slot.retire(quarantine_s)
            else:
                self._slot.release()
        if self._on_release is not None:
            self._on_release(self)

    def __enter__(self) -> DecodedFrame:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def _of(self, number: int) -> list[Picture]:
        if self._pictures is None:
            raise LeaseExpired(frame=self.index)
        return self._pictures.get(number, [])

    def _one(self, kind: type[ViewWanted], made: type[Made]) -> Made | None:
        for number, view in enumerate(self._views):
            pictures = self._of(number) if isinstance(view, kind) else []
            if pictures and isinstance(pictures[0], made):
                return pictures[0]
        return None
