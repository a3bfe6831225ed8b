"""What a face looks like unoccluded, learned from samples spread over its track.

Hands, microphones and hair cover a face for a part of the time and never in quite the same way, so per texel the middle
of all samples is the face, and how far the samples lie from it is how much the face itself varies.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade.timeline import TEXTURE_SIZE
from services.detector.textures import Texture

MOST_SAMPLES = 64
"""Samples kept of one track: more move no median by a level, and these are the largest thing Link holds."""

FEWEST_SAMPLES = 3
"""Of two samples none is in the middle."""

SIGNATURE = 16
"""Side of the small texture by which tracks are compared: people, not pores."""

_OUTLIER = 3.0
_SMALLEST_DEVIATION = 2.0
"""Below this the deviation is the sensor's and the codec's, in 8-bit LAB."""

_MAD_TO_DEVIATION = 1.4826


@dataclass(slots=True, eq=False)
class Samples:
    """A track's texture samples: all at first, then every second, every fourth, so that they stay spread over it.

    Which are kept depends on their frames alone.
    """

    kept: list[tuple[int, Texture]] = field(default_factory=list)
    stride: int = 1
    offered: int = 0

    def offer(self, frame: int, texture: Texture) -> None:
        """Keep a sample if it falls on the stride; frames ascend."""
        if self.offered % self.stride == 0:
            if len(self.kept) == MOST_SAMPLES:
                self.kept = self.kept[::2]
                self.stride *= 2
            if self.offered % self.stride == 0:
                # A copy: the sample is a view into all samples of its segment and would keep them alive.
                self.kept.append((frame, texture.copy()))
        self.offered += 1


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Statistics of one track's samples.

    Attributes:
        mean: (64, 64, 3) float32, 8-bit LAB.
        var: (64, 64, 3) float32.
    """

    mean: NDArray[np.float32]
    var: NDArray[np.float32]

    @property
    def signature(self) -> NDArray[np.float32]:
        """(16, 16, 3) float32: the face in small."""
        small = cv2.resize(self.mean, (SIGNATURE, SIGNATURE), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.float32)


def learn(samples: Samples) -> Learned | None:
    """Robust mean and variance per texel, or None of too few samples.

    Median and MAD find the samples that show the face (Leys et al. 2013, "Detecting outliers"); their mean is finer
    than the median's whole levels.
    """
    if len(samples.kept) < FEWEST_SAMPLES:
        return None
    stack = np.stack([texture for _, texture in samples.kept]).reshape(len(samples.kept), -1)
    mean = np.empty(stack.shape[1], np.float32)
    var = np.empty(stack.shape[1], np.float32)
    # Row by row of the texture: 64 samples as float32 would be four times what is held.
    for part in np.split(np.arange(stack.shape[1]), TEXTURE_SIZE):
        values = stack[:, part].astype(np.float32)
        middle = np.median(values, axis=0)
        deviation = np.median(np.abs(values - middle), axis=0) * _MAD_TO_DEVIATION
        near = np.abs(values - middle) <= _OUTLIER * np.maximum(deviation, _SMALLEST_DEVIATION)
        count = near.sum(axis=0)
        mean[part] = np.where(near, values, 0).sum(axis=0) / count
        var[part] = np.where(near, (values - mean[part]) ** 2, 0).sum(axis=0) / count
    shape = (TEXTURE_SIZE, TEXTURE_SIZE, 3)
    return Learned(mean.reshape(shape), np.maximum(var, _SMALLEST_DEVIATION**2).reshape(shape))
