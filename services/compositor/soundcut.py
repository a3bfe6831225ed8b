"""Sound that is decoded, cut and encoded once for the whole output.

Samples have places: the sample at time t lies at round(t * rate). Cutting is arithmetic on places with exact
fractions, so that nothing drifts however many ranges are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from numpy.typing import NDArray

    from services.compositor.carriage import AudioCarriage
    from services.compositor.remarks import Remarks
    from services.compositor.timetable import Piece

    AnyPacket = Packet[Any]
    Samples = NDArray[np.float32]
    """(channels, n) float32 in [-1, 1]."""

# A join without it clicks; longer is heard as a gap.
FADE = Fraction(5, 1000)

# Silence is made in blocks, so that a long gap costs no memory.
_BLOCK = 48_000

_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_BITS_A_CHANNEL = {"aac": 96_000, "libopus": 80_000}


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples and the place of the first."""

    at: int
    samples: Samples

    @property
    def end(self) -> int:
        """The place after the last sample."""
        return self.at + int(self.samples.shape[1])


def silence(at: int, end: int, channels: int) -> Iterator[Block]:
    """Nothing to hear from `at` to `end`."""
    while at < end:
        length = min(_BLOCK, end - at)
        yield Block(at, np.zeros((channels, length), np.float32))
        at += length


class Line:
    """Decoded frames as one line of samples without holes or overlaps.

    A frame whose time is within its clock's rounding of where the last one ended is put exactly there. A later one is
    preceded by silence, an earlier one loses its beginning.
    """

    def __init__(self, *, rate: int, channels: int, last: int) -> None:
        self._rate, self._channels, self._last = rate, channels, last
        self._next: int | None = None

    def place(self, time: Fraction | None, tick: Fraction, samples: Samples) -> Iterator[Block]:
        """Blocks that follow one another, up to the place at which hearing ends."""
        at = self._next if time is None else round(time * self._rate)
        at = 0 if at is None else at
        if self._next is None:
            self._next = at
        if abs(at - self._next) <= tick * self._rate * Fraction(3, 2) + 1:
            at = self._next
        at_most = min(at, self._last)
        for block in silence(self._next, at_most, self._channels):
            yield block
            self._next = block.end
        samples = samples[:, max(0, self._next - at) : max(0, self._last - at)]
        if samples.shape[1]:
            yield Block(self._next, samples)
            self._next += samples.shape[1]


