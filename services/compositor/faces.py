"""Which faces of a frame are covered, and what of the frame the swapper gets to see of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.common.planes import rgb_crop
from services.compositor.peers import Face

if TYPE_CHECKING:
    from masquerade.timeline import Shard, Timeline
    from services.common.arrays import Points
    from services.common.planes import Planes

# Beyond the landmarks lie the rest of the forehead and the soft edge of the patch.
MARGIN = 0.15

# A face of fewer pixels across shows nothing that a swap could change.
_LEAST_SIDE_PX = 8

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A face, the identity that covers it, and where its crop lies in the frame."""

    face: Face
    identity_key: str
    box: Box


def crop_box(points: Points, *, width: int, height: int) -> Box | None:
    """The landmarks' bounds and 15 % of the face's width around them, on even coordinates, inside the frame.

    Args:
        points: (478, 3) float32, pixels of the frame.
        width: of the frame in pixels.
        height: of the frame in pixels.

    Returns:
        x0, y0, x1, y1, half-open; None if too little of the face is inside.
    """
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    margin = MARGIN * float(high[0] - low[0])
    x0, y0 = (max(0, int(np.floor(edge - margin)) & ~1) for edge in low)
    x1 = min(width, (int(np.ceil(high[0] + margin)) + 1) & ~1)
    y1 = min(height, (int(np.ceil(high[1] + margin)) + 1) & ~1)
    return (x0, y0, x1, y1) if x1 - x0 >= _LEAST_SIDE_PX and y1 - y0 >= _LEAST_SIDE_PX else None


class Cast:
    """Who is covered with whom, frame by frame, as the Timeline and the cast say."""

    def __init__(self, timeline: Timeline, shards: Sequence[Shard], cast: Mapping[int, str]) -> None:
        self._shards = shards
        self._identity_of = {track.number: cast[track.person] for track in timeline.tracks if track.person in cast}
        self.textures_key = timeline.textures_key
        self.cuts = timeline.cuts

    def faces(self, planes: Planes, frame: int) -> list[Placed]:
        """The faces of one frame with their crops, cut from the planes as they are now."""
        found = []
        for shard in self._shards:
            for row in shard.rows_of(frame):
                identity_key = self._identity_of.get(int(shard.track[row]))
                weight = float(shard.weight[row])
                if identity_key is None or weight <= 0:
                    continue
                points = shard.points_px(row)
                box = crop_box(points, width=planes.width, height=planes.height)
                if box is None:
                    continue
                points[:, :2] -= np.array(box[:2], np.float32)
                yaw, pitch, roll = (float(angle) for angle in shard.pose[row])
                face = Face(frame, int(shard.track[row]), rgb_crop(planes, box), points, weight, (yaw, pitch, roll))
                found.append(Placed(face, identity_key, box))
        return found
