"""Listing the displayed frames of a video, with their times, exactly.

Reading packets is a hundred times cheaper than decoding them and gives the same list wherever the packets tell the
truth; where they may not (`_Listing.is_doubtful`), the list is taken from a decode of the whole video. Either way
nothing is passed over in silence: what is missing, broken or out of place inside the video is an error.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import av.error
import numpy as np

from services.common.errors import CorruptMedia, NoVideoFrames, TruncatedMedia
from services.common.media.container import open_file, open_media, video_of
from services.common.media.index import MediaIndex
from services.common.media.signatures import kind_of
from services.common.media.tables import check_tables
from services.ingest.limits import MediaLimits
from services.ingest.probing import Probe, probe

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

PLAIN_CODECS: Final = frozenset(
    {"h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "prores", "mjpeg", "gif", "ffv1", "png", "dnxhd"}
)
"""One packet, one displayed frame. VP8 hides frames, MPEG-4 part 2 packs two into one; others we do not know."""

PLAIN_CONTAINERS: Final = frozenset({"mov", "mp4", "matroska", "webm", "mpegts", "mpeg", "gif", "flv"})
"""AVI states no presentation times."""

MOST_PROVISIONAL: Final = 2 * 60 * 60 * 60
"""Frames that a probe believes in; a duration is a number that anybody can write."""

STRICT: Final = {"err_detect": "explode"}
"""Decoders conceal damage by default and call it a frame. A damaged frame is an error here, never a smear."""


@dataclass(slots=True)
class _Listing:
    """Displayed frames as they were met: pts and durations side by side, and the key packets.

    Attributes:
        is_doubtful: packets may not tell the truth about frames.
        has_gaps: packets were met of which a part is missing.
    """

    pts: list[int | None] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    keys: list[tuple[int, int]] = field(default_factory=list)
    is_doubtful: bool = False
    has_gaps: bool = False


def index_video(source: Path | IO[bytes], limits: MediaLimits, *, name: str | None = None) -> MediaIndex:
    """Probe a video and list its frames.

    Each pass opens the container anew: going back to the first packet is not exact in every format.

    Args:
        source: as `open_media` takes it.
        limits: what is refused.
        name: for errors.

    Raises:
        CorruptMedia, TruncatedMedia, NoVideoFrames, MediaLimitExceeded, and whatever `probe` raises.
    """
    with open_file(source, name=name) as (file, shown):
        with open_media(file, name=shown) as container:
            probed = probe(container, limits, name=shown)
        check_tables(file, kind_of(file, shown=shown), shown=shown)
        with open_media(file, name=shown) as container:
            listing = _list_packets(container, video_of(container), probed, limits, name=shown)
        if listing.is_doubtful:
            with open_media(file, name=shown) as container:
                decoded = _list_decoded(container, video_of(container), listing.keys, limits, name=shown)
            if listing.has_gaps:
                _check_none_lost(listing, decoded, name=shown)
            listing = decoded
    if not listing.pts:
        raise NoVideoFrames(path=shown, codec=probed.codec)
    index = _index_of(listing, probed)
    _check(index, limits, name=shown)
    return index


def provisional_index(probed: Probe) -> MediaIndex:
    """An index out of what the file says, its frames evenly spread: for looking at, never for decoding."""
    step = max(1, round(1 / probed.rate / probed.time_base))
    frames = probed.frames or (probed.duration or 0) // step
    frames = min(max(1, frames), MOST_PROVISIONAL)
    start = probed.start or 0
    return MediaIndex(
        container=probed.container,
        codec=probed.codec,
        stream=probed.stream,
        picture=probed.picture,
        time_base=probed.time_base,
        pts=start + step * np.arange(frames, dtype=np.int64),
        end=start + (probed.duration or frames * step),
        key_pts=np.empty(0, np.int64),
        key_dts=np.empty(0, np.int64),
        others=probed.others,
        chapters=probed.chapters,
        notes=probed.notes,
    )


def _list_packets(
    container: InputContainer, stream: VideoStream, probed: Probe, limits: MediaLimits, *, name: str
) -> _Listing:
    listing = _Listing()
    packets = 0
    first_is_key = is_cut = False
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            first_is_key = packet.is_keyframe if packets == 0 else first_is_key
            packets += 1
            is_cut = is_cut or packet.is_corrupt
            if packet.is_keyframe and packet.pts is not None:
                listing.keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            if not packet.is_discard:  # hidden by an edit list: needed to decode, not displayed
                listing.pts.append(packet.pts)
                listing.durations.append(packet.duration or 0)
                limits.check_frames(len(listing.pts), name=name)
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise CorruptMedia(path=name, at=f"packet {packets}", detail=str(error.strerror)) from error
    if "mov" in probed.container and packets < len(stream.index_entries):
        raise TruncatedMedia(path=name, detail=f"{packets} of {len(stream.index_entries)} frames are there")
    if is_cut and "mov" in probed.container:
        raise TruncatedMedia(path=name, detail="a frame is not all there")
    known = [pts for pts in listing.pts if pts is not None]
    listing.has_gaps = is_cut
    listing.is_doubtful = (
        is_cut
        or not first_is_key
        or len(set(known)) < len(listing.pts)
        or (bool(known) and min(known) != listing.pts[0])  # leading pictures of a GOP whose start was cut off
        or probed.codec not in PLAIN_CODECS
        or not PLAIN_CONTAINERS & set(probed.container.split(","))
    )
    if not listing.is_doubtful:
        order = sorted(range(len(known)), key=known.__getitem__)
        listing.pts = [known[n] for n in order]
        listing.durations = [listing.durations[n] for n in order]
    return listing


def _check_none_lost(packets: _Listing, decoded: _Listing, *, name: str) -> None:
    """Parts of the stream are missing. At the joint of two recordings that costs no frame; elsewhere it does."""
    begin = min((pts for pts, _ in packets.keys), default=0)
    expected = sum(pts is not None and pts >= begin for pts in packets.pts)
    if len(decoded.pts) < expected:
        raise CorruptMedia(path=name, detail=f"{expected - len(decoded.pts)} of {expected} frames cannot be decoded")


def _list_decoded(
    container: InputContainer,
    stream: VideoStream,
    keys: Sequence[tuple[int, int]],
    limits: MediaLimits,
    *,
    name: str,
) -> _Listing:
    """The frames that really come out. One thread: then an error belongs to the packet just given."""
    listing = _Listing(keys=list(keys))
    stream.thread_type, stream.thread_count = "SLICE", 1
    stream.codec_context.options = dict(STRICT)
    start = LeadIn(memory=1)
    packets = 0
    try:
        for packet in container.demux(stream):
            packets += 1
            start.sees(packet)
            try:
                frames = packet.decode()
            except av.error.InvalidDataError as error:
                if not start.excuses():
                    raise CorruptMedia(path=name, at=f"frame {len(listing.pts)}", detail=str(error.strerror)) from error
                continue
            for frame in frames:
                if frame.is_corrupt:
                    raise CorruptMedia(path=name, at=f"frame {len(listing.pts)}", detail="it is damaged")
                listing.pts.append(frame.pts)
                listing.durations.append(frame.duration or 0)
            limits.check_frames(len(listing.pts), name=name)
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise CorruptMedia(path=name, at=f"packet {packets}", detail=str(error.strerror)) from error
    return listing


class LeadIn:
    """Which broken packets are excused: those shown before the key packet at which decoding began.

    A recording that begins in the middle of a GOP, and a seek to an open GOP, both start with pictures whose references
    were never seen. They are no frames and no damage. Everything else that a decoder refuses is damage.
    """

    def __init__(self, *, memory: int) -> None:
        """Remember as many packets as the decoder may be late with an error: its threads."""
        self._key_pts: int | None = None
        self._has_key = False
        self._recent: deque[bool] = deque(maxlen=memory)

    def sees(self, packet: Packet[VideoStream]) -> None:
        """Take note of the packet that is decoded next."""
        if packet.is_keyframe and not self._has_key:
            self._has_key, self._key_pts = True, packet.pts
        is_before = packet.pts is not None and self._key_pts is not None and packet.pts < self._key_pts
        self._recent.append(not self._has_key or is_before)

    def excuses(self) -> bool:
        """Whether an error now may belong to a packet before the beginning."""
        return any(self._recent)


def _index_of(listing: _Listing, probed: Probe) -> MediaIndex:
    step = max(1, round(1 / probed.rate / probed.time_base))
    pts, filled = fill_missing(listing.pts, step)
    moved = separate(pts)
    keys = np.array(sorted(set(listing.keys)), np.int64).reshape(-1, 2)
    return MediaIndex(
        container=probed.container,
        codec=probed.codec,
        stream=probed.stream,
        picture=probed.picture,
        time_base=probed.time_base,
        pts=np.array(pts, np.int64),
        end=_end_of(pts, listing.durations[-1] or step, probed),
        key_pts=np.ascontiguousarray(keys[:, 0]),
        key_dts=np.ascontiguousarray(keys[:, 1]),
        filled=filled,
        moved=moved,
        others=probed.others,
        chapters=probed.chapters,
        notes=probed.notes,
    )


def fill_missing(pts: Sequence[int | None], step: int) -> tuple[list[int], int]:
    """Count missing times back from the first known one and on from every other.

    Returns:
        All times in the same order, and how many were missing.
    """
    filled: list[int] = []
    first_known = next((n for n, time in enumerate(pts) if time is not None), None)
    if first_known is None:
        return [n * step for n in range(len(pts))], len(pts)
    anchor = pts[first_known]
    assert anchor is not None
    for n, time in enumerate(pts):
        if time is not None:
            filled.append(time)
        else:
            filled.append(anchor - (first_known - n) * step if n < first_known else filled[-1] + step)
    return filled, sum(time is None for time in pts)


def separate(pts: list[int]) -> int:
    """Move each time that is not after its predecessor to one tick behind it; say how many were moved."""
    moved = 0
    for n in range(1, len(pts)):
        if pts[n] <= pts[n - 1]:
            pts[n] = pts[n - 1] + 1
            moved += 1
    return moved


def _end_of(pts: Sequence[int], last_duration: int, probed: Probe) -> int:
    """When the last frame is over.

    At a constant rate, one step after it. In MP4 with B-frames a packet's duration is the distance of decoding times,
    so there the track's own duration is asked; elsewhere the frame's.
    """
    steps = {later - earlier for earlier, later in itertools.pairwise(pts)}
    if len(steps) == 1:
        return pts[-1] + steps.pop()
    if "mov" in probed.container and probed.duration and probed.start is not None:
        stated = probed.start + probed.duration
        if stated > pts[-1]:
            return stated
    return pts[-1] + last_duration


def _check(index: MediaIndex, limits: MediaLimits, *, name: str) -> None:
    limits.check_duration(index.duration, name=name)
    if index.frames > 1:
        limits.check_gap(int(np.diff(index.pts).max()) * index.time_base, name=name)
        limits.check_rate(Fraction(index.frames - 1) / (int(index.pts[-1] - index.pts[0]) * index.time_base), name=name)
