"""The frames of a range, exactly: every frame of the index once, in order, or an error.

Decoding begins at the last key packet before the range. What comes out is compared with the index frame by frame, so a
frame that is missing, damaged or at another time can never shift its successors. Where the first frame after a seek is
not what the index says (formats seek by bytes or by guess, and some key packets need more before them), an earlier
beginning is taken; the last resort is the start of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import av.error
import numpy as np

from services.common.errors import CorruptMedia, RangeOutsideVideo, TruncatedMedia
from services.common.media.container import open_file, open_media
from services.common.media.index import MediaIndex
from services.ingest.indexing import STRICT, LeadIn

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

THREADS: Final = 2
"""Frame threads of a decoder. A second one halves the wall time for 15 % more CPU; a third gains little."""

KEYS_TRIED: Final = 3
EARLIER_S: Final = (0, 1, 3)
"""How far before a key packet to ask for, where a demuxer lands behind what it was asked."""


class _WrongBeginning(Exception):
    """Nothing was given yet and the first frames are not those of the index; never leaves this module."""


def decode_range(
    source: Path | IO[bytes], index: MediaIndex, first: int, last: int, *, name: str | None = None
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode frames `first` to `last`, the last not included.

    Args:
        source: as `open_media` takes it; no other decode may use the same file object meanwhile.
        index: of this very file.
        name: for errors.

    Yields:
        Number and frame, as stored: not turned, not converted.

    Raises:
        CorruptMedia, TruncatedMedia: a frame of the index is damaged or not there.
        RangeOutsideVideo: the range holds frames that the index does not have.
    """
    if not 0 <= first <= last <= index.frames:
        raise RangeOutsideVideo(path=name, range=f"frames {first}:{last}", duration=f"{index.frames} frames")
    if first == last:
        return
    with open_file(source, name=name) as (file, shown):
        keys = _keys_before(index, first) if index.can_seek else []
        if keys:
            with open_media(file, name=shown) as container:
                stream = _prepared(container, index, shown)
                for packet in _beginnings(container, stream, index, keys):
                    try:
                        yield from _follow(container, stream, packet, index, first, last, shown)
                        return
                    except _WrongBeginning:
                        continue
        with open_media(file, name=shown) as container:
            stream = _prepared(container, index, shown)
            try:
                yield from _follow(container, stream, None, index, first, last, shown)
            except _WrongBeginning as error:
                raise CorruptMedia(path=shown, at=str(error)) from error


def _prepared(container: InputContainer, index: MediaIndex, name: str) -> VideoStream:
    """The stream of the index, its decoder strict and threaded."""
    for stream in container.streams.video:
        if stream.index == index.stream:
            stream.thread_type, stream.thread_count = "AUTO", THREADS
            stream.codec_context.options = dict(STRICT)
            return stream
    raise CorruptMedia(path=name, detail=f"stream {index.stream} of its index is not a video")


def _keys_before(index: MediaIndex, first: int) -> list[int]:
    """Positions in the index's key packets, the nearest first; none where the beginning of the file is as near."""
    nearest = int(np.searchsorted(index.key_pts, index.pts[first], side="right")) - 1
    return list(range(nearest, max(-1, nearest - KEYS_TRIED), -1)) if nearest > 0 else []


def _beginnings(
    container: InputContainer, stream: VideoStream, index: MediaIndex, keys: Sequence[int]
) -> Iterator[Packet[VideoStream]]:
    """The first packet of a decode for each key packet, where the demuxer can be brought to it."""
    for key in keys:
        for earlier in EARLIER_S:
            packet = _seek(container, stream, index, key, earlier)
            if packet is not None:
                yield packet
                break


def _seek(
    container: InputContainer, stream: VideoStream, index: MediaIndex, key: int, earlier_s: int
) -> Packet[VideoStream] | None:
    """Go to a key packet and give the first key packet that is met, if it is not behind the one wanted."""
    wanted = int(index.key_dts[key]) - round(earlier_s / index.time_base)
    try:
        container.seek(wanted, stream=stream, backward=True)
        for packet in container.demux(stream):
            if packet.size and packet.is_keyframe:
                return packet if packet.pts is not None and packet.pts <= index.key_pts[key] else None
    except av.error.FFmpegError:
        # A format that cannot seek there; an earlier beginning is tried, at last the start, which needs none.
        return None
    return None


def _follow(
    container: InputContainer,
    stream: VideoStream,
    begin: Packet[VideoStream] | None,
    index: MediaIndex,
    first: int,
    last: int,
    name: str,
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode on from a key packet, or from the start of the file, and hold every frame against the index."""
    times = index.pts
    expected = 0 if begin is None else int(np.searchsorted(times, begin.pts or 0))
    begun, given = expected, 0
    lead_in = LeadIn(memory=THREADS + 1)
    for packet in _packets(container, stream, begin, index, expected, name):
        lead_in.sees(packet)
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            if lead_in.excuses():
                continue
            raise _damage(expected, given, name, str(error.strerror)) from error
        for frame in frames:
            if index.can_seek:
                if frame.pts is None or frame.pts < times[expected]:
                    if expected > begun:
                        raise _damage(expected, given, name, f"a frame at {frame.pts} is out of order")
                    continue  # leading pictures of an open GOP, shown before the key frame
                if frame.pts > times[expected]:
                    raise _damage(expected, given, name, f"the next frame there is at {frame.pts}")
            if expected >= first:
                if frame.is_corrupt:
                    raise _damage(expected, given, name, "it is damaged")
                yield expected, frame
                given += 1
            expected += 1
            if expected == last:
                return
    if begin is not None and not given:
        raise _WrongBeginning(f"frame {expected}")
    raise TruncatedMedia(path=name, detail=f"frame {expected} of {index.frames} is not there")


def _packets(
    container: InputContainer,
    stream: VideoStream,
    begin: Packet[VideoStream] | None,
    index: MediaIndex,
    expected: int,
    name: str,
) -> Iterator[Packet[VideoStream]]:
    """The packets to decode. The demuxer stands behind `begin`; asking it again goes on from there."""
    try:
        if begin is not None:
            yield begin
        yield from container.demux(stream)
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise CorruptMedia(path=name, at=f"a packet behind frame {expected}", detail=str(error.strerror)) from error


def _damage(expected: int, given: int, name: str, detail: str) -> Exception:
    """Before anything was given, another beginning may mend it; afterwards it is the file's fault."""
    if not given:
        return _WrongBeginning(f"frame {expected}: {detail}")
    return CorruptMedia(path=name, at=f"frame {expected}", detail=detail)
