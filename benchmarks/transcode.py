"""The baseline: decode, planes, encode; the same codec settings and threads as the product, nothing between."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np


def transcode(source: Path, out: Path, *, preset: str = "veryfast", crf: int = 20, threads: int = 2) -> int:
    """Plain PyAV transcoding through packed planes of our own memory.

    Returns:
        Frames that were encoded.
    """
    frames = 0
    with av.open(str(source)) as reader, av.open(str(out), "w") as writer:
        video = reader.streams.video[0]
        video.thread_type, video.thread_count = "AUTO", 2
        options = {"preset": preset, "crf": str(crf), "bf": "2", "threads": str(threads)}
        options["x264-params"] = "open-gop=0:keyint=250:b-pyramid=normal"
        stream = writer.add_stream("libx264", rate=video.average_rate, options=options)
        width, height = video.codec_context.width, video.codec_context.height
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_type, stream.codec_context.thread_count = "FRAME", threads
        for decoded in reader.decode(video):
            planes = np.empty((height * 3 // 2, width), np.uint8)
            offset = 0
            for plane, (rows, columns) in zip(decoded.planes, _sizes(width, height), strict=True):
                seen = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
                np.copyto(planes.reshape(-1)[offset : offset + rows * columns].reshape(rows, columns), seen)
                offset += rows * columns
            frame = av.VideoFrame.from_numpy_buffer(planes, "yuv420p")
            frame.pts, frame.time_base = frames, Fraction(1) / (video.average_rate or Fraction(25))
            writer.mux(stream.encode(frame))
            frames += 1
        writer.mux(stream.encode(None))
    return frames


def _sizes(width: int, height: int) -> tuple[tuple[int, int], ...]:
    return (height, width), (height // 2, width // 2), (height // 2, width // 2)
