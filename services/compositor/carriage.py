"""What each container takes as it is, and what must be encoded for it: one decision a stream, made in one place.

Assembling acts on it and verifying holds the result against it, so both ask here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# Audio that MP4 holds and players take from it. PCM and Vorbis can be put there, but too few players find them.
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
# QuickTime knows neither Opus nor FLAC, and PCM since ever.
_PCM = frozenset({"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le"})
_MOV_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac"}) | _PCM
_WEBM_AUDIO = frozenset({"opus", "vorbis"})
# Codecs whose end padding Matroska keeps beside the packet, where MP4 has no place for it.
_END_PADDED = frozenset({"mp3", "opus"})
_OPUS_RATES = frozenset({8_000, 12_000, 16_000, 24_000, 48_000})
_AAC_RATES = frozenset(
    {7_350, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000}
)


class Container(Enum):
    """The containers that we write; the value is FFmpeg's name of the muxer."""

    MP4 = "mp4"
    MOV = "mov"
    MKV = "matroska"
    WEBM = "webm"

    @property
    def suffix(self) -> str:
        """Ending of a file's name."""
        return ".mkv" if self is Container.MKV else f".{self.value}"

    @property
    def is_mp4(self) -> bool:
        """Whether it is of the ISO family: real times, edit lists, few codecs."""
        return self in (Container.MP4, Container.MOV)


def container_of(suffix: str) -> Container:
    """The container for a name's ending, with or without its dot; empty means MP4."""
    wanted = suffix.removeprefix(".").lower() or "mp4"
    known = {"mp4": Container.MP4, "m4v": Container.MP4, "mov": Container.MOV}
    known |= {"mkv": Container.MKV, "webm": Container.WEBM}
    if wanted not in known:
        raise ValueError(f"no output is written as .{wanted}; there are {', '.join(sorted(known))}")
    return known[wanted]


class Way(Enum):
    """How an audio stream comes into the output."""

    COPY = "copied"
    ENCODE = "encoded once"


@dataclass(frozen=True, slots=True)
class AudioCarriage:
    """One audio stream's way into the output."""

    way: Way
    codec: str
    """FFmpeg's name of the codec in the output."""

    rate: int
    """Samples a second in the output."""

    may_end_padded: bool = False
    """Whether up to one packet of padding may follow the last sample: the container cannot say otherwise."""


def audible(source: InputContainer) -> list[AudioStream]:
    """The audio streams that can be carried: a stranger's file may name some that nobody can decode."""
    streams = []
    for stream in source.streams.audio:
        context = stream.codec_context
        if context is not None and context.sample_rate > 0 and context.channels > 0:
            streams.append(stream)
    return streams


def carriage(source: InputContainer, stream: AudioStream, target: Container, *, is_cut: bool) -> AudioCarriage:
    """How one audio stream of the source is carried.

    Sound that is cut is always encoded: a packet is longer than the 5 ms that a join may be off.
    """
    name = stream.codec_context.name.removeprefix("lib").removesuffix("float")
    if not is_cut and _is_copied(source, name, target):
        is_padded = target.is_mp4 and name in _END_PADDED and "matroska" in source.format.name
        return AudioCarriage(Way.COPY, name, stream.codec_context.sample_rate, may_end_padded=is_padded)
    rate = stream.codec_context.sample_rate
    if target.is_mp4:
        return AudioCarriage(Way.ENCODE, "aac", rate if rate in _AAC_RATES else 48_000, may_end_padded=True)
    return AudioCarriage(Way.ENCODE, "libopus", rate if rate in _OPUS_RATES else 48_000, may_end_padded=True)


def _is_copied(source: InputContainer, codec: str, target: Container) -> bool:
    if target.is_mp4:
        return codec in (_MOV_AUDIO if target is Container.MOV else _MP4_AUDIO)
    if target is Container.WEBM and codec not in _WEBM_AUDIO:
        return False
    # An edit list's priming does not survive in Matroska: the muxer shifts everything by 21 ms and plays it.
    return "mp4" not in source.format.name
