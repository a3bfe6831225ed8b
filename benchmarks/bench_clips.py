"""The bench clips: one talker, looped, scaled and padded to a size, as an H.264 file."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

FRAMES = 300
RATE = 25


def shared_talker() -> Path | None:
    """The real talker, where the shared folder is there."""
    shared = Path(os.environ.get("MASQUERADE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    clip = shared / "footage" / "talker_a.mpg"
    return clip if clip.exists() else None


def make_bench_clip(source: Path, out: Path, *, width: int, height: int, frames: int = FRAMES) -> Path:
    """Loops a clip to a number of frames at a size.

    The picture is scaled to the full height and padded with black at the sides: the face keeps its shape.

    Args:
        source: any clip that PyAV reads.
        out: where to write; an existing file is kept.
        width: of the clip in pixels, even.
        height: of the clip in pixels, even.
        frames: how many.
    """
    if out.exists():
        return out
    pictures = _scaled(source, width, height)
    partial = out.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_type, stream.codec_context.thread_count = "FRAME", 2
        for index in range(frames):
            # There and back, so that the loop has no jump that would count as a scene cut.
            phase = index % (2 * len(pictures) - 2)
            picture = pictures[phase if phase < len(pictures) else 2 * len(pictures) - 2 - phase]
            frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    partial.rename(out)
    return out


def _scaled(source: Path, width: int, height: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Every frame as packed I420 of the wanted size."""
    pictures = []
    with av.open(str(source)) as container:
        for frame in container.decode(container.streams.video[0]):
            inner = round(frame.width * height / frame.height / 2) * 2
            scaled = frame.reformat(
                width=inner, height=height, format="yuv420p", interpolation=Interpolation.BICUBIC
            ).to_ndarray()
            pictures.append(_padded(np.asarray(scaled, np.uint8), inner, width, height))
    return pictures


def _padded(
    picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], inner: int, width: int, height: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Black at both sides; chroma rows are packed two to a row, so each plane is padded for itself."""
    luma = picture[:height]
    chroma = picture[height:].reshape(2, height // 2, inner // 2)
    left = (width - inner) // 4 * 2
    out_luma = np.full((height, width), 16, np.uint8)
    out_chroma = np.full((2, height // 2, width // 2), 128, np.uint8)
    out_luma[:, left : left + inner] = luma
    out_chroma[:, :, left // 2 : (left + inner) // 2] = chroma
    return np.concatenate([out_luma, out_chroma.reshape(height // 2, width)])
