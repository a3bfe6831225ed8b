"""What a swap engine is: the protocol, and what goes in and out of it.

An engine puts a prepared source face onto faces in crops. It knows no frame, no job and no RPC; it keeps nothing
between calls, so that any replica may answer any batch. Which engines there are stands in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from masquerade.identity import Identity
from services.common.arrays import Affine, Alpha8, Points, Rgb

Options = Mapping[str, str]
"""Options of an engine by name, every one of them set: the asked ones over the engine's defaults."""


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """What a track's face looks like when nothing is in front of it, as Link learned it.

    Attributes:
        mean: (64, 64, 3) float32, OpenCV's 8-bit LAB, mesh space.
        variance: (64, 64, 3) float32, squared units of `mean`.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FaceCrop:
    """One face to cover.

    Attributes:
        rgb: (h, w, 3) uint8, the frame's pixels round the face, at the frame's own scale.
        points: (478, 3) float32, landmarks in pixels of `rgb`.
        texture: what its track looks like; None if occlusion is not to be judged.
        weight: in [0, 1], how much of the swap to show.
        yaw_degrees: turn to the side.
        pitch_degrees: nod.
        roll_degrees: tilt.
    """

    rgb: Rgb
    points: Points
    texture: Texture | None = None
    weight: float = 1.0
    yaw_degrees: float = 0.0
    pitch_degrees: float = 0.0
    roll_degrees: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What covers a face.

    Attributes:
        rgb: (h, w, 3) uint8.
        alpha: (h, w) uint8, how much of the patch is seen, in 1/255.
        affine: (2, 3) float64 from the crop's pixels to the patch's, centres at +0.5.
    """

    rgb: Rgb
    alpha: Alpha8
    affine: Affine = field(default_factory=lambda: np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


class Source(Protocol):
    """A prepared identity. What it holds is its engine's business; it is not changed once made."""

    @property
    def nbytes(self) -> int:
        """Bytes that keeping it costs."""
        ...


class SwapEngine(Protocol):
    """A way to put a face onto a face.

    Its methods block and run in the service's pool, several at a time; `swap` among the calls that hold the GIL.
    """

    @property
    def name(self) -> str:
        """What to ask for."""
        ...

    @property
    def description(self) -> str:
        """What it does, for people."""
        ...

    @property
    def options(self) -> Options:
        """Options and their defaults."""
        ...

    @property
    def choices(self) -> Mapping[str, Sequence[str]]:
        """The values of those options that take certain ones alone."""
        ...

    @property
    def models(self) -> Sequence[str]:
        """Models that it needs, by folder in model_repository/."""
        ...

    def prepare(self, identity: Identity, options: Options) -> Source:
        """Whatever needs to be done once per identity."""
        ...

    def swap(self, faces: Sequence[FaceCrop], source: Source, options: Options) -> list[Patch | None]:
        """A patch for each face, in the order given; None where nothing of it is to be changed.

        Args:
            faces: the faces; a patch depends on its own face alone, whatever else is in the batch.
            source: what `prepare` of this engine gave for these options.
            options: every option, set.
        """
        ...
