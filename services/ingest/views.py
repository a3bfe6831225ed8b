"""Writing what a caller wants of a frame into the memory it lent.

Where each picture lies follows from what was asked (`lanes.views`, `lanes.pictures.lay_out`), so both ends compute it
and nobody has to say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import cv2

from services.common.errors import InvalidSpec
from services.common.lanes.pictures import LONGEST_SIDE, lay_out, write_picture
from services.common.lanes.views import CoverWanted, CropsWanted, PlanesWanted, RgbWanted, ViewWanted, wants
from services.common.media.index import MediaIndex, Picture
from services.common.planes import Planes, rgb_crop, rgb_view
from services.ingest.covering import Coverer
from services.ingest.upright import Stored, Uprighter

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MOST_VIEWS: Final = 16
"""Views of one stream; a conductor asks for two or three."""


class ViewWriter:
    """Writes the views of one stream's frames, each wherever its caller said."""

    def __init__(self, picture: Picture, views: Sequence[ViewWanted], *, name: str = "the video") -> None:
        self._picture = picture
        self._views = views
        self._uprighter = Uprighter(picture, name=name)
        self._coverer = Coverer(picture)
        self._scratch: Planes | None = None
        # One thread does not depend on the others' load, and in a child there is one decoder to feed.
        cv2.setNumThreads(1)

    def write(self, number: int, frame: VideoFrame, out: memoryview) -> None:
        """All views wanted of frame `number`, from the beginning of `out`.

        Raises:
            CorruptMedia: the frame has another size than its index says.
        """
        shapes = [view.shapes(number) for view in self._views]
        offsets = iter(lay_out([shape for group in shapes for shape in group])[0])
        places = [[next(offsets) for _ in group] for group in shapes]
        stored = self._uprighter.stored(frame, number=number)
        upright = self._write_planes(number, stored, places, out)
        for view, where in zip(self._views, places, strict=True):
            if isinstance(view, CoverWanted) and where:
                target = Planes.view(out[where[0] :], view.width, view.height, view.colour)
                self._coverer.write(frame, target)
            elif isinstance(view, (RgbWanted, CropsWanted)) and where:
                upright = upright or self._upright(stored)
                self._write_rgb(number, view, upright, where, out)

    def _write_planes(
        self, number: int, stored: Stored, places: Sequence[Sequence[int]], out: memoryview
    ) -> Planes | None:
        """The planes, if they are wanted; then the other views read what was written, which is in the cache."""
        for view, where in zip(self._views, places, strict=True):
            if isinstance(view, PlanesWanted) and wants(view.frames, number):
                picture = self._picture
                planes = Planes.view(out[where[0] :], picture.width, picture.height, picture.colour)
                self._uprighter.write(stored, planes)
                return planes
        return None

    def _upright(self, stored: Stored) -> Planes:
        """The upright planes where nobody asked for them: the decoder's own memory if that will do, else a copy."""
        planes = self._uprighter.view(stored)
        if planes is not None:
            return planes
        if self._scratch is None:
            self._scratch = Planes.empty(self._picture.width, self._picture.height, self._picture.colour)
        self._uprighter.write(stored, self._scratch)
        return self._scratch

    def _write_rgb(
        self, number: int, view: RgbWanted | CropsWanted, upright: Planes, where: Sequence[int], out: memoryview
    ) -> None:
        if isinstance(view, RgbWanted):
            write_picture(rgb_view(upright, width=view.width, height=view.height), out[where[0] :])
            return
        for box, place in zip(view.boxes[number], where, strict=True):
            write_picture(rgb_crop(upright, box), out[place:])


def check_views(views: Sequence[ViewWanted], index: MediaIndex, *, most_pixels: int) -> None:
    """Refuse views that cannot be given of this video.

    Raises:
        InvalidSpec: says which and why.
    """
    if len(views) > MOST_VIEWS:
        raise InvalidSpec(field="views", problem=f"{len(views)} of them, at most {MOST_VIEWS}")
    if sum(isinstance(view, PlanesWanted) for view in views) > 1:
        raise InvalidSpec(field="views", problem="the frame's own planes are asked for twice")
    for number, view in enumerate(views):
        problem = _problem(view, index, most_pixels)
        if problem:
            raise InvalidSpec(field=f"views[{number}]", problem=problem)


def _problem(view: ViewWanted, index: MediaIndex, most_pixels: int) -> str | None:
    if isinstance(view, CropsWanted):
        for number, boxes in view.boxes.items():
            for x0, y0, x1, y1 in boxes:
                if not (0 <= x0 < x1 <= index.width and 0 <= y0 < y1 <= index.height):
                    return f"frame {number}: {x0},{y0},{x1},{y1} is not inside {index.width}x{index.height}"
                if x0 % 2 or y0 % 2:
                    return f"frame {number}: x0 and y0 of a crop are even"
        return None
    if (
        not (0 < view.width <= LONGEST_SIDE and 0 < view.height <= LONGEST_SIDE)
        or view.width * view.height > most_pixels
    ):
        return f"a view cannot be {view.width}x{view.height}"
    if isinstance(view, CoverWanted) and (view.width % 2 or view.height % 2):
        return "planes have even sides"
    return None
