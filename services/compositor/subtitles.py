"""Subtitles: copied where the container takes them, text converted where it does not, cues cut with the picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.packet import Packet

from services.compositor.carriage import Container

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.container import OutputContainer
    from av.subtitles.codeccontext import SubtitleCodecContext
    from av.subtitles.stream import SubtitleStream

    from services.compositor.remarks import Remarks
    from services.compositor.timetable import Piece

    AnyPacket = Packet[Any]

_TEXT = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
_MATROSKA = frozenset(
    {"subrip", "srt", "ass", "ssa", "webvtt", "hdmv_pgs_subtitle", "pgssub", "dvd_subtitle", "dvdsub"}
)

# FFmpeg writes the font that it assumed for MP4's text into every SubRip cue.
_DEFAULT_FONT = re.compile(rb'^<font face="Serif" size="18">(.*)</font>$', re.DOTALL)

# Times of cues are rounded to this, which is what every subtitle format holds.
_MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True, slots=True)
class Cue:
    """When a subtitle is shown, in seconds of the output."""

    start: Fraction
    end: Fraction


def cues(start: Fraction, end: Fraction, *, pieces: Sequence[Piece], tick: Fraction, offset: Fraction) -> list[Cue]:
    """Where a cue of the source is shown in the output: once for each kept stretch that it reaches into."""
    if not pieces:
        return [Cue(start - offset, end - offset)]
    found = []
    for piece in pieces:
        first, last = max(start, piece.start * tick), min(end, piece.end * tick)
        if first < last:
            move = (piece.base - piece.start) * tick
            found.append(Cue(first + move, last + move))
    return found


def target_codec(source: str, container: Container) -> str | None:
    """The codec that a subtitle stream gets in a container; None if it cannot be kept."""
    if container.is_mp4:
        return "mov_text" if source in _TEXT else None
    if container is Container.WEBM:
        return "webvtt" if source in _TEXT else None
    if source in _MATROSKA:
        return source
    return "subrip" if source in _TEXT else None


class SubtitleTrack:
    """One subtitle stream into the output, cue by cue."""

    def __init__(
        self,
        output: OutputContainer,
        source: SubtitleStream,
        codec: str,
        *,
        pieces: Sequence[Piece],
        tick: Fraction,
        offset: Fraction,
        remarks: Remarks,
    ) -> None:
        self._number, self._remarks = source.index, remarks
        self._pieces, self._tick, self._offset = pieces, tick, offset
        self._decoder: Any = source.codec_context
        self._is_copied = codec == source.codec_context.name
        if self._is_copied:
            self._target = output.add_stream_from_template(source, opaque=True)
        else:
            # Loose: decoders of text ask for a time base that containers do not always give.
            self._decoder.open(strict=False)
            self._target = output.add_stream(codec)  # type: ignore[assignment]
            self._target.codec_context.subtitle_header = self._decoder.subtitle_header
            self._target.codec_context.time_base = _MILLISECOND
            self._target.time_base = _MILLISECOND
        self._target.metadata.update(source.metadata)
        self._target.disposition = source.disposition

    def take(self, packet: AnyPacket) -> list[AnyPacket]:
        """The cue at its new time, as often as a cut makes of it; none if it lies in what was taken out."""
        if not packet.size or packet.pts is None:
            return []
        tick = Fraction(packet.time_base)
        start = packet.pts * tick
        shown = cues(
            start,
            start + max(packet.duration or 0, 1) * tick,
            pieces=self._pieces,
            tick=self._tick,
            offset=self._offset,
        )
        content = self._content(packet) if shown else None
        return [] if content is None else [self._packet(content, cue) for cue in shown]

    def finish(self) -> list[AnyPacket]:
        """Cues are not held."""
        return []

    def _content(self, packet: AnyPacket) -> bytes | None:
        if self._is_copied:
            return bytes(packet)
        try:
            decoded = self._decoder.decode2(packet)
            if not decoded:
                return None
            return _DEFAULT_FONT.sub(rb"\1", bytes(self._target.codec_context.encode_subtitle(decoded)))
        except av.error.FFmpegError:
            self._remarks.add(f"subtitle stream {self._number} holds cues that cannot be read; they are left out")
            return None

    def _packet(self, content: bytes, cue: Cue) -> AnyPacket:
        packet: AnyPacket = Packet(content)
        packet.time_base = _MILLISECOND
        packet.pts = packet.dts = round(cue.start / _MILLISECOND)
        packet.duration = max(1, round(cue.end / _MILLISECOND) - packet.pts)
        packet.stream = self._target
        return packet


def subtitle_tracks(
    output: OutputContainer,
    streams: Sequence[SubtitleStream],
    container: Container,
    *,
    pieces: Sequence[Piece],
    tick: Fraction,
    offset: Fraction,
    remarks: Remarks,
) -> dict[int, SubtitleTrack]:
    """Tracks for all subtitle streams that the container can hold, by the source's stream index."""
    tracks = {}
    for stream in streams:
        # PyAV promises a context and gives None for codecs that it does not know.
        context: SubtitleCodecContext | None = stream.codec_context
        if context is None:
            remarks.add(f"subtitle stream {stream.index} cannot be read and is left out")
            continue
        name = context.name
        codec = target_codec(name, container)
        is_picture = name not in _TEXT
        if codec is None or (is_picture and pieces):
            # Pictures have no end of their own: the next one wipes them, which may have been cut out.
            remarks.add(f"subtitle stream {stream.index} ({name}) cannot be kept in {container.suffix} and is left out")
            continue
        tracks[stream.index] = SubtitleTrack(
            output, stream, codec, pieces=pieces, tick=tick, offset=offset, remarks=remarks
        )
    return tracks
