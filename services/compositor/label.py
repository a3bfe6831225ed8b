"""A visible line of text in the corner of every frame, for videos that must say by themselves what they are."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from services.common.planes import Planes
from services.compositor.blending import Patch, blend_patch

# Of the shorter side, as labelling rules for synthetic video ask for (GB 45438-2025: at least 5 %).
_HEIGHT_SHARE = 0.05
_LEAST_HEIGHT_PX = 10
_MARGIN_SHARE = 0.4
"""Of the letters' height: around them in their box, and from the box to the frame's border."""

_BOX_OPACITY = 140


class Label:
    """The text as a patch, drawn once for all frames of one size."""

    def __init__(self, text: str, *, width: int, height: int) -> None:
        letters = _letters(text, min(width, height), widest=width)
        margin = max(2, round(_MARGIN_SHARE * letters.shape[0]))
        alpha = np.pad(letters, margin)
        grey = alpha.copy()
        # White letters on a dark box: readable on any picture.
        opacity = np.maximum(alpha, np.uint8(_BOX_OPACITY))
        room = (max(2, height - margin), max(2, width - margin))
        self._patch = Patch(
            rgb=np.ascontiguousarray(np.repeat(grey[: room[0], : room[1], None], 3, axis=2)),
            alpha=np.ascontiguousarray(opacity[: room[0], : room[1]]),
        )
        self._place = (min(margin, width - 2) & ~1, max(0, height - margin - self._patch.alpha.shape[0]) & ~1)

    def draw(self, planes: Planes) -> None:
        """Put the text into a frame, in place."""
        blend_patch(planes, self._patch, *self._place)


def _letters(text: str, short_side: int, *, widest: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """(h, w) uint8 coverage of the text, as large as it may be and still fit the frame."""
    size = max(_LEAST_HEIGHT_PX, round(short_side * _HEIGHT_SHARE))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    if right - left > 0.9 * widest:
        size = max(_LEAST_HEIGHT_PX // 2, int(size * 0.9 * widest / (right - left)))
        font = ImageFont.load_default(size)
        left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(picture).text((-left, -top), text, font=font, fill=255)
    return np.asarray(picture, np.uint8).copy()
