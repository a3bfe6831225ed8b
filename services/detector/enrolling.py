"""Portraits into an identity: one face in each, large, towards the camera, uncovered; faults are named one by one.

What could be better is a warning, what cannot work is refused. The limits are those of a swap that takes its texture
from the portrait: a face is shown about as wide as it was given, and what a portrait does not show cannot be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np

from masquerade.facemesh import CHEEKS_AND_NOSE, FACE_WIDTH, INNER_LIPS
from masquerade.identity import MAX_PICTURES, Identity, Picture
from services.common.arrays import Points, Rgb
from services.common.colour import ColourTags
from services.common.errors import (
    FaceCovered,
    FaceTooSmall,
    FaceTurned,
    InvalidSpec,
    NoFaceInPortrait,
    SeveralFacesInPortrait,
)
from services.common.planes import Planes, rgb_to_planes
from services.common.pool import Pool
from services.detector.looking import Looker
from services.detector.pose import pose_of
from services.detector.sights import Sight, box_of
from services.detector.verifying import skin_deviations

Kind: TypeAlias = Literal["photo", "drawn"]

FULL_RANGE_709 = ColourTags(matrix=1, range=2, primaries=1, transfer=1)


@dataclass(frozen=True, slots=True)
class PortraitLimits:
    """What a portrait must be, and what is only said.

    Attributes:
        least_width_px: a face narrower than this is refused: it would be shown blurred.
        good_width_px: narrower ones are warned of: most target faces are about this wide.
        most_yaw_deg: turned farther, half of the face is not in the picture.
        good_yaw_deg: from here the far cheek is stretched.
        good_pitch_deg: from here the chin or the forehead is.
        least_presence: below it the landmark net doubts what it sees: something hides the face.
        most_uneven: deviation of luma on bare skin (8 bit) from which it is not skin.
        good_uneven: from here hair, shadow or glasses lie on it.
        most_patchy: distance of one skin patch's colour from the others (LAB) from which it is something else.
        good_sharpness: variance of the Laplacian at 192 px below which the portrait is soft.
        good_mouth: opening of the lips in face widths from which the mouth is open.
        rival: a second face at least this wide, relative to the first, makes the portrait ambiguous.
    """

    least_width_px: float = 64.0
    good_width_px: float = 200.0
    most_yaw_deg: float = 35.0
    good_yaw_deg: float = 20.0
    good_pitch_deg: float = 25.0
    least_presence: float = 0.8
    most_uneven: float = 34.0
    good_uneven: float = 18.0
    most_patchy: float = 45.0
    good_sharpness: float = 20.0
    good_mouth: float = 0.05
    rival: float = 0.35


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A picture to enrol.

    Attributes:
        name: as the user knows it.
        rgb: (h, w, 3) uint8, upright.
        kind: "drawn" pictures come with their landmarks and are taken as they are.
        points: (478, 3) float32 in pixels of `rgb`, of drawn ones.
    """

    name: str
    rgb: Rgb
    kind: Kind = "photo"
    points: Points | None = None


@dataclass(frozen=True, slots=True)
class PortraitQuality:
    """How good a portrait is.

    Attributes:
        name: as given.
        width_px: of the face.
        yaw_deg: of the face.
        sharpness: variance of the Laplacian at 192 px.
        warnings: what could be better, for people.
    """

    name: str
    width_px: float
    yaw_deg: float
    sharpness: float
    warnings: tuple[str, ...]


CROP_MARGIN = 0.5
"""Of the face's size on each side: the forehead, the ears, and room for the low colours round the face."""

LARGEST_CROP_PX = 1024
"""A crop larger than this is scaled down: no target face shows more."""


async def enroll(
    portraits: Sequence[Portrait], *, looker: Looker, pool: Pool, limits: PortraitLimits = PortraitLimits()
) -> tuple[Identity, list[PortraitQuality]]:
    """Make an identity of portraits of one face.

    Returns:
        The identity, its best picture first, and the quality of each portrait in the order given.

    Raises:
        NoFaceInPortrait, SeveralFacesInPortrait, FaceTooSmall, FaceTurned, FaceCovered: the first portrait that cannot
            be used, by name.
        InvalidSpec: no portrait, too many, of mixed kinds, or drawn without usable landmarks.
    """
    kinds = {portrait.kind for portrait in portraits}
    if not 1 <= len(portraits) <= MAX_PICTURES or len(kinds) != 1:
        raise InvalidSpec(field="portraits", problem=f"1 to {MAX_PICTURES} of one kind are needed")
    (kind,) = kinds
    enrolled = [await _enroll_one(portrait, looker, pool, limits) for portrait in portraits]
    order = sorted(range(len(enrolled)), key=lambda i: (len(enrolled[i][1].warnings), -enrolled[i][1].width_px, i))
    best = enrolled[order[0]][1]
    quality: dict[str, str | int | float] = {
        "width_px": round(best.width_px, 1),
        "yaw_deg": round(best.yaw_deg, 1),
        "sharpness": round(best.sharpness, 1),
        "warnings": "; ".join(best.warnings),
    }
    identity = Identity(kind, tuple(enrolled[i][0] for i in order), quality)
    return identity, [report for _, report in enrolled]


async def _enroll_one(
    portrait: Portrait, looker: Looker, pool: Pool, limits: PortraitLimits
) -> tuple[Picture, PortraitQuality]:
    if portrait.kind == "drawn":
        return await pool.run(_enroll_drawn, portrait)
    planes = await pool.run(planes_of, portrait.rgb)
    faces = await looker.search(planes)
    return await pool.run(_enroll_photo, portrait, planes, faces, limits)


