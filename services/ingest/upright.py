"""From a decoder's frame to upright 8-bit 4:2:0 planes: what is converted, turned and padded, and what is not.

Most video is 8-bit 4:2:0 already; its samples are only moved, never computed. The rest is converted once, here, with
the scaler told to be exact (its defaults change almost every luma sample), and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from services.common.arrays import Plane
from services.common.colour import BT709, FULL, LIMITED, UNSPECIFIED, ColourTags
from services.common.errors import CorruptMedia, DisplayMatrixUnsupported, FormatRefused, HdrUnsupported
from services.common.media.index import Picture, Turn
from services.common.planes import Planes

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

EXACT: Final = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
"""Without these flags swscale darkens a picture by 1.6 levels on its way through RGB."""

AS_THEY_ARE: Final = frozenset({"yuv420p", "yuvj420p"})
_HDR_TRANSFERS: Final = {16: "PQ", 18: "HLG"}
_TOP_FIRST: Final = frozenset({0, 1, 2, 5})
"""AVFieldOrder of which the top field is shown first: unknown, progressive, TT, BT (coded bottom first)."""


def turn_of(frame: VideoFrame, *, name: str = "the video") -> Turn:
    """What the display matrix of a frame asks for.

    The matrix is nine int32, rows a b u, c d v, x y w; the picture is turned by multiples of 90 degrees exactly where
    one of its diagonals is zero.

    Raises:
        DisplayMatrixUnsupported: any other angle, or a shear.
    """
    sides: Iterable[Any] = frame.side_data
    for side in sides:
        if side.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(n) for n in np.frombuffer(side, np.int32)[:5])
            if b == 0 and c == 0:
                return Turn(flip_h=a < 0, flip_v=d < 0)
            if a == 0 and d == 0:
                return Turn(transpose=True, flip_h=c < 0, flip_v=b < 0)
            raise DisplayMatrixUnsupported(path=name, degrees=round(float(np.degrees(np.arctan2(b, a))), 1))
    return Turn()


def describe(
    frame: VideoFrame, *, sar: Fraction | None, field_order: int, name: str = "the video"
) -> tuple[Picture, tuple[str, ...]]:
    """The upright picture that frames like this one become, and what the report must say about it.

    Raises:
        HdrUnsupported, DisplayMatrixUnsupported, FormatRefused: pictures that we cannot keep true.
    """
    transfer = int(frame.color_trc)
    if transfer in _HDR_TRANSFERS:
        raise HdrUnsupported(path=name, transfer=_HDR_TRANSFERS[transfer])
    turn = turn_of(frame, name=name)
    width, height = (frame.height, frame.width) if turn.transpose else (frame.width, frame.height)
    even = (width + width % 2, height + height % 2)
    stored = frame.format.name
    tags = _tags_after_conversion(frame)
    colour = tags.resolved(even[1])
    if not colour.is_known:
        raise FormatRefused(
            path=name,
            format=f"colour matrix {colour.matrix}",
            remedy="convert it to BT.709 (ffmpeg -vf colorspace=bt709)",
        )
    notes = []
    if stored not in AS_THEY_ARE:
        notes.append(f"converted from {stored}")
    if colour.matrix != tags.matrix:
        notes.append(f"matrix assumed {'bt709' if colour.matrix == BT709 else 'bt601'}")
    if sar is not None and turn.transpose:
        sar = 1 / sar
    picture = Picture(
        width=even[0],
        height=even[1],
        coded_width=frame.width,
        coded_height=frame.height,
        coded_format=stored,
        colour=colour,
        padded_from=None if even == (width, height) else (width, height),
        sar=sar,
        turn=turn,
        is_interlaced=bool(frame.interlaced_frame),
        top_field_first=field_order in _TOP_FIRST,
    )
    return picture, tuple(notes)


def _tags_after_conversion(frame: VideoFrame) -> ColourTags:
    tags = ColourTags(
        matrix=int(frame.colorspace),
        range=int(frame.color_range),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )
    name = frame.format.name
    if _is_rgb(frame):
        known = [BT709 if number == UNSPECIFIED else number for number in (tags.primaries, tags.transfer)]
        return ColourTags(BT709, LIMITED, *known)
    if name.startswith("yuvj") or (name.startswith("gray") and tags.range != LIMITED):
        return ColourTags(tags.matrix, FULL, tags.primaries, tags.transfer)
    return tags


def _is_rgb(frame: VideoFrame) -> bool:
    return bool(frame.format.is_rgb) or frame.format.name == "pal8"


@dataclass(frozen=True, slots=True)
class Stored:
    """One frame as stored but 8-bit 4:2:0: views of the decoder's memory, not yet turned or padded.

    Attributes:
        frame: keeps the memory alive.
        planes: Y (h, w), U and V (ceil(h/2), ceil(w/2)), uint8, rows may be apart.
    """

    frame: VideoFrame
    planes: tuple[Plane, Plane, Plane]


class Uprighter:
    """Makes upright planes of one video's frames. Holds the scaler's state; one for each thread."""

    def __init__(self, picture: Picture, *, name: str = "the video") -> None:
        self._picture = picture
        self._name = name
        self._reformatter = VideoReformatter()

    def stored(self, frame: VideoFrame, *, number: int) -> Stored:
        """The frame's 8-bit 4:2:0 planes without a copy, converted only where the format asks for it.

        Raises:
            CorruptMedia: the picture has another size than the index says.
        """
        coded = (self._picture.coded_width, self._picture.coded_height)
        if (frame.width, frame.height) != coded:
            raise CorruptMedia(
                path=self._name,
                at=f"frame {number}",
                detail=f"the picture changes from {coded[0]}x{coded[1]} to {frame.width}x{frame.height}",
                remedy="export the video with one picture size",
            )
        eight = frame if frame.format.name in AS_THEY_ARE else self._convert(frame)
        height, width = eight.height, eight.width
        sizes = ((height, width), ((height + 1) // 2, (width + 1) // 2), ((height + 1) // 2, (width + 1) // 2))
        y, u, v = (
            np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
            for plane, (rows, columns) in zip(eight.planes[:3], sizes, strict=True)
        )
        return Stored(eight, (y, u, v))

    def write(self, stored: Stored, out: Planes) -> None:
        """Turn and pad into planes of the picture's size: one copy in all."""
        turn = self._picture.turn
        for source, target in zip(stored.planes, (out.y, out.u, out.v), strict=True):
            copy_turned(source, target, turn)

    def view(self, stored: Stored) -> Planes | None:
        """The upright planes without any copy; None where turning or padding would need one."""
        if self._picture.turn != Turn() or self._picture.padded_from is not None:
            return None
        return Planes(*stored.planes, colour=self._picture.colour)

    def _convert(self, frame: VideoFrame) -> VideoFrame:
        how: dict[str, Any] = {}
        if _is_rgb(frame):
            how = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        elif self._picture.colour.is_full:
            # Named on both sides, or swscale takes one of them for limited and compresses the range.
            how = {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.JPEG}
        return self._reformatter.reformat(frame, format="yuv420p", interpolation=EXACT, threads=1, **how)


def copy_turned(source: Plane, target: Plane, turn: Turn) -> None:
    """Copy a stored plane into an upright one that is equal or one row or column larger, repeating the last.

    Padding belongs to the stored picture (its right and lower edge), turning comes after.
    """
    lying = _turned_back(target, turn)
    rows, columns = source.shape
    np.copyto(lying[:rows, :columns], source)
    if lying.shape[1] > columns:
        lying[:rows, columns] = source[:, -1]
    if lying.shape[0] > rows:
        lying[rows] = lying[rows - 1]


def _turned_back(upright: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    """A view of upright memory in the order of the stored picture."""
    if turn.flip_v:
        upright = upright[::-1]
    if turn.flip_h:
        upright = upright[:, ::-1]
    return upright.T if turn.transpose else upright
