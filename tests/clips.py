"""Test videos in one line, made with PyAV: every kind of time, rotation, size and sound that invariant I1 names.

    make_clip(tmp_path / "a.mp4", frames=48, rate=25, bf=2, audio="aac")

The picture is a moving textured gradient, so that no two frames are equal, under a bar code that holds the frame's
number: `frame_number(luma)` reads it back from any decoded, scaled or re-encoded frame. Frames named in `flashes` are
white below the bar code, and every sound track clicks at their time. `I1_CLIPS` is the catalogue; each entry takes a
folder and answers a path.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from tests.clip_parts import add_subtitles, click_track, declare_colour

Plane = NDArray[np.uint8]

os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 would write thirty lines for each clip

NUMBER_BITS: Final = 12
"""Frames 0 to 4095 can be told apart."""

AUDIO_ENCODERS: Final = {"opus": "libopus", "mp3": "libmp3lame", "pcm": "pcm_s16le", "vorbis": "libvorbis"}
CONTAINERS: Final = {".mkv": "matroska", ".ts": "mpegts", ".mpg": "mpeg", ".m4v": "mp4"}
QUICK: Final[Mapping[str, Mapping[str, str]]] = {
    "libx264": {"preset": "ultrafast", "qp": "12"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "1M"},
}


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound track: a tone with clicks at the flashes."""

    codec: str = "aac"
    seconds: Fraction | float | None = None
    """Length; None is the video's."""
    start: Fraction | float = 0
    """Time of the first sample, seconds."""
    language: str = "und"
    rate: int = 48000
    tone_hz: float = 220.0


def picture(number: int, width: int, height: int, *, flash: bool = False) -> tuple[Plane, Plane, Plane]:
    """The upright frame `number`: Y (height, width), U and V (half of it, rounded up), uint8, limited range."""
    base, texture = _ground(width, height)
    luma = np.roll(base, 3 * number, axis=1) // 2 + np.roll(texture, (number, 5 * number), axis=(0, 1)) // 2
    luma = np.full_like(luma, 235) if flash else np.clip(luma, 16, 235).astype(np.uint8)
    bar, cell = _bar(width, height)
    for bit in range(NUMBER_BITS):
        luma[:bar, bit * cell : (bit + 1) * cell] = 210 if number >> bit & 1 else 40
    down, across = (height + 1) // 2, (width + 1) // 2
    u = np.broadcast_to(np.linspace(90, 166, across)[None], (down, across)) + number % 16 - 8
    v = np.broadcast_to(np.linspace(166, 90, down)[:, None], (down, across)) - number % 16 + 8
    return luma, np.ascontiguousarray(u.astype(np.uint8)), np.ascontiguousarray(v.astype(np.uint8))


