"""A face that anybody may use: the public-domain portrait in scikit-image, as a picture and before a moving camera."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from services.standalone import talker
from tests.clips import Plane


def write_portrait(path: Path) -> Path:
    """The portrait, three times its size: a face wide enough to be put on another."""
    picture = cv2.resize(talker.portrait(), (1536, 1536), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(np.asarray(picture, np.uint8)).save(path)
    return path


def seen_by_camera(number: int, width: int, height: int) -> tuple[Plane, Plane, Plane]:
    """The portrait in a swaying camera; 64 frames are one round."""
    seen = cv2.resize(
        talker._seen_by_camera(talker.portrait(), number / 64), (width, height), interpolation=cv2.INTER_AREA
    )
    packed = cv2.cvtColor(seen, cv2.COLOR_RGB2YUV_I420)
    luma, chroma = np.split(packed.reshape(-1), [width * height])
    u, v = np.split(chroma, 2)
    half = (height // 2, width // 2)
    return luma.reshape(height, width), u.reshape(half), v.reshape(half)
