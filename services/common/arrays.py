"""Array types named after the thing they hold, defined once.

Shapes and units live in the names: a function that takes `Rgb` takes (h, w, 3) uint8 in R, G, B order and nothing else.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rgb: TypeAlias = NDArray[np.uint8]
"""(h, w, 3) uint8, R, G, B."""

RgbBatch: TypeAlias = NDArray[np.uint8]
"""(n, h, w, 3) uint8, R, G, B."""

Plane: TypeAlias = NDArray[np.uint8]
"""(h, w) uint8, one plane of a frame."""

Gray: TypeAlias = NDArray[np.float32]
"""(h, w) float32 in [0, 1], luma."""

Alpha: TypeAlias = NDArray[np.float32]
"""(h, w) float32 in [0, 1], how much of the foreground is seen."""

Alpha8: TypeAlias = NDArray[np.uint8]
"""(h, w) uint8, alpha in 1/255."""

Points: TypeAlias = NDArray[np.float32]
"""(478, 3) float32: x, y in pixels with centres at +0.5, z in the same unit, smaller is nearer."""

Affine: TypeAlias = NDArray[np.float64]
"""(2, 3) float64, from source frame to crop, pixel centres at +0.5."""

Tensor: TypeAlias = NDArray[Any]
"""An array of any shape and dtype, as a model takes or gives it."""
