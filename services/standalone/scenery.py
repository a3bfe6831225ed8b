"""The demo's background, drawn by code: an evening over hills."""

from __future__ import annotations

import cv2
import numpy as np

from services.common.arrays import Rgb

DUSK = np.array([[36, 30, 84], [120, 62, 120], [232, 122, 92], [252, 206, 132]], np.float32)
"""Colours of the sky from the top to the horizon."""

HILLS = ((0.62, 0.07, 2.1, (74, 58, 110)), (0.74, 0.06, 3.3, (46, 46, 84)), (0.86, 0.05, 5.2, (24, 30, 52)))
"""Height of the crest, height of its waves, waves across the picture, colour; from far to near."""


def evening(width: int = 1280, height: int = 720) -> Rgb:
    """A picture to stand before.

    Returns:
        (height, width, 3) uint8.
    """
    place = np.linspace(0.0, len(DUSK) - 1.0, height)
    sky = np.stack([np.interp(place, np.arange(len(DUSK)), DUSK[:, channel]) for channel in range(3)], axis=-1)
    picture = np.repeat(sky[:, None], width, axis=1).astype(np.uint8)
    cv2.circle(picture, (int(0.72 * width), int(0.52 * height)), height // 9, (255, 236, 186), -1, cv2.LINE_AA)
    across = np.arange(width)
    for crest, wave, count, colour in HILLS:
        phase = 2.0 * np.pi * count * across / width
        top = height * (crest + wave * (np.sin(phase + 7.0 * crest) + 0.4 * np.sin(2.7 * phase)))
        outline = np.concatenate([np.stack([across, top], axis=-1), [[width, height], [0, height]]])
        cv2.fillPoly(picture, [np.round(outline * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    return picture
