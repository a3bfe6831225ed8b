"""Which texels of a portrait are skin: fringes, hats and what is behind the ears must not be carried along."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import CHEEKS_AND_NOSE, FOREHEAD, OUTER_LIPS, mesh_space, texel_grid
from services.common.arrays import Alpha, Alpha8

FACE_WIDTH_SHARE = 0.75
"""A face's width as a share of mesh space's side: lengths below are in face widths, as they are on a picture."""

_LEAST_DEVIATION = np.array([9.0, 3.5, 3.5], np.float32)
"""Floor of the deviation of L, A and B: an evenly lit drawing would make every shadow an outlier."""

_LIGHT_SHARE = np.array([0.6, 1.0, 1.0], np.float32)
"""Light varies over a face more than colour does."""


_RIM_SHARE = 0.13
"""Breadth of the band along the rim in which background may show, in face widths. The brows begin beyond it."""

_SIDES = 0.17
"""Share of mesh space on either side that belongs to that band as well: a portrait from the front shows the cheeks'
sides in a few pixels, and background with them."""

_MOUTH_SHUT, _MOUTH_OPEN = 0.04, 0.14
"""Opening of the source's mouth as a share of its breadth between which its lips are given up. Lips drawn thin by a
laugh do not become the lips of somebody who is silent; the target's own are right."""

_LIPS_LEFT = 0.15
"""What remains of a laughing source's lips, so that no outline of the target's mouth is seen."""


def lips_gate(opening: float, size: int) -> Alpha8:
    """How far the texels of the lips may be used.

    Args:
        opening: of the source's mouth, the lips' distance as a share of the mouth's breadth.
        size: of the texture.

    Returns:
        (size, size) uint8.
    """
    given_up = min(max((opening - _MOUTH_SHUT) / (_MOUTH_OPEN - _MOUTH_SHUT), 0.0), 1.0) * (1 - _LIPS_LEFT)
    lips = np.asarray(cv2.dilate(_filled((OUTER_LIPS,), size), np.ones((3, 3), np.uint8)), np.float32)
    soft = _blur(lips, 0.02 * FACE_WIDTH_SHARE * size)
    return np.asarray(np.rint(255 - given_up * soft), np.uint8)


def skin_gate(lab: NDArray[np.uint8]) -> Alpha8:
    """How far each texel may be used.

    Above the brows everything beyond the first hair is hair. In a band along the rim only what is far from skin is
    shut out, since a beard or a shadow there belongs to the face.

    Args:
        lab: (n, n, 3) uint8, the portrait in mesh space, OpenCV's 8-bit LAB.

    Returns:
        (n, n) uint8, 255 where the texel is used fully.
    """
    size = len(lab)
    face_width = FACE_WIDTH_SHARE * size
    distance = _distance_from_skin(lab, face_width)
    usable = _forehead(1 - np.clip((distance - 2.2) / 2.0, 0, 1), face_width)
    to_rim = np.asarray(cv2.distanceTransform(texel_grid(size).inside.astype(np.uint8), cv2.DIST_L2, 3), np.float32)
    near_skin = np.asarray(cv2.erode(1 - np.clip((distance - 3.0) / 2.5, 0, 1), np.ones((3, 3), np.uint8)), np.float32)
    at_rim = to_rim < _RIM_SHARE * face_width
    at_rim[:, : int(_SIDES * size)] = at_rim[:, -int(_SIDES * size) :] = True
    rim = np.where(at_rim, near_skin, 1).astype(np.float32)
    gate = np.minimum(usable, _blur(rim, 0.02 * face_width))
    gate[to_rim == 0] = 0
    return np.asarray(np.rint(gate * 255), np.uint8)


def _distance_from_skin(lab: NDArray[np.uint8], face_width: float) -> NDArray[np.float32]:
    """How many deviations each texel lies from the skin of cheeks and nose; median and MAD, so a mole is no skin."""
    smooth = _blur(lab.astype(np.float32), max(0.6, face_width / 120))
    skin = smooth[_filled(CHEEKS_AND_NOSE, len(lab)) > 0]
    middle = np.median(skin, axis=0)
    deviation = np.maximum(1.4826 * np.median(np.abs(skin - middle), axis=0), _LEAST_DEVIATION)
    squared = ((smooth - middle) / deviation) ** 2
    return np.asarray(np.sqrt((squared * _LIGHT_SHARE).sum(axis=-1)), np.float32)


def _forehead(usable: NDArray[np.float32], face_width: float) -> Alpha:
    """The gate above the brows; 1 below them."""
    size = len(usable)
    forehead = _filled((FOREHEAD,), size, hull=False) > 0
    # Brows lie across the ring's lower edge, and they are no fringe: begin a little above them.
    brows = int(0.06 * face_width)
    forehead[:-brows] &= forehead[brows:]
    forehead[-brows:] = False
    usable = np.where(forehead, usable, 1).astype(np.float32)
    # Hair has a soft, see-through border: keep clear of it.
    side = int(0.13 * face_width) | 1
    hair = ((usable < 0.5) & forehead).astype(np.uint8)
    near_hair = cv2.dilate(hair, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    usable[(near_hair > 0) & forehead] = 0
    # Upwards from the brows: once hair is met, all above it is hair or hat, whatever its colour.
    usable = np.where(forehead, np.minimum.accumulate(usable[::-1], axis=0)[::-1], 1).astype(np.float32)
    wide = _blur(usable, 0.045 * face_width)
    return np.where(forehead, np.minimum(wide, _blur(usable, 0.02 * face_width)), wide).astype(np.float32)


@lru_cache(maxsize=8)
def _filled(rings: Sequence[Sequence[int]], size: int, *, hull: bool = True) -> NDArray[np.uint8]:
    mask = np.zeros((size, size), np.uint8)
    for ring in rings:
        polygon = np.round(mesh_space()[list(ring)] * size - 0.5).astype(np.int32)
        if hull:
            cv2.fillConvexPoly(mask, np.asarray(cv2.convexHull(polygon)), 255)
        else:
            cv2.fillPoly(mask, [polygon], 255)
    mask.setflags(write=False)
    return mask


def _blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
