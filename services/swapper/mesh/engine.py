"""The engine `mesh`: warp, shape, occlusion and tone put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import MESH_POINTS, texel_grid
from masquerade.identity import Identity
from services.common.arrays import Alpha, Alpha8, Rgb
from services.common.errors import InvalidSpec
from services.common.shrinking import shrink
from services.swapper.engines import FaceCrop, Options, Patch, Source
from services.swapper.mesh.occlusion import SIZE as OCCLUSION_SIZE
from services.swapper.mesh.occlusion import occlusion
from services.swapper.mesh.shape import holes, pose_weight, rim_alpha
from services.swapper.mesh.texture import SIZES as TEXTURE_SIZES
from services.swapper.mesh.texture import SourceTexture, prepare_texture
from services.swapper.mesh.tone import Tone, shrink_factor, toned
from services.swapper.mesh.warp import FaceMap, face_map

MAX_FACE_PX: Final = 384
"""A wider face is worked on at this width and only the change is enlarged: cost stays bounded on 4K close-ups."""

_HALF_FROM_PX: Final = 96
"""Narrower faces are mapped at full size: at half of it their lids would be two pixels thick."""

Scalar = TypeVar("Scalar", np.uint8, np.float32)

_LEAST_FACE_PX: Final = 12
"""A narrower face shows nothing that could be swapped."""

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "colour": ("auto", "target", "source"),
    "occlusion": ("on", "off"),
}


def warm() -> None:
    """Make the tables that the first call would wait for, 0.1 s of work.

    Raises:
        FileNotFoundError: the mesh's topology is not in the model repository.
    """
    for size in (OCCLUSION_SIZE, *TEXTURE_SIZES):
        texel_grid(size)


@dataclass(frozen=True, slots=True, eq=False)
class MeshSource:
    """A source prepared for this engine."""

    texture: SourceTexture
    tone: Tone

    @property
    def nbytes(self) -> int:
        """Bytes that keeping it costs."""
        return self.texture.nbytes


class MeshEngine:
    """The source's picture in the shape and the light of the target; eyes, lids' edges and inner mouth stay its own."""

    name = "mesh"
    description = "Geometric swap: the source's features in the target's shape and light; needs no network."
    options: Options = MappingProxyType({"colour": "auto", "occlusion": "on"})
    choices: Mapping[str, Sequence[str]] = _CHOICES
    models: Sequence[str] = ()

    def prepare(self, identity: Identity, options: Options) -> MeshSource:
        """Lay the source out in mesh space; a drawing keeps its own colours unless asked otherwise."""
        _check(options)
        tone: Tone = "source" if identity.kind == "drawn" else "target"
        if options["colour"] == "source":
            tone = "source"
        elif options["colour"] == "target":
            tone = "target"
        return MeshSource(texture=prepare_texture(identity), tone=tone)

    def swap(self, faces: Sequence[FaceCrop], source: Source, options: Options) -> list[Patch | None]:
        """A patch for each face, each made from its own face alone."""
        _check(options)
        if not isinstance(source, MeshSource):
            raise TypeError("the source was prepared by another engine")
        return [swap_face(face, source, judges_occlusion=options["occlusion"] == "on") for face in faces]


def swap_face(face: FaceCrop, source: MeshSource, *, judges_occlusion: bool = True) -> Patch | None:
    """Cover one face, or None where nothing of it is to be changed.

    Args:
        face: the face in its crop.
        source: what to put on.
        judges_occlusion: whether what is in front of the face is kept in front.

    Returns:
        A patch that holds the face's box and an affine that only shifts.
    """
    weight = min(face.weight, pose_weight(face.yaw_degrees))
    box = _box(face)
    if weight <= 0 or box is None:
        return None
    part = _part(face, box)
    scale = min(1.0, MAX_FACE_PX / _face_width(part))
    work = _scaled(part, scale)
    covered_by = occlusion(part.rgb, part.points, part.texture) if judges_occlusion and part.texture else None
    rgb, alpha = _covered(work, source, covered_by, weight)
    if not alpha.any():
        return None
    if scale < 1:
        rgb, alpha = _enlarged_change(part.rgb, work.rgb, rgb, alpha)
    shift = np.array([[1.0, 0.0, -box[0]], [0.0, 1.0, -box[1]]])
    return Patch(rgb=rgb, alpha=alpha, affine=shift)


def _covered(face: FaceCrop, source: MeshSource, covered_by: Alpha | None, weight: float) -> tuple[Rgb, Alpha8]:
    """Colours and alpha of the swap at the size that is worked at."""
    height, width = face.rgb.shape[:2]
    face_width = _face_width(face)
    # The map, the rim and the holes are made at half the size: they are smooth, or softened anyway.
    step = 2 if face_width >= _HALF_FROM_PX else 1
    points = face.points / np.float32(step)
    small = (-(-width // step), -(-height // step))
    surface = face_map(points, width=small[0], height=small[1])
    own = holes(points, width=small[0], height=small[1], face_width_px=face_width / step)
    shown = rim_alpha(surface.covered, face_width / step)
    shown *= 1 - own.share
    counts = (surface.covered & (own.mask == 0)).astype(np.float32)
    if covered_by is not None:
        hidden = _read(covered_by, surface)
        shown *= 1 - hidden
        counts[hidden > 0.3] = 0
    shown *= np.float32(weight)

    texture = source.texture.level_for(face_width)
    texels = np.float32(len(texture))
    u, v = (_enlarged(plane * texels - np.float32(0.5), step, width, height) for plane in (surface.u, surface.v))
    warped = np.asarray(cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    usable = np.asarray(cv2.extractChannel(warped, 3), np.uint8)

    factor = max(step, shrink_factor(width, height))
    skin = shrink(counts, factor // step) * (shrink(usable, factor) > 153)
    lab = np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR), np.uint8)
    rgb = toned(lab, face.rgb, skin, factor=factor, face_width_px=face_width, tone=source.tone)
    alpha = cv2.multiply(_enlarged(np.rint(shown * 255).astype(np.uint8), step, width, height), usable, scale=1 / 255)
    return rgb, np.asarray(alpha, np.uint8)


def _read(covered_by: Alpha, surface: FaceMap) -> Alpha:
    """A map of mesh space as the face shows it."""
    size = np.float32(len(covered_by))
    half = np.float32(0.5)
    read = cv2.remap(
        covered_by, surface.u * size - half, surface.v * size - half, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(np.minimum(np.asarray(read, np.float32) * np.float32(1.6), 1), np.float32)


def _check(options: Options) -> None:
    for name, choices in _CHOICES.items():
        if options[name] not in choices:
            raise InvalidSpec(field=f"engine_options.{name}", problem=f"{options[name]!r} is not one of {choices}")


def _face_width(face: FaceCrop) -> float:
    return float(np.ptp(face.points[:MESH_POINTS, 0]))


def _box(face: FaceCrop) -> tuple[int, int, int, int] | None:
    """The face's box in its crop, or None if too little of it lies there."""
    height, width = face.rgb.shape[:2]
    flat = face.points[:MESH_POINTS, :2]
    x0, y0 = np.maximum(np.floor(flat.min(axis=0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(flat.max(axis=0)).astype(int) + 2, [width, height])
    if min(x1 - x0, y1 - y0, _face_width(face)) < _LEAST_FACE_PX:
        return None
    return int(x0), int(y0), int(x1), int(y1)


def _part(face: FaceCrop, box: tuple[int, int, int, int]) -> FaceCrop:
    x0, y0, x1, y1 = box
    shift = np.array([x0, y0, 0], np.float32)
    return replace(face, rgb=face.rgb[y0:y1, x0:x1], points=face.points - shift)


def _scaled(face: FaceCrop, scale: float) -> FaceCrop:
    if scale >= 1:
        return face
    height, width = face.rgb.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    factors = np.array([size[0] / width, size[1] / height, scale], np.float32)
    rgb = np.asarray(cv2.resize(face.rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return replace(face, rgb=rgb, points=face.points * factors)


def _enlarged(plane: NDArray[Scalar], step: int, width: int, height: int) -> NDArray[Scalar]:
    """A plane made at 1/step, at its full size."""
    if step == 1:
        return plane
    size = (plane.shape[1] * step, plane.shape[0] * step)
    large = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR), plane.dtype)
    return np.ascontiguousarray(large[:height, :width])


def _enlarged_change(part: Rgb, before: Rgb, after: Rgb, alpha: Alpha8) -> tuple[Rgb, Alpha8]:
    """A change made at a smaller size, brought to the crop's: its pixels keep the detail that the small ones lost."""
    size = (part.shape[1], part.shape[0])
    change = cv2.resize(cv2.subtract(after, before, dtype=cv2.CV_16S), size, interpolation=cv2.INTER_LINEAR)
    return (
        np.asarray(cv2.add(part, change, dtype=cv2.CV_8U), np.uint8),
        np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR), np.uint8),
    )
