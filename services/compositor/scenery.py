"""What is done to the frames of a segment, and the doing of it to one frame: no waiting here, no peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.compositor import blending, matte
from services.compositor.backgrounds import blurred_background

if TYPE_CHECKING:
    from services.common.arrays import Alpha8
    from services.common.planes import Planes
    from services.compositor.backdrop import Moving, Still
    from services.compositor.faces import Cast, Placed
    from services.compositor.label import Label
    from services.compositor.orders import RenderOrder


@dataclass(frozen=True, slots=True)
class Scenery:
    """What is done to the frames, made once a segment."""

    order: RenderOrder
    frames: int
    """Of the whole video."""

    width: int
    height: int
    cast: Cast | None = None
    backdrop: Still | Moving | None = None
    matting: tuple[int, int] | None = None
    """Size that the matting model takes; None if the background stays."""

    label: Label | None = None

    def needs_matte(self, frame: int) -> bool:
        """Whether a rendered frame's background is replaced."""
        return self.matting is not None and self.order.acts_on(frame)

    def neighbours(self, frame: int) -> range:
        """The frames whose mattes a frame's takes in: of the same scene, never beyond the video's ends."""
        low, high = 0, self.frames
        if self.cast is not None:
            for cut in self.cast.cuts:
                if cut <= frame:
                    low = cut
                else:
                    high = cut
                    break
        radius = matte.RADIUS_FRAMES
        return range(max(low, frame - radius), min(high, frame + radius + 1))


def compose(
    planes: Planes,
    patches: Sequence[tuple[Placed, blending.Patch]],
    mattes: Sequence[Alpha8] | None,
    centre: int,
    behind: Planes | None,
    blur: float,
    label: Label | None,
) -> None:
    """All that changes in one frame, in place: faces first, then what is behind them, the label on top."""
    alpha = None
    if mattes is not None:
        # The picture's own edges guide the matte: before a patch has changed any.
        alpha = matte.refine(matte.temporal_filter(np.stack(mattes), centre=centre), planes.y)
    for placed, patch in patches:
        blending.blend_patch(planes, patch, placed.box[0], placed.box[1])
    if alpha is not None:
        background = behind if behind is not None else blurred_background(planes, alpha, blur=blur)
        blending.blend_background(planes, background, alpha)
    if label is not None:
        label.draw(planes)
