"""Proof of sound: copied streams decode to the source's own samples, encoded ones begin and end where they should."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

from services.common.errors import VerifyFailed
from services.common.media.container import open_media
from services.compositor.carriage import AudioCarriage, Container, Way, audible, carriage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

    from services.compositor.timetable import Timetable

# Most samples that end padding can be: a packet of Opus is at most 120 ms, one of MP3 or AAC 1152 or 2048 samples.
_PADDING = {"opus": Fraction(120, 1000), "libopus": Fraction(120, 1000)}
_PADDING_SAMPLES = 2304


@dataclass(slots=True)
class Heard:
    """What one stream was, as far as it has been decoded."""

    start: Fraction | None = None
    end: Fraction = Fraction(0)
    broken: int = 0
    """Packets that the decoder refused."""


def prove(source: Path, output: Path, *, container: Container, table: Timetable, offset: Fraction) -> list[str]:
    """Hold every audio stream of the output against the source's; the gates that were passed."""
    with open_media(source) as before, open_media(output) as after:
        count = len(audible(before))
        if len(after.streams.audio) != count:
            raise VerifyFailed(check="sound", detail=f"{len(after.streams.audio)} audio streams instead of {count}")
    passed = []
    for number in range(count):
        # One demuxer a stream: memory stays small however the streams lie in the file.
        with open_media(source) as before, open_media(output) as after:
            was, now = audible(before)[number], after.streams.audio[number]
            how = carriage(before, was, container, is_cut=bool(table.pieces))
            if how.way is Way.COPY:
                _prove_copy(number, (before, was), (after, now), how, offset)
                passed.append(f"sound {number}: samples equal")
            else:
                _prove_encoded(number, (before, was), (after, now), how, table, offset)
                passed.append(f"sound {number}: begins and ends in time")
    return passed


def _prove_copy(
    number: int,
    source: tuple[InputContainer, AudioStream],
    output: tuple[InputContainer, AudioStream],
    how: AudioCarriage,
    offset: Fraction,
) -> None:
    was, now = Heard(), Heard()
    left, right = _samples(*source, was), _samples(*output, now)
    one = other = None
    extra = 0
    while True:
        one = next(left, None) if one is None or not one.shape[1] else one
        other = next(right, None) if other is None or not other.shape[1] else other
        if one is None and other is None:
            break
        if one is None:
            extra, other = extra + _length(other), None
            continue
        common = min(_length(one), _length(other))
        if other is None or not np.array_equal(one[:, :common], other[:, :common]):
            raise VerifyFailed(check=f"sound {number}", detail="copied sound does not decode to the source's samples")
        one, other = one[:, common:], other[:, common:]
    most = _padding(how) * how.rate if how.may_end_padded else 0
    if extra > most:
        raise VerifyFailed(check=f"sound {number}", detail=f"{extra} samples more than the source")
    if now.broken > was.broken:
        raise VerifyFailed(check=f"sound {number}", detail=f"{now.broken} packets cannot be decoded")
    _check_start(number, was, now, _tick(source[1]) + _tick(output[1]), offset)


def _prove_encoded(
    number: int,
    source: tuple[InputContainer, AudioStream],
    output: tuple[InputContainer, AudioStream],
    how: AudioCarriage,
    table: Timetable,
    offset: Fraction,
) -> None:
    now = Heard()
    for _ in _samples(*output, now):
        pass
    if now.broken:
        raise VerifyFailed(check=f"sound {number}", detail=f"{now.broken} packets cannot be decoded")
    slack = _tick(source[1]) + _tick(output[1]) + Fraction(2, how.rate)
    if table.pieces:
        lasts = table.end * table.time_base
        was = Heard(start=Fraction(0), end=lasts)
    else:
        was = Heard()
        for _ in _samples(*source, was):
            pass
    moved = Fraction(0) if table.pieces else offset
    # Encoded sound begins with the file, in silence if the source's begins later; its end tells whether it is in step.
    begins = Heard(start=None if was.start is None else min(was.start, moved))
    _check_start(number, begins, now, slack, moved)
    behind = now.end - (was.end - moved)
    if not -slack <= behind <= slack + _padding(how):
        raise VerifyFailed(check=f"sound {number}", detail=f"ends {float(behind) * 1000:+.3f} ms after its source")


def _check_start(number: int, was: Heard, now: Heard, slack: Fraction, offset: Fraction) -> None:
    if (was.start is None) != (now.start is None):
        raise VerifyFailed(check=f"sound {number}", detail="only one of source and output holds sound")
    if was.start is None or now.start is None:
        return
    moved = now.start - (was.start - offset)
    if abs(moved) > slack:
        raise VerifyFailed(check=f"sound {number}", detail=f"begins {float(moved) * 1000:+.3f} ms after its source")


def _samples(container: InputContainer, stream: AudioStream, heard: Heard) -> Iterator[NDArray[np.generic]]:
    """(channels, n) samples as decoded, frame by frame; `heard` is filled on the way."""
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            heard.broken += 1
            continue
        for frame in frames:
            tick = frame.time_base or _tick(stream)
            start = heard.end if frame.pts is None else frame.pts * tick
            heard.start = start if heard.start is None else heard.start
            heard.end = start + Fraction(frame.samples, frame.sample_rate)
            array = frame.to_ndarray()
            channels = frame.layout.nb_channels
            yield array if frame.format.is_planar else array.reshape(-1, channels).T


def _length(samples: NDArray[np.generic] | None) -> int:
    return 0 if samples is None else int(samples.shape[1])


def _tick(stream: AudioStream) -> Fraction:
    return Fraction(stream.time_base or Fraction(1, stream.codec_context.sample_rate))


def _padding(how: AudioCarriage) -> Fraction:
    return _PADDING.get(how.codec, Fraction(_PADDING_SAMPLES, how.rate))