def frame_number(luma: Plane) -> int:
    """Read the number back from an upright luma plane, of any size down to 48x32."""
    height, width = luma.shape
    bar, cell = _bar(width, height)
    number = 0
    for bit in range(NUMBER_BITS):
        middle = luma[bar // 4 : max(bar // 4 + 1, bar * 3 // 4), bit * cell + cell // 4 : (bit + 1) * cell - cell // 4]
        number |= int(middle.mean() > 125) << bit
    return number


@functools.lru_cache(maxsize=8)
def _ground(width: int, height: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    base = 40 + 180 * ((x + 2 * y) % 256) / 256
    texture = np.random.default_rng(7).integers(60, 190, ((height + 3) // 4, (width + 3) // 4))
    return base.astype(np.int16), np.kron(texture, np.ones((4, 4)))[:height, :width].astype(np.int16)


def _bar(width: int, height: int) -> tuple[int, int]:
    return max(2, height // 8), width // NUMBER_BITS


def make_clip(
    path: Path,
    *,
    frames: int = 48,
    size: tuple[int, int] = (320, 240),
    rate: int | Fraction = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    start: Fraction | float = 0,
    codec: str = "libx264",
    bf: int = 0,
    gop: int = 12,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    interlaced: bool = False,
    sar: Fraction | None = None,
    colour: Mapping[str, int] | None = None,
    audio: str | Sound | Sequence[Sound] | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    flashes: Sequence[int] = (),
    metadata: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    container: str | None = None,
    container_options: Mapping[str, str] | None = None,
    draw: Callable[[int, int, int], tuple[Plane, Plane, Plane]] | None = None,
) -> Path:
    """Write a video and answer its path.

    Args:
        path: where; the suffix decides the container unless `container` names one.
        frames: how many, unless `pts` lists them.
        size: width, height of the *upright* picture; a rotation of 90 or 270 stores it lying.
        rate: frames a second.
        pts: presentation times in `time_base` (default 1/90000, 1/1000 in Matroska and WebM), for variable rate.
        start: time of the first frame, seconds; may be negative where the container can say so.
        codec: encoder's name; `bf` B-frames, `gop` the longest distance of key frames.
        rotation: degrees, clockwise, by which a player must turn the stored picture: 0, 90, 180, 270.
        colour: `range`, `matrix`, `primaries`, `transfer` tags, by FFmpeg's numbers.
        audio: codec's name (aac, opus, mp3, pcm, ...), or one or more `Sound`s.
        subtitles, chapters: (from, to, text) in seconds.
        flashes: frames that are white, with a click at their time in each sound track.
        draw: another picture: (number, width, height) to three planes.
    """
    fmt = container or CONTAINERS.get(path.suffix, path.suffix[1:])
    ticks = time_base or (_coarse(fmt) if pts is not None or _coarse(fmt).denominator == 1000 else Fraction(1) / rate)
    times = list(pts) if pts is not None else [round(n / (Fraction(rate) * ticks)) for n in range(frames)]
    times = [t + round(Fraction(start) / ticks) for t in times]
    end = times[-1] + (times[-1] - times[-2] if len(times) > 1 else round(1 / (Fraction(rate) * ticks)))
    muxing = dict(container_options or {})
    if fmt in ("mp4", "mov"):
        muxing.setdefault("video_track_timescale", str(ticks.denominator * (1 if ticks.denominator >= 1000 else 512)))
    with av.open(str(path), "w", format=fmt, container_options=muxing) as out:
        out.metadata.update(metadata or {})
        stream: Any = out.add_stream(codec, rate=rate, options={**QUICK.get(codec, {}), **(options or {})})
        lying = rotation in (90, 270)
        stream.width, stream.height = size[::-1] if lying else size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.time_base, context.gop_size, context.max_b_frames = ticks, gop, bf
        context.thread_type, context.thread_count = "FRAME", 1
        if codec == "libsvtav1":  # keyint by options only; max_b_frames would be refused
            context.gop_size = gop
        if interlaced:
            context.flags |= 0x40000 | 0x20000000  # ildct, ilme
            context.options = {**context.options, "x264-params": "tff=1"}
        if sar is not None:
            context.sample_aspect_ratio = sar
        declare_colour(context, colour or {})
        if rotation:
            stream.set_display_rotation(-rotation)  # FFmpeg counts counter-clockwise
        sounds = (
            [Sound(codec=audio)] if isinstance(audio, str) else [audio] if isinstance(audio, Sound) else audio or ()
        )
        flash_times = [float((times[n] - times[0]) * ticks + Fraction(start)) for n in flashes]
        tracks = [
            click_track(
                out,
                codec=AUDIO_ENCODERS.get(sound.codec, sound.codec),
                rate=sound.rate,
                tone_hz=sound.tone_hz,
                language=sound.language,
                start=float(sound.start) + float(start),
                seconds=float((end - times[0]) * ticks if sound.seconds is None else sound.seconds),
                clicks=flash_times,
            )
            for sound in sounds
        ]
        subtitle = add_subtitles(out, subtitles, fmt)
        out.set_chapters(
            [
                {
                    "id": n,
                    "start": round(a * 1000),
                    "end": round(b * 1000),
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": t},
                }
                for n, (a, b, t) in enumerate(chapters)
            ]
        )
        out.start_encoding()
        for number, time in enumerate(times):
            planes = draw(number, *size) if draw else picture(number, *size, flash=number in flashes)
            frame = _frame([np.rot90(plane, rotation // 90) for plane in planes], pix_fmt)
            frame.pts, frame.time_base = time, ticks
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in [*stream.encode(None), *subtitle, *(packet for track in tracks for packet in track)]:
            out.mux(packet)
    return path


def _coarse(fmt: str) -> Fraction:
    return Fraction(1, 1000) if fmt in ("matroska", "webm") else Fraction(1, 90000)


def _frame(planes: Sequence[Plane], pix_fmt: str) -> av.VideoFrame:
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, "yuv420p")
    for target, source in zip(frame.planes, planes, strict=True):
        np.frombuffer(target, np.uint8).reshape(-1, target.line_size)[: source.shape[0], : source.shape[1]] = source
    return frame if pix_fmt == "yuv420p" else frame.reformat(format=pix_fmt)


def _vfr(count: int) -> list[int]:
    """Steps of 20, 33, 40 and 57 ms in 90 kHz, with a hole of 600 ms in the middle."""
    steps = [1800, 2970, 3600, 5130]
    times = [0]
    for n in range(1, count):
        times.append(times[-1] + steps[n % 4] + (54000 if n == count // 2 else 0))
    return times


def _mp4(name: str, **how: Any) -> Callable[[Path], Path]:
    return lambda folder: make_clip(folder / name, **how)


I1_CLIPS: Final[dict[str, Callable[[Path], Path]]] = {
    "cfr_24": _mp4("cfr_24.mp4", rate=24, audio="aac"),
    "cfr_25": _mp4("cfr_25.mp4", rate=25, bf=2),
    "cfr_29_97": _mp4("cfr_29_97.mp4", rate=Fraction(30000, 1001), bf=2, audio="aac", time_base=Fraction(1001, 30000)),
    "cfr_60": _mp4("cfr_60.mp4", rate=60, bf=3),
    "vfr_holes": _mp4("vfr_holes.mp4", pts=_vfr(40), rate=25),
    "vfr_b_frames": _mp4("vfr_b_frames.mp4", pts=_vfr(40), rate=25, bf=3, audio="aac"),
    "vfr_matroska": _mp4("vfr_matroska.mkv", pts=[t // 90 for t in _vfr(40)], rate=25, bf=2, audio="opus"),
    "b_frames_one_gop": _mp4("b_frames_one_gop.mp4", bf=3, gop=250),
    "open_gop": _mp4("open_gop.mp4", bf=2, gop=10, options={"x264-params": "open-gop=1:scenecut=0"}),
    "open_gop_hevc": _mp4("open_gop_hevc.mp4", codec="libx265", bf=2, gop=12, frames=36),
    "negative_start": _mp4(
        "negative_start.ts", start=Fraction(2**33 - 36000, 90000), bf=2, container_options={"mpegts_copyts": "1"}
    ),
    "negative_start_matroska": _mp4(
        "negative_start_matroska.mkv", start=Fraction(-2, 25), audio="aac", container_options={"avoid_negative_ts": "0"}
    ),
    "late_start": _mp4("late_start.ts", start=Fraction(13, 2), bf=2, audio="aac"),
    "rotated_90": _mp4("rotated_90.mp4", rotation=90, size=(240, 320), bf=2),
    "rotated_180": _mp4("rotated_180.mp4", rotation=180),
    "rotated_270": _mp4("rotated_270.mp4", rotation=270, size=(240, 320), sar=Fraction(4, 3)),
    "odd_size": _mp4("odd_size.mp4", size=(321, 241), codec="libsvtav1", frames=24),
    "odd_rotated": _mp4("odd_rotated.mp4", size=(241, 321), rotation=90, codec="libvpx-vp9", frames=24),
    "av1_opus": _mp4("av1_opus.mp4", codec="libsvtav1", audio="opus", frames=36),
    "vp9_webm": _mp4("vp9_webm.webm", codec="libvpx-vp9", audio="opus", frames=36),
    "ten_bit": _mp4("ten_bit.mp4", codec="libx265", pix_fmt="yuv420p10le", frames=24, colour={"matrix": 1}),
    "full_range": _mp4("full_range.mp4", pix_fmt="yuvj420p", colour={"range": 2, "matrix": 1}),
    "four_four_four": _mp4("four_four_four.mp4", pix_fmt="yuv444p"),
    "interlaced": _mp4("interlaced.mp4", interlaced=True, bf=2),
    "mpeg1": _mp4("mpeg1.mpg", codec="mpeg1video", bf=2, audio="mp2"),
    "mpeg2_ts": _mp4("mpeg2_ts.ts", codec="mpeg2video", bf=2, audio="mp2"),
    "flv": _mp4("flv.flv", bf=2, audio="aac", time_base=Fraction(1, 1000)),
    "avi": _mp4("avi.avi", codec="mpeg4", audio="mp3"),
    "fragmented": _mp4("fragmented.mp4", bf=2, container_options={"movflags": "frag_keyframe+empty_moov"}),
    "gif": _mp4("gif.gif", codec="gif", pix_fmt="rgb8", frames=16, time_base=Fraction(1, 100)),
    "no_audio": _mp4("no_audio.mp4", audio=None),
    "many_streams": _mp4(
        "many_streams.mp4",
        bf=2,
        audio=[Sound(language="deu"), Sound(language="eng", tone_hz=330)],
        subtitles=[(0.2, 0.9, "Grüße"), (1.0, 1.8, "Zeile <i>zwei</i>")],
        chapters=[(0.0, 0.8, "eins"), (0.8, 1.92, "zwei")],
        metadata={"title": "Many streams"},
    ),
    "audio_longer": _mp4("audio_longer.mp4", audio=Sound(seconds=5)),
    "audio_late": _mp4("audio_late.mp4", bf=2, audio=Sound(start=0.3)),
    "flashes": _mp4("flashes.mp4", frames=100, bf=2, audio="aac", flashes=[10, 30, 50, 70, 90]),
    "one_frame": _mp4("one_frame.mp4", frames=1),
}
"""Name to a maker: `I1_CLIPS["rotated_90"](tmp_path)`."""
