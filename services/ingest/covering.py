"""A frame as the background of another video: scaled to cover its size, in its colour space."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from services.common.colour import ColourTags
from services.common.media.index import Picture
from services.common.planes import Planes
from services.ingest.upright import EXACT, copy_turned

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_SPACES: Final = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
"""H.273's matrices in swscale's names."""


def cover_size(picture: Picture, width: int, height: int) -> tuple[int, int]:
    """The size of a stored frame scaled to cover an upright target with no side left bare, even, as it is stored.

    Args:
        picture: of the frame; its sample aspect ratio is honoured.
        width: of the target, upright.
        height: of the target, upright.

    Returns:
        Width and height before turning; at least the target's, turned back.
    """
    lying = picture.turn.transpose
    target_width, target_height = (height, width) if lying else (width, height)
    sar = picture.sar or Fraction(1)
    shown_width = picture.coded_width * (1 / sar if lying else sar)
    scale = max(target_width / shown_width, Fraction(target_height, picture.coded_height))
    return _even(shown_width * scale), _even(picture.coded_height * scale)


def _even(length: Fraction) -> int:
    return 2 * -(-length // 2).__floor__()


class Coverer:
    """Covers targets with one video's frames. Holds the scaler's state; one for each thread."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._reformatter = VideoReformatter()

    def write(self, frame: VideoFrame, out: Planes) -> None:
        """Scale, convert and crop a stored frame into upright planes, its middle kept.

        Args:
            frame: as decoded.
            out: where; its colour is the one to give.
        """
        picture = self._picture
        width, height = cover_size(picture, out.width, out.height)
        scaled = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="yuvj420p" if out.colour.is_full else "yuv420p",
            interpolation=EXACT,
            threads=1,
            src_colorspace=_SPACES[picture.colour.matrix],
            dst_colorspace=_SPACES[out.colour.matrix],
            src_color_range=_range(picture.colour),
            dst_color_range=_range(out.colour),
        )
        lying = picture.turn.transpose
        target_width, target_height = (out.height, out.width) if lying else (out.width, out.height)
        # On even luma coordinates, or chroma would be half a sample beside its luma.
        left, top = (width - target_width) // 4 * 2, (height - target_height) // 4 * 2
        for number, (plane, target) in enumerate(zip(scaled.planes, (out.y, out.u, out.v), strict=True)):
            part = 1 if number == 0 else 2
            samples = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)
            rows = slice(top // part, (top + target_height) // part)
            columns = slice(left // part, (left + target_width) // part)
            copy_turned(samples[rows, columns], target, picture.turn)


def _range(colour: ColourTags) -> ColorRange:
    return ColorRange.JPEG if colour.is_full else ColorRange.MPEG
