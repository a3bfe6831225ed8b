"""The gates a finished file passes before anybody sees it: its structure is held against what was promised.

All of the file is decoded, in a stream. The first gate that fails is an error that names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av

from services.common.errors import VerifyFailed
from services.common.media.container import open_media, video_of
from services.compositor import soundproof
from services.compositor.carriage import Container, container_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from services.compositor.timetable import Timetable


@dataclass(frozen=True, slots=True)
class Promise:
    """What a file should be."""

    file: Path
    source: Path
    table: Timetable
    offset: Fraction
    """Seconds that assembling subtracted from every time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was proved."""

    frames: int
    max_pts_error: Fraction
    """Seconds between a frame's time and its source's, at most."""

    gates: tuple[str, ...]


def verify(promise: Promise) -> Verdict:
    """Decode all of the file and hold it against the promise.

    Raises:
        VerifyFailed: names the gate.
    """
    with open_media(promise.file) as output:
        container = container_family(output)
        # Matroska and WebM store no decoding times: what a reader says of them there is its own guess.
        passed = [_decoding_times_ascend(promise)] if container.is_mp4 else []
        stream = video_of(output)
        worst, count = _pictures(promise, output, stream)
        passed += ["frames", "pts", "decode"]
        if container.is_mp4:
            passed.append(_end(promise, stream))
    passed += soundproof.prove(
        promise.source, promise.file, container=container, table=promise.table, offset=promise.offset
    )
    return Verdict(count, worst, tuple(passed))


def container_family(output: InputContainer) -> Container:
    """Which of our containers a file is, by what its demuxer says and its first video codec."""
    if "mp4" in output.format.name:
        return Container.MOV if output.metadata.get("major_brand") == "qt  " else Container.MP4
    return container_of("webm" if output.streams.video[0].codec_context.name.startswith("vp9") else "mkv")


def _decoding_times_ascend(promise: Promise) -> str:
    """Players feed decoders by DTS: it rises and is never later than the showing. Its own pass, packets only."""
    with open_media(promise.file) as output:
        before: int | None = None
        for number, packet in enumerate(packet for packet in output.demux(video_of(output)) if packet.size):
            if packet.pts is None or packet.dts is None or packet.dts > packet.pts:
                raise VerifyFailed(check="dts", detail=f"packet {number} is shown before it is decoded")
            if before is not None and packet.dts <= before:
                raise VerifyFailed(check="dts", detail=f"packet {number} is not decoded after the one before it")
            before = packet.dts
    return "dts"


def _pictures(promise: Promise, output: InputContainer, stream: VideoStream) -> tuple[Fraction, int]:
    table = promise.table
    tick = Fraction(stream.time_base or 0)
    worst, count, before = Fraction(0), 0, None
    for frame in _decoded(output, stream):
        if count == table.frames:
            raise VerifyFailed(check="frames", detail=f"more than the {table.frames} frames that were promised")
        if frame.pts is None or (before is not None and frame.pts <= before):
            raise VerifyFailed(check="pts", detail=f"frame {count} is not shown after the one before it")
        error = abs(frame.pts * tick - (int(table.pts[count]) * table.time_base - promise.offset))
        if error > tick:
            raise VerifyFailed(
                check="pts", detail=f"frame {count} is {float(error) * 1000:.3f} ms off its source's time"
            )
        worst, count, before = max(worst, error), count + 1, frame.pts
    if count != table.frames:
        raise VerifyFailed(check="frames", detail=f"{count} frames, {table.frames} were promised")
    return worst, count


def _decoded(output: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    # A second thread would cost 15 % more CPU. Nobody looks at the samples, so they need no smoothing at block edges, a
    # fifth of the work; every bit of the stream is read all the same.
    stream.thread_type, stream.thread_count = "AUTO", 1
    # Decoders conceal damage by default: a smear would pass for a frame.
    stream.codec_context.options = {"err_detect": "explode", "skip_loop_filter": "all"}
    try:
        for packet in output.demux(stream):
            yield from packet.decode()
    except av.error.FFmpegError as error:
        raise VerifyFailed(check="decode", detail=str(error)) from error


def _end(promise: Promise, stream: VideoStream) -> str:
    """The track lasts until the last frame's end: a short one makes players drop the last frames."""
    tick = Fraction(stream.time_base or 0)
    lasts = (stream.duration or 0) * tick
    wanted = promise.table.end * promise.table.time_base - promise.table.start
    if abs(lasts - wanted) > tick:
        raise VerifyFailed(
            check="end", detail=f"the picture lasts {float(lasts):.6f} s instead of {float(wanted):.6f} s"
        )
    return "end"
