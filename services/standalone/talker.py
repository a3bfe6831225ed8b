"""The demo's talker: a clip with a moving camera and sound, made of the public-domain portrait in scikit-image.

It has what a real clip has and a demo must survive: motion of the camera, sound, frames that are not all equally long.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.arrays import Rgb

WIDTH, HEIGHT, FRAMES = 640, 480, 100
TIME_BASE = Fraction(1, 1000)
FRAME_MS = (40, 40, 33, 47)
"""Lengths of frames in turn: a variable frame rate of 25 a second on average."""

SAMPLE_RATE = 48_000


def portrait() -> Rgb:
    """The portrait: (512, 512, 3) uint8, public domain."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[..., :3])  # type: ignore[no-untyped-call]


def make_talker(out: Path) -> Path:
    """Write the clip as H.264 with AAC in MP4.

    Args:
        out: where; replaced if it exists.
    """
    picture = portrait()
    starts = np.concatenate([[0], np.cumsum([FRAME_MS[index % len(FRAME_MS)] for index in range(FRAMES)])])
    with av.open(str(out), "w", container_options={"video_track_timescale": "1000"}) as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "18"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = TIME_BASE
        video.codec_context.thread_type, video.codec_context.thread_count = "FRAME", 2
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(_seen_by_camera(picture, index / FRAMES), "rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = int(starts[index]), TIME_BASE
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(_voice(int(starts[-1]))[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts = SAMPLE_RATE, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return out


def _seen_by_camera(picture: Rgb, progress: float) -> Rgb:
    """A slow zoom with a sway and a tilt, as a hand-held camera has."""
    turn = 2.0 * np.pi * progress
    zoom = 1.42 + 0.16 * np.sin(turn)
    angle = np.radians(3.0 * np.sin(2.0 * turn))
    focus = np.array([224.0 + 14.0 * np.sin(turn + 1.0), 172.0 + 9.0 * np.cos(2.0 * turn)])
    rotation = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.column_stack([rotation, np.array([WIDTH / 2, HEIGHT * 0.48]) - rotation @ focus])
    seen = cv2.warpAffine(picture, affine, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(seen, np.uint8)


def _voice(length_ms: int) -> NDArray[np.float32]:
    """Syllables of a hum: harmonics under an envelope, so that a listener hears whether sound and picture keep step."""
    time = np.arange(length_ms * SAMPLE_RATE // 1000) / SAMPLE_RATE
    pitch = 130.0 + 18.0 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    tone = sum(np.sin(harmonic * phase) / harmonic**1.6 for harmonic in range(1, 9))
    envelope = np.clip(np.sin(2 * np.pi * 3.2 * time), 0.0, 1.0) ** 1.5
    return np.asarray(0.18 * tone * envelope, np.float32)
