"""Whether what the landmark net answered is a face: it believes in masks, dolls and prints as well.

Measured on the shared footage: a skull printed on a hoodie is believed with a presence of 1.00, moves, and has eyes. It
differs in two ways that together have not failed yet. The detectors doubt it (0.50 to 0.66 as shot, to 0.72 scaled;
faces of 60 px and more score 0.80 to 0.98), and where a face has bare skin (cheeks, the nose's bridge, between the
brows) a print has edges: lightness deviates there by 18 to 60 of 255 in the mean of four patches, on faces by 3 to 15,
however small or lit. So a face that the detectors doubt must have even skin, the more they doubt it the more even.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from masquerade.facemesh import CHEEKS_AND_NOSE, LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from services.common.planes import Planes, rgb_warp
from services.detector.landmarks import PRESENT, region_of_sight
from services.detector.sights import Sight, iou

_CROP_PX = 128
_USUAL_LIGHT = 150.0
_LEAST_LIGHT = 40.0
"""Mean lightness of skin (8-bit LAB) on the shared footage, and the one below which noise would count for edges."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """When skin is looked at, and how uneven it may be.

    Attributes:
        scores: detector scores between which the limits rise: doubted most below, not at all above.
        mean: most deviation of lightness in the mean of the skin patches, at those scores.
        patch: most deviation in any one patch, at those scores: a hand may cover one, edges are in all.
        sure_mean: the same as `mean` for a face that is not doubted: a safeguard against patterns.
    """

    scores: tuple[float, float] = (0.65, 0.80)
    mean: tuple[float, float] = (10.0, 17.0)
    patch: tuple[float, float] = (20.0, 30.0)
    sure_mean: float = 40.0


def is_present(sight: Sight) -> bool:
    """The landmark net's own word, and a mesh that could be a face's."""
    if sight.score < PRESENT or not bool(np.isfinite(sight.points).all()):
        return False
    width, height = (sight.box[2:] - sight.box[:2]).tolist()
    if min(width, height) < 8 or not 0.25 < width / height < 4:
        return False
    # Seen upright along its own eye line, a face has its mouth below its eyes.
    right, left, mouth = (sight.points[index, :2] for index in (RIGHT_EYE[0], LEFT_EYE[0], OUTER_LIPS[0]))
    across, down = left - right, mouth - right
    return bool(across[0] * down[1] - across[1] * down[0] > 0)


def is_same(sight: Sight, before: Sight) -> bool:
    """Whether a face that was followed is there still and has not become another: neither jump nor leap in size."""
    if not is_present(sight):
        return False
    now, then = (float((s.box[2:] - s.box[:2]).max()) for s in (sight, before))
    overlap = float(iou(sight.box[None], before.box[None])[0, 0])
    return overlap >= 0.25 and 0.6 < now / max(then, 1e-6) < 1.7


def is_inside(sight: Sight, planes: Planes) -> bool:
    """Whether at least half of the face's box lies in the frame."""
    x0, y0, x1, y1 = sight.box.tolist()
    seen = max(0.0, min(x1, planes.width) - max(x0, 0)) * max(0.0, min(y1, planes.height) - max(y0, 0))
    return bool(seen >= 0.5 * (x1 - x0) * (y1 - y0))


def has_skin(planes: Planes, sight: Sight, detected: float, doubt: Doubt = Doubt()) -> bool:
    """Whether the face's skin is even enough for how much the detectors believe in it.

    Args:
        planes: the frame.
        sight: its landmarks.
        detected: score of the detectors' candidate.
        doubt: the limits.
    """
    deviations = skin_deviations(planes, sight)
    mean = float(np.mean(deviations))
    if detected >= doubt.scores[1]:
        return mean <= doubt.sure_mean
    even, patch = (float(np.interp(detected, doubt.scores, limit)) for limit in (doubt.mean, doubt.patch))
    return mean <= even and max(deviations) <= patch


def skin_deviations(planes: Planes, sight: Sight) -> list[float]:
    """How uneven each patch of bare skin is: the deviation of its lightness, in 8-bit units of a face lit as usual."""
    region = region_of_sight(sight)
    affine = region.affine * (_CROP_PX / 192)
    crop = cv2.cvtColor(rgb_warp(planes, affine, width=_CROP_PX, height=_CROP_PX), cv2.COLOR_RGB2LAB)
    luma = np.ascontiguousarray(crop[..., 0])
    places = sight.points[:, :2].astype(np.float64) @ affine[:, :2].T + affine[:, 2] - 0.5
    deviations: list[float] = []
    means: list[float] = []
    for patch in CHEEKS_AND_NOSE:
        mask = np.zeros((_CROP_PX, _CROP_PX), np.uint8)
        corners = np.rint(places[list(patch)]).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(corners), 255)
        if cv2.countNonZero(mask) == 0:  # outside the crop, or turned away: says nothing
            deviations.append(0.0)
            continue
        mean, deviation = cv2.meanStdDev(luma, mask=mask)
        deviations.append(float(deviation[0, 0]))
        means.append(float(mean[0, 0]))
    # An edge is as strong as the light on it: a print in the dark is as uneven as one by day.
    light = _USUAL_LIGHT / max(float(np.mean(means)) if means else _USUAL_LIGHT, _LEAST_LIGHT)
    return [deviation * light for deviation in deviations]