def planes_of(rgb: Rgb) -> Planes:
    """A picture as planes for the detectors, a last odd row or column repeated."""
    height, width = rgb.shape[:2]
    even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return rgb_to_planes(np.ascontiguousarray(even), FULL_RANGE_709)


def _enroll_drawn(portrait: Portrait) -> tuple[Picture, PortraitQuality]:
    points = portrait.points
    height, width = portrait.rgb.shape[:2]
    is_usable = points is not None and points.shape == (478, 3) and bool(np.isfinite(points).all())
    if points is None or not is_usable or bool(np.any(np.abs(points) > 2 * max(width, height))):
        raise InvalidSpec(field="landmarks", problem=f"{portrait.name} is drawn and needs 478 landmarks inside it")
    return _crop(portrait.rgb, points), PortraitQuality(portrait.name, _width(points), 0.0, 0.0, ())


def _enroll_photo(
    portrait: Portrait, planes: Planes, faces: Sequence[Sight], limits: PortraitLimits
) -> tuple[Picture, PortraitQuality]:
    face = _only_face(portrait, faces, limits)
    width, (yaw, pitch, _) = _width(face.points), pose_of(face.points[None])[0].tolist()
    if width < limits.least_width_px:
        raise FaceTooSmall(portrait=portrait.name, width_px=round(width), least_px=round(limits.least_width_px))
    if abs(yaw) > limits.most_yaw_deg:
        raise FaceTurned(portrait=portrait.name, degrees=round(abs(yaw)))
    uneven = float(np.mean(skin_deviations(planes, face)))
    if face.score < limits.least_presence or uneven > limits.most_uneven:
        raise FaceCovered(portrait=portrait.name)
    picture = _crop(portrait.rgb, face.points)
    if _patchiness(picture) > limits.most_patchy:
        raise FaceCovered(portrait=portrait.name, by="something of another colour than the skin")
    opening = _mouth_opening(face.points)
    remarks = {
        f"the face is {width:.0f} px wide: it looks soft on a larger one": width < limits.good_width_px,
        f"the face is turned by {abs(yaw):.0f} degrees: one cheek is stretched": abs(yaw) > limits.good_yaw_deg,
        f"the face looks {'down' if pitch > 0 else 'up'}": abs(pitch) > limits.good_pitch_deg,
        "hair, a shadow or glasses lie on the skin and will be shown": uneven > limits.good_uneven,
        "the picture is not sharp": face.sharpness < limits.good_sharpness,
        "the mouth is open: its folds stay on a closed one": opening > limits.good_mouth,
    }
    warnings = tuple(remark for remark, applies in remarks.items() if applies)
    return picture, PortraitQuality(portrait.name, width, yaw, face.sharpness, warnings)


def _only_face(portrait: Portrait, faces: Sequence[Sight], limits: PortraitLimits) -> Sight:
    if not faces:
        height, width = portrait.rgb.shape[:2]
        raise NoFaceInPortrait(portrait=portrait.name, looked_at=f"{width}x{height}")
    widths = [_width(face.points) for face in faces]
    rivals = sum(width >= limits.rival * max(widths) for width in widths)
    if rivals > 1:
        raise SeveralFacesInPortrait(portrait=portrait.name, faces=rivals)
    return faces[int(np.argmax(widths))]


def _crop(rgb: Rgb, points: Points) -> Picture:
    """The picture round the face, scaled down if it is larger than any target shows."""
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = box_of(points).tolist()
    margin = CROP_MARGIN * max(x1 - x0, y1 - y0)
    left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
    right, bottom = min(width, int(np.ceil(x1 + margin))), min(height, int(np.ceil(y1 + margin)))
    if right - left < 2 or bottom - top < 2:
        raise InvalidSpec(field="landmarks", problem="they lie outside the picture")
    crop = rgb[top:bottom, left:right]
    scale = min(1.0, LARGEST_CROP_PX / max(crop.shape[:2]))
    if scale < 1.0:
        size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
        crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    ratio = np.array([crop.shape[1] / (right - left), crop.shape[0] / (bottom - top)])
    placed = points.astype(np.float64)
    placed[:, :2] = (placed[:, :2] - (left, top)) * ratio
    placed[:, 2] *= ratio.mean()
    return Picture(np.ascontiguousarray(crop), placed.astype(np.float32))


def _width(points: Points) -> float:
    x0, _, x1, _ = box_of(points).tolist()
    return float(x1 - x0)


def _mouth_opening(points: Points) -> float:
    upper, lower = points[INNER_LIPS[5], :2], points[INNER_LIPS[15], :2]
    across = points[FACE_WIDTH[1], :2] - points[FACE_WIDTH[0], :2]
    return float(np.hypot(*(lower - upper)) / max(float(np.hypot(*across)), 1.0))


def _patchiness(picture: Picture) -> float:
    """How far the colour of one skin patch lies from the others': a mask, a hand's sleeve, paint."""
    lab = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2LAB)
    middles = []
    for patch in CHEEKS_AND_NOSE:
        mask = np.zeros(lab.shape[:2], np.uint8)
        corners = np.rint(picture.points[list(patch), :2] - 0.5).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(corners), 255)
        if cv2.countNonZero(mask):
            middles.append(np.median(lab[mask > 0].astype(np.float64), axis=0))
    if len(middles) < 3:
        return 0.0
    stack = np.stack(middles)
    # Light falls from a side: lightness counts a third.
    off = (stack - np.median(stack, axis=0)) * (1 / 3, 1.0, 1.0)
    return float(np.sqrt((off * off).sum(axis=1)).max())