@dataclass(frozen=True, slots=True)
class Cut:
    """One kept stretch in samples: where it is taken from, where it goes, and whether its ends are joins."""

    source: int
    target: int
    length: int
    fades_in: bool
    fades_out: bool

    def gain(self, first: int, last: int, fade: int) -> Samples:
        """Loudness of samples [first, last) of this stretch: linear over `fade` samples at each join."""
        at = np.arange(first, last, dtype=np.float32)
        fade = max(1, min(fade, self.length // 2))
        gain = np.ones(last - first, np.float32)
        if self.fades_in:
            gain = np.minimum(gain, (at + 0.5) / fade)
        if self.fades_out:
            gain = np.minimum(gain, (self.length - at - 0.5) / fade)
        return gain.astype(np.float32)


def cuts(pieces: Sequence[Piece], time_base: Fraction, rate: int) -> list[Cut]:
    """The kept stretches in samples. Lengths are differences of rounded places, so that they add up without drift."""
    found = []
    for piece in pieces:
        target = round(piece.base * time_base * rate)
        end = round((piece.base + piece.duration) * time_base * rate)
        found.append(
            Cut(
                source=round(piece.start * time_base * rate),
                target=target,
                length=end - target,
                fades_in=piece.is_cut_before,
                fades_out=piece.is_cut_after,
            )
        )
    return found


class Cutter:
    """Takes a line of blocks in the source's places, gives one in the output's, with every kept sample present."""

    def __init__(self, stretches: Sequence[Cut], *, rate: int, channels: int) -> None:
        self._stretches, self._channels = stretches, channels
        self._fade = round(FADE * rate)
        self._current = 0
        self._done = 0
        """Samples of the current stretch that were given."""

    def take(self, block: Block) -> Iterator[Block]:
        """What one block of the source gives."""
        while self._current < len(self._stretches):
            cut = self._stretches[self._current]
            first = max(block.at - cut.source, self._done)
            last = min(block.end - cut.source, cut.length)
            if first < last:
                yield from self._silent(cut, first)
                part = block.samples[:, first + cut.source - block.at : last + cut.source - block.at]
                yield Block(cut.target + first, part * cut.gain(first, last, self._fade))
                self._done = last
            if block.end - cut.source < cut.length:
                return
            yield from self._silent(cut, cut.length)
            self._current, self._done = self._current + 1, 0

    def finish(self) -> Iterator[Block]:
        """Silence for what the source did not last for."""
        while self._current < len(self._stretches):
            cut = self._stretches[self._current]
            yield from self._silent(cut, cut.length)
            self._current, self._done = self._current + 1, 0

    def _silent(self, cut: Cut, upto: int) -> Iterator[Block]:
        yield from silence(cut.target + self._done, cut.target + upto, self._channels)
        self._done = max(self._done, upto)


class Shifter:
    """Where nothing is cut: the same line, moved by the common offset, with silence before sound that begins late.

    An encoder's priming lies before its first sample. Containers hide it before time 0 and nowhere else: a late track
    would be heard to begin with it.
    """

    def __init__(self, samples: int, *, channels: int) -> None:
        self._samples, self._channels = samples, channels
        self._has_begun = False

    def take(self, block: Block) -> Iterator[Block]:
        """The block at its new place."""
        at = block.at - self._samples
        if not self._has_begun:
            yield from silence(0, at, self._channels)
            self._has_begun = True
        yield Block(at, block.samples)

    def finish(self) -> Iterator[Block]:
        """Nothing is held."""
        return iter(())


class AudioEncode:
    """One stream, decoded, laid on a line, cut and encoded."""

    def __init__(
        self,
        output: OutputContainer,
        source: AudioStream,
        wanted: AudioCarriage,
        *,
        editor: Cutter | Shifter,
        last: int,
        remarks: Remarks,
    ) -> None:
        """Args:
        output: the container that is written.
        source: the stream to decode.
        wanted: codec and rate of the output.
        editor: which samples stay, and where they go.
        last: place in the source after which nothing is heard, against files that claim a gap of years.
        remarks: where to say what could not be kept.
        """
        context = source.codec_context
        self._source_channels = context.channels
        # More than eight have no layout that encoders know: the first two are kept.
        self._channels = context.channels if context.channels in _LAYOUTS else 2
        if self._channels != self._source_channels:
            remarks.add(f"audio stream {source.index} has {context.channels} channels; the first two are kept")
        self._rate = context.sample_rate
        self._line = Line(rate=self._rate, channels=self._channels, last=last)
        self._editor, self._remarks = editor, remarks
        self._layout = _LAYOUTS[self._channels]
        self._name = f"audio stream {source.index}"
        added = output.add_stream(wanted.codec, rate=wanted.rate, layout=self._layout)
        self._target = cast("AudioStream", added)
        self._target.bit_rate = _BITS_A_CHANNEL[wanted.codec] * self._channels
        self._target.metadata.update(source.metadata)
        self._target.disposition = source.disposition
        self._target.codec_context.time_base = Fraction(1, wanted.rate)
        self._output_rate = wanted.rate
        self._resampler: AudioResampler | None = None

    def take(self, packet: AnyPacket) -> list[AnyPacket]:
        """Encoded packets that one packet of the source makes possible; an empty packet drains the decoder."""
        try:
            frames = cast("list[AudioFrame]", packet.decode())
        except av.error.FFmpegError:
            self._remarks.add(f"{self._name} holds packets that cannot be decoded; they are silent")
            return []
        made: list[AnyPacket] = []
        for frame in frames:
            if frame.sample_rate != self._rate or frame.layout.nb_channels != self._source_channels:
                self._remarks.add(f"{self._name} changes its rate or channels; that part is silent")
                continue
            tick = frame.time_base or Fraction(1, self._rate)
            time = None if frame.pts is None else frame.pts * tick
            for block in self._line.place(time, tick, samples_of(frame)[: self._channels]):
                for edited in self._editor.take(block):
                    made += self._encode(edited)
        return made

    def finish(self) -> list[AnyPacket]:
        """The rest: silence up to the end of what is kept, and what resampler and encoder hold."""
        made: list[AnyPacket] = []
        for block in self._editor.finish():
            made += self._encode(block)
        if self._resampler is None:
            return made
        for frame in self._resampler.resample(None):
            made += self._mark(self._target.encode(frame))
        return made + self._mark(self._target.encode(None))

    def _encode(self, block: Block) -> list[AnyPacket]:
        # Packed: PyAV makes no planar frame of eight channels.
        packed = np.ascontiguousarray(block.samples.T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, block.at, Fraction(1, self._rate)
        made: list[AnyPacket] = []
        for sized in self._resampled(frame):
            made += self._mark(self._target.encode(sized))
        return made

    def _resampled(self, frame: AudioFrame) -> list[AudioFrame]:
        if self._resampler is None:
            context = self._target.codec_context
            self._resampler = AudioResampler(
                format=context.format, layout=self._layout, rate=self._output_rate, frame_size=context.frame_size
            )
        return self._resampler.resample(frame)

    def _mark(self, packets: list[AnyPacket]) -> list[AnyPacket]:
        for packet in packets:
            packet.stream = self._target
        return packets


def samples_of(frame: AudioFrame) -> Samples:
    """(channels, n) float32 in [-1, 1] of a decoded frame of any sample format."""
    array = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        array = array.reshape(-1, channels).T
    if array.dtype == np.uint8:
        return ((array.astype(np.float32) - 128) / 128).astype(np.float32)
    if np.issubdtype(array.dtype, np.integer):
        return (array.astype(np.float32) / float(2 ** (array.dtype.itemsize * 8 - 1))).astype(np.float32)
    return array.astype(np.float32)
