"""What the numbers in a plane mean: colour tags, and the matrices between Y'CbCr and R'G'B'.

Tags are the numbers of ITU-T H.273 (which FFmpeg uses too), so that they pass from a container through the contract to
the output unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

BT709: Final = 1
UNSPECIFIED: Final = 2
BT601_625: Final = 5
BT601_525: Final = 6
BT2020_NCL: Final = 9

LIMITED: Final = 1
FULL: Final = 2

SD_LINES: Final = 576
"""Most lines of a picture whose missing matrix is taken for BT.601: the taller of the two SD systems."""

LUMA_WEIGHTS: Final = MappingProxyType(
    {
        BT709: (0.2126, 0.0722),
        4: (0.30, 0.11),
        BT601_625: (0.299, 0.114),
        BT601_525: (0.299, 0.114),
        7: (0.212, 0.087),
        BT2020_NCL: (0.2627, 0.0593),
    }
)
"""(Kr, Kb) by MatrixCoefficients. ITU-T H.273 (07/2024), table 4: BT.709, FCC, BT.601 twice, 240M, BT.2020 NCL."""


@dataclass(frozen=True, slots=True)
class ColourTags:
    """How the samples of a picture are to be read, in H.273's numbers.

    Attributes:
        matrix: MatrixCoefficients; 1 is BT.709, 5 and 6 are BT.601, 2 is unspecified.
        range: 1 is limited (16 to 235), 2 is full (0 to 255), 0 is unspecified.
        primaries: ColourPrimaries; carried, not used in arithmetic.
        transfer: TransferCharacteristics; carried, not used in arithmetic.
    """

    matrix: int = UNSPECIFIED
    range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    def resolved(self, height: int) -> ColourTags:
        """Fill in what must be known to compute: a matrix (BT.601 up to 576 lines, else BT.709) and a range (limited).

        0 is not a matrix of Y'CbCr (H.273 calls it identity, many files mean nothing by it) and 3 is reserved: both
        count as missing. Primaries and transfer stay as they came.
        """
        matrix = self.matrix
        if matrix in (0, UNSPECIFIED, 3):
            matrix = BT601_525 if height <= SD_LINES else BT709
        return replace(self, matrix=matrix, range=self.range if self.range == FULL else LIMITED)

    @property
    def is_full(self) -> bool:
        """Whether samples use 0 to 255."""
        return self.range == FULL

    @property
    def is_known(self) -> bool:
        """Whether we have the weights of this matrix; constant-luminance and YCgCo are not linear in this way."""
        return self.matrix in LUMA_WEIGHTS


@lru_cache(maxsize=64)
def yuv_to_rgb_matrix(colour: ColourTags) -> NDArray[np.float64]:
    """The (3, 4) affine map from 8-bit Y', Cb, Cr to 8-bit R', G', B'.

    ITU-T H.273 (07/2024), equations 23 to 25 and 38 to 40, inverted. `colour` must be resolved.

    Raises:
        ValueError: the matrix is not one of `LUMA_WEIGHTS`; a file is checked for this when it comes in.
    """
    if not colour.is_known:
        raise ValueError(f"no luma weights for matrix {colour.matrix}: resolve the tags first")
    red, blue = LUMA_WEIGHTS[colour.matrix]
    green = 1.0 - red - blue
    luma_scale, chroma_scale = (1.0, 1.0) if colour.is_full else (255.0 / 219.0, 255.0 / 224.0)
    from_cr = 2.0 * (1.0 - red) * chroma_scale
    from_cb = 2.0 * (1.0 - blue) * chroma_scale
    linear = np.array(
        [
            [luma_scale, 0.0, from_cr],
            [luma_scale, -from_cb * blue / green, -from_cr * red / green],
            [luma_scale, from_cb, 0.0],
        ]
    )
    return _locked(np.column_stack([linear, -linear @ _zero_point(colour)]))


@lru_cache(maxsize=64)
def rgb_to_yuv_matrix(colour: ColourTags) -> NDArray[np.float64]:
    """The (3, 4) affine map from 8-bit R', G', B' to 8-bit Y', Cb, Cr: the inverse of `yuv_to_rgb_matrix`."""
    linear = np.linalg.inv(yuv_to_rgb_matrix(colour)[:, :3])
    return _locked(np.column_stack([linear, _zero_point(colour)]))


def _zero_point(colour: ColourTags) -> NDArray[np.float64]:
    """Y', Cb, Cr of black."""
    return np.array([0.0 if colour.is_full else 16.0, 128.0, 128.0])


def _locked(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix made read-only, because a cached array is shared by all who ask."""
    matrix.setflags(write=False)
    return matrix
