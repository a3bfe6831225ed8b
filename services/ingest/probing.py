"""What a file says of itself, and one frame of it: enough to refuse it, or to know what its index must hold."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av.error

from services.common.errors import CorruptMedia, EncryptedMedia, NoVideoFrames
from services.common.media.container import video_of
from services.common.media.index import OtherStream, Picture
from services.ingest.limits import MediaLimits
from services.ingest.upright import describe

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FALLBACK_RATE: Final = Fraction(25)
"""Where a file states no rate at all; used only to count on from frames whose time is missing."""

_MICROSECONDS: Final = 1_000_000
_PACKETS_WITHOUT_FRAME: Final = 600
"""A decoder that took so many packets and gave nothing will give nothing: ten seconds at 60 frames a second."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known before the frames are listed.

    Attributes:
        container, codec: FFmpeg's names.
        stream: index of the video stream.
        picture: what Decode will give.
        time_base: seconds a tick.
        rate: frames a second as stated or guessed.
        frames: as stated by the container; 0 if it says nothing.
        start, duration: of the video stream, in ticks; None if not stated.
        others: the streams that are not the video.
        chapters: how many.
        notes: what is assumed or converted.
    """

    container: str
    codec: str
    stream: int
    picture: Picture
    time_base: Fraction
    rate: Fraction
    frames: int
    start: int | None
    duration: int | None
    others: tuple[OtherStream, ...]
    chapters: int
    notes: tuple[str, ...]


def probe(container: InputContainer, limits: MediaLimits, *, name: str = "the video") -> Probe:
    """Read the headers and decode up to the first frame.

    Raises:
        NoVideoStream, MediaLimitExceeded, MediaTooSmall, EncryptedMedia, HdrUnsupported, DisplayMatrixUnsupported,
        FormatRefused, NoVideoFrames, CorruptMedia.
    """
    limits.check_streams(len(container.streams), name=name)
    stream = video_of(container, name=name)
    context = stream.codec_context
    if _is_encrypted(stream):
        raise EncryptedMedia(path=name)
    if context.width and context.height:  # a stream of which nothing was understood has no size yet
        limits.check_picture(context.width, context.height, name=name)
    rate = stream.average_rate or stream.guessed_rate or FALLBACK_RATE
    limits.check_rate(Fraction(rate), name=name)
    if container.duration is not None:
        limits.check_duration(Fraction(container.duration, _MICROSECONDS), name=name)
    limits.check_frames(stream.frames, name=name)
    if stream.time_base is None:
        raise CorruptMedia(path=name, detail="the video stream has no time base")
    frame = _first_frame(container, stream, name=name)
    limits.check_picture(frame.width, frame.height, name=name)
    sar = stream.sample_aspect_ratio or context.sample_aspect_ratio
    picture, notes = describe(
        frame, sar=Fraction(sar) if sar else None, field_order=int(context.field_order or 0), name=name
    )
    return Probe(
        container=container.format.name,
        codec=context.codec.canonical_name,
        stream=stream.index,
        picture=picture,
        time_base=Fraction(stream.time_base),
        rate=Fraction(rate),
        frames=stream.frames,
        start=stream.start_time,
        duration=stream.duration,
        others=tuple(_other(s) for s in container.streams if s.index != stream.index),
        chapters=len(container.chapters()),
        notes=notes,
    )


def _is_encrypted(stream: VideoStream) -> bool:
    """Common encryption hides the codec's tag behind `encv`; FFmpeg reads the codec and leaves the tag."""
    return stream.codec_context.codec_tag.lower() in ("encv", "drmi")


def _first_frame(container: InputContainer, stream: VideoStream, *, name: str) -> VideoFrame:
    """Decode until a frame comes; broken packets at the start of a recording are passed over."""
    stream.thread_type, stream.thread_count = "SLICE", 1
    failures = 0
    try:
        for packets, packet in enumerate(container.demux(stream)):
            if packet.has_sidedata("encryption_info"):
                raise EncryptedMedia(path=name)
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                failures += 1
                frames = []
            if frames:
                return frames[0]
            if packets > _PACKETS_WITHOUT_FRAME:
                break
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise CorruptMedia(path=name, at="its first frame", detail=str(error.strerror)) from error
    if failures and stream.frames == failures:
        raise CorruptMedia(path=name, at="its first frame", detail="not one packet can be decoded")
    raise NoVideoFrames(path=name, codec=stream.codec_context.name)


def _other(stream: Stream) -> OtherStream:
    context: Any = getattr(stream, "codec_context", None)
    is_audio = stream.type == "audio" and context is not None
    return OtherStream(
        kind=stream.type if stream.type in ("audio", "subtitle", "attachment") else "data",
        codec=context.name if context is not None and context.codec is not None else "",
        language=stream.language or "",
        sample_rate_hz=int(context.sample_rate or 0) if is_audio else 0,
        channels=int(context.layout.nb_channels) if is_audio else 0,
    )
