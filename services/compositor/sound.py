"""Sound that is copied, and what copying and encoding tracks have in common.

A copied stream decodes to the source's own samples. Its packets are only put back on the grid of samples where the
source's container had rounded their times (Matroska's milliseconds, the 90 kHz of a transport stream).
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from services.compositor.carriage import audible

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

    AnyPacket = Packet[Any]

# Samples at 48 kHz of one frame in an Opus packet, by the configuration in its first byte (RFC 6716, table 2).
_OPUS_FRAMES = (*((480, 960, 1920, 2880) * 3), *((480, 960) * 2), *((120, 240, 480, 960) * 4))

# Packets in which every audio stream has shown itself, or is taken to begin when its container says.
_PACKETS_LOOKED_AT = 2000

# A movie's time scale is a 32-bit number with a sign.
_LARGEST_SCALE = 2**31 - 1


class Track(Protocol):
    """A stream on its way from the source into the output."""

    def take(self, packet: AnyPacket) -> list[AnyPacket]:
        """The output's packets that one packet of the source gives, ready to be muxed."""

    def finish(self) -> list[AnyPacket]:
        """What is still held after the last packet."""


def shift(packet: AnyPacket, offset: Fraction) -> None:
    """Move a packet's times back by `offset` seconds, which is rounded to the packet's own ticks."""
    ticks = round(offset / Fraction(packet.time_base))
    if packet.pts is not None:
        packet.pts -= ticks
    if packet.dts is not None:
        packet.dts -= ticks


def movie_scale(time_base: Fraction, rates: list[int]) -> int:
    """Ticks a second of the movie header: late starts are rounded to it, and the usual 1000 moves them by 0.5 ms."""
    scale = math.lcm(time_base.denominator, *rates)
    return scale if scale <= _LARGEST_SCALE else max(time_base.denominator, 90_000)


class AudioCopy:
    """One stream's packets as they are, with times on the grid of samples where `on_grid` asks for it."""

    def __init__(self, output: OutputContainer, source: AudioStream, *, offset: Fraction, on_grid: bool) -> None:
        self._target = output.add_stream_from_template(source, opaque=True)
        self._target.metadata.update(source.metadata)
        self._target.disposition = source.disposition
        self._offset = offset
        self._grid = SampleGrid(source) if on_grid else None

    def take(self, packet: AnyPacket) -> list[AnyPacket]:
        """The same packet at its new time."""
        if not packet.size or packet.pts is None:
            return []
        if self._grid is not None:
            self._grid.snap(packet)
        shift(packet, self._offset)
        packet.stream = self._target
        return [packet]

    def finish(self) -> list[AnyPacket]:
        """Copying holds nothing."""
        return []


class SampleGrid:
    """Puts packets whose times were rounded to a coarse clock back onto whole samples; real gaps stay."""

    def __init__(self, source: AudioStream) -> None:
        context = source.codec_context
        self._rate = context.sample_rate
        self._is_opus = context.name.endswith("opus")
        self._frame_size = context.frame_size or 0
        self._expected: int | None = None

    def snap(self, packet: AnyPacket) -> None:
        """Give the packet a time and a duration in samples, unless its clock is fine enough."""
        tick = Fraction(packet.time_base)
        if tick * self._rate <= 1 or packet.pts is None:
            return
        at = round(packet.pts * tick * self._rate)
        if self._expected is None:
            at = self._first(packet)
        # Rounding moves a time by half a tick, twice; more than that is a gap that was meant.
        if self._expected is not None and abs(at - self._expected) <= tick * self._rate * Fraction(3, 2) + 1:
            at = self._expected
        length = self._samples(packet, tick)
        packet.time_base = Fraction(1, self._rate)
        packet.pts = packet.dts = at
        packet.duration = length
        self._expected = at + length

    def _first(self, packet: AnyPacket) -> int:
        """The first packet's place: in whole samples before the first that is heard."""
        return round(_heard_at(packet, self._rate) * self._rate) - _primed(packet)

    def _samples(self, packet: AnyPacket, tick: Fraction) -> int:
        length = self._frame_size or round((packet.duration or 0) * tick * self._rate)
        if self._is_opus:
            length = opus_samples(bytes(packet)) * self._rate // 48_000
        # Matroska's DiscardPadding: samples at the packet's end that are not to be heard.
        return max(length - int.from_bytes(_skipped(packet)[4:8], "little"), 0)


def opus_samples(packet: bytes) -> int:
    """Samples at 48 kHz that an Opus packet holds, by its own first bytes (RFC 6716, section 3.1)."""
    head = packet[0]
    count = (1, 2, 2, packet[1] & 0x3F if len(packet) > 1 else 0)[head & 3]
    return count * _OPUS_FRAMES[head >> 3]


def first_heard(source: InputContainer) -> dict[int, Fraction]:
    """Seconds of the first sample that is heard of each audio stream, by the stream's index.

    Where priming is to be skipped, Matroska's start time is sometimes that of the priming: the first packets tell.
    Demuxes from where the container stands.
    """
    streams = audible(source)
    found = {
        stream.index: Fraction(stream.start_time) * Fraction(stream.time_base)
        for stream in streams
        if stream.start_time is not None and stream.time_base is not None
    }
    rates = {stream.index: stream.codec_context.sample_rate for stream in streams}
    waiting = set(rates)
    if "matroska" not in source.format.name or not waiting:
        return found
    for packet in islice(source.demux(*streams), _PACKETS_LOOKED_AT):
        index = packet.stream.index
        if index in waiting and packet.pts is not None:
            waiting.discard(index)
            found[index] = _heard_at(packet, rates[index])
        if not waiting:
            break
    return found


def _heard_at(packet: AnyPacket, rate: int) -> Fraction:
    """Seconds of the first sample of a packet that is heard.

    Matroska subtracts the priming in its own ticks, after rounding it to them: it is added again in the same way.
    """
    tick = Fraction(packet.time_base)
    return ((packet.pts or 0) + math.floor(Fraction(_primed(packet), rate) / tick + Fraction(1, 2))) * tick


def _primed(packet: AnyPacket) -> int:
    return int.from_bytes(_skipped(packet)[:4], "little")


def _skipped(packet: AnyPacket) -> bytes:
    """What is not to be heard: samples at the packet's beginning, samples at its end; 32 bits each."""
    return bytes(packet.get_sidedata("skip_samples")) if packet.has_sidedata("skip_samples") else bytes(8)
