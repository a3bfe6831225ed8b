"""An identity: the source face(s) to put on, as enrolment leaves them.

Biometric data: written under a tenant's own prefix, read by the swapper, erased on request. The pixels are a crop round
the face with the landmarks found in it, so that using an identity needs no detector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from masquerade.columns import Column, ColumnsError, Shape, column_names, read_columns, write_columns

POINTS = 478
"""Landmarks of a face: 468 of the mesh, then five of each iris."""

MAX_PICTURES = 16
"""More portraits of one face add nothing that the swap can use."""

MAX_SIDE_PX = 2048
"""Enrolment scales a larger crop down: no target face shows more than this."""

_FORMAT = "masquerade-identity"
_VERSION = 1
_MAX_NOTES_BYTES = 64 * 1024


class IdentityFormatError(ValueError):
    """The bytes are not an identity of this version."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One portrait, cropped round the face.

    Attributes:
        rgb: (h, w, 3) uint8.
        points: (478, 3) float32, pixels of `rgb` with centres at +0.5, z in the same unit, smaller is nearer.
    """

    rgb: NDArray[np.uint8]
    points: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A source face.

    Attributes:
        kind: "photo" of a person, or "drawn" (an illustration whose landmarks came with it).
        pictures: the best first; at least one.
        quality: what enrolment measured, for the report: width_px, yaw_deg, sharpness, warnings.
    """

    kind: Literal["photo", "drawn"]
    pictures: tuple[Picture, ...]
    quality: Mapping[str, str | int | float] = field(default_factory=dict)


def write_identity(identity: Identity) -> bytes:
    """The identity's bytes; equal identities give equal bytes."""
    _check(identity)
    notes = {
        "format": _FORMAT,
        "version": _VERSION,
        "kind": identity.kind,
        "quality": dict(identity.quality),
    }
    document = json.dumps(notes, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    columns: dict[str, Column] = {"notes": np.frombuffer(document, np.uint8)}
    for number, picture in enumerate(identity.pictures):
        columns[f"rgb{number}"] = picture.rgb
        columns[f"points{number}"] = picture.points
    return write_columns(columns)


def read_identity(data: bytes) -> Identity:
    """Read an identity, trusting nothing in it.

    Raises:
        IdentityFormatError: anything in the file is not as `write_identity` writes it.
    """
    try:
        # How many pictures there are is known by the names alone; anything else among them is refused by the reader.
        count = min(sum(name.startswith("rgb") for name in column_names(data)), MAX_PICTURES)
        shapes = {"notes": Shape("uint8", ("notes",))}
        for number in range(count):
            shapes[f"rgb{number}"] = Shape("uint8", (f"h{number}", f"w{number}", 3))
            shapes[f"points{number}"] = Shape("float32", (POINTS, 3))
        columns = read_columns(data, shapes)
        notes = _notes(columns["notes"])
        identity = Identity(
            kind=notes["kind"],
            pictures=tuple(Picture(columns[f"rgb{n}"], columns[f"points{n}"]) for n in range(count)),
            quality=dict(notes["quality"]),
        )
    except (ColumnsError, KeyError, TypeError) as error:
        raise IdentityFormatError(str(error)) from error
    _check(identity)
    return identity


def _notes(column: Column) -> dict[str, Any]:
    if len(column) > _MAX_NOTES_BYTES:
        raise IdentityFormatError("notes are too long")
    try:
        notes = json.loads(column.tobytes())
    except (ValueError, RecursionError) as error:
        raise IdentityFormatError(f"notes are not JSON: {error}") from error
    if not isinstance(notes, dict) or notes.get("format") != _FORMAT or notes.get("version") != _VERSION:
        raise IdentityFormatError("not an identity of this version")
    return notes


def _check(identity: Identity) -> None:
    if identity.kind not in ("photo", "drawn"):
        raise IdentityFormatError(f"kind {identity.kind!r}")
    if not 1 <= len(identity.pictures) <= MAX_PICTURES:
        raise IdentityFormatError(f"{len(identity.pictures)} pictures")
    if not all(
        isinstance(name, str) and isinstance(value, str | int | float) for name, value in identity.quality.items()
    ):
        raise IdentityFormatError("quality holds something else than text and numbers")
    for number, picture in enumerate(identity.pictures):
        height, width = picture.rgb.shape[:2]
        if picture.rgb.dtype != np.uint8 or picture.rgb.shape != (height, width, 3):
            raise IdentityFormatError(f"picture {number} is not (h, w, 3) uint8")
        if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
            raise IdentityFormatError(f"picture {number} is {width}x{height}")
        if picture.points.shape != (POINTS, 3) or picture.points.dtype != np.float32:
            raise IdentityFormatError(f"points of picture {number} are {picture.points.dtype}{picture.points.shape}")
        # A margin of the picture's own size is generous: a forehead may be cut off by the crop, not by more than this.
        if not bool(np.all(np.abs(picture.points) <= 2 * max(width, height))):
            raise IdentityFormatError(f"points of picture {number} lie outside it")
