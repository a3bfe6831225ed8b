"""Sound, subtitles and colour tags of the test videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np


def declare_colour(context: Any, colour: Mapping[str, int]) -> None:
    """Set the tags that are named; `range` 1 is limited, 2 full; the rest by H.273."""
    names = {"range": "color_range", "matrix": "colorspace", "primaries": "color_primaries", "transfer": "color_trc"}
    for name, number in colour.items():
        setattr(context, names[name], number)


def click_track(
    out: Any,
    *,
    codec: str,
    rate: int,
    tone_hz: float,
    language: str,
    start: float,
    seconds: float,
    clicks: Sequence[float],
) -> Iterator[Any]:
    """Add a stream: a quiet tone, and a loud click of 2 ms at each time of `clicks`. Its packets are made lazily."""
    layout = "stereo" if codec == "libvorbis" else "mono"
    stream = out.add_stream(codec, rate=rate, layout=layout)
    stream.metadata["language"] = language
    stream.codec_context.time_base = Fraction(1, rate)
    return _sound_packets(stream, layout, rate, tone_hz, start, seconds, clicks)


def _sound_packets(
    stream: Any, layout: str, rate: int, tone_hz: float, start: float, seconds: float, clicks: Sequence[float]
) -> Iterator[Any]:
    count = round(seconds * rate)
    samples = 0.05 * np.sin(2 * np.pi * tone_hz * np.arange(count) / rate)
    for time in clicks:
        first = round((time - start) * rate)
        samples[max(0, first) : first + rate // 500] = 0.9
    resampler = av.AudioResampler(
        format=stream.codec_context.format.name,
        layout=layout,
        rate=rate,
        frame_size=stream.codec_context.frame_size or 1024,
    )
    pcm = np.round(samples * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[None]), format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, round(start * rate), Fraction(1, rate)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        yield from stream.encode(piece)
    yield from stream.encode(None)


def add_subtitles(out: Any, cues: Sequence[tuple[float, float, str]], fmt: str) -> list[Any]:
    """Add a text track (mov_text in MP4, SubRip elsewhere) and answer its packets."""
    if not cues:
        return []
    ass_header = b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[Events]\r\nFormat: Layer, Start, End, Style, Text\r\n"
    is_mp4 = fmt in ("mp4", "mov")
    stream = out.add_stream("mov_text" if is_mp4 else "subrip")
    stream.codec_context.subtitle_header = ass_header
    stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
    stream.metadata["language"] = "deu"
    packets = []
    for begin, end, text in cues:
        # mov_text: 16-bit length, then UTF-8; SubRip in Matroska: the bare text.
        body = text.encode()
        packet = av.Packet(len(body).to_bytes(2, "big") + body if is_mp4 else body)
        packet.stream = stream
        packet.time_base = Fraction(1, 1000)
        packet.pts = packet.dts = round(begin * 1000)
        packet.duration = round((end - begin) * 1000)
        packet.is_keyframe = True
        packets.append(packet)
    return packets
