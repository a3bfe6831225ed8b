"""All segments and the source's other streams into one file, without touching a picture.

Packets of the segments get their times from the timetable; sound, subtitles, chapters and tags come from the source.
Everything passes through in a stream: memory holds one segment's packets, whatever the video's length.

The source's container is hostile bytes: this runs in a child process with limits (`servicer.py`).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from services.common.errors import InvalidSpec
from services.common.media.container import open_media
from services.compositor import carriage, descriptions, sound, soundcut, subtitles
from services.compositor.carriage import Container, Way
from services.compositor.encoding import EncodeSettings
from services.compositor.remarks import Remarks
from services.compositor.timetable import DecodeOrder, Timetable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

    AnyPacket = Packet[Any]

# Sound that claims to lie further behind the picture's end than this is taken for a broken clock.
_SOUND_BEYOND_S = 60


@dataclass(frozen=True, slots=True)
class Assembly:
    """What to put together."""

    source: Path
    segments: Sequence[Path]
    table: Timetable
    container: Container
    settings: EncodeSettings
    output: Path
    tags: Mapping[str, str] = field(default_factory=dict)
    """Our own words for the file's metadata."""

    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Assembled:
    """What was put together."""

    frames: int
    offset: Fraction
    """Seconds subtracted from every time, so that the first stream begins at 0."""

    remarks: Sequence[str]


def assemble(work: Assembly) -> Assembled:
    """Write the output file."""
    remarks = Remarks()
    with open_media(work.source) as source, av.open(str(work.segments[0])) as first:
        offset = offset_of(work.source, work.table)
        with _open_output(work, source) as output:
            picture = output.add_stream_from_template(first.streams.video[0], opaque=True)
            picture.time_base = work.table.time_base
            tracks = _tracks(work, source, output, offset, remarks)
            output.metadata.update(descriptions.tags(source.metadata, work.tags, work.container))
            told = descriptions.chapters(
                source.chapters(), pieces=work.table.pieces, tick=work.table.time_base, offset=offset
            )
            output.set_chapters(told)  # type: ignore[arg-type]
            descriptions.copy_attachments(source, output, work.container, remarks)
            output.start_encoding()
            extradata = first.streams.video[0].codec_context.extradata
            seen = _video_packets(work, picture, extradata, offset)
            for _, packet in heapq.merge(seen, _other_packets(source, tracks), key=lambda pair: pair[0]):
                output.mux(packet)
    _remark_on_time(work, remarks)
    return Assembled(work.table.frames, offset, remarks.all())


def offset_of(source: Path, table: Timetable) -> Fraction:
    """What is subtracted from every time: the earliest first presented time of picture and sound.

    After a cut the picture begins at 0 and sound is cut to it.
    """
    if table.pieces:
        return table.start
    with open_media(source) as container:
        return min([table.start, *sound.first_heard(container).values()])


def _open_output(work: Assembly, source: InputContainer) -> OutputContainer:
    options = {}
    if work.container.is_mp4:
        rates = [stream.codec_context.sample_rate for stream in carriage.audible(source)]
        options = {
            "movflags": "+faststart",
            "video_track_timescale": str(work.table.time_base.denominator),
            "movie_timescale": str(sound.movie_scale(work.table.time_base, rates)),
            "use_editlist": "1",
            "write_tmcd": "0",
        }
    # Not `options=`: those would be pushed into every codec as well.
    return av.open(str(work.output), "w", format=work.container.value, container_options=options)


def _tracks(
    work: Assembly, source: InputContainer, output: OutputContainer, offset: Fraction, remarks: Remarks
) -> dict[int, sound.Track]:
    tracks: dict[int, sound.Track] = {}
    table = work.table
    for stream in carriage.audible(source):
        wanted = carriage.carriage(source, stream, work.container, is_cut=bool(table.pieces))
        if wanted.may_end_padded:
            remarks.add(f"audio stream {stream.index} ({wanted.way.value}) may end with up to one packet of padding")
        if wanted.way is Way.COPY:
            tracks[stream.index] = sound.AudioCopy(output, stream, offset=offset, on_grid=work.container.is_mp4)
            continue
        remarks.add(f"audio stream {stream.index} ({stream.codec_context.name}) is encoded once as {wanted.codec}")
        context = stream.codec_context
        # More than eight channels have no layout that encoders know: two of them are kept.
        rate, channels = context.sample_rate, context.channels if context.channels <= 8 else 2
        editor = (
            soundcut.Cutter(soundcut.cuts(table.pieces, table.time_base, rate), rate=rate, channels=channels)
            if table.pieces
            else soundcut.Shifter(round(offset * rate), channels=channels)
        )
        source_end = table.pieces[-1].end if table.pieces else table.end
        last = round((source_end * table.time_base + _SOUND_BEYOND_S) * rate)
        tracks[stream.index] = soundcut.AudioEncode(output, stream, wanted, editor=editor, last=last, remarks=remarks)
    tracks |= subtitles.subtitle_tracks(
        output,
        source.streams.subtitles,
        work.container,
        pieces=table.pieces,
        tick=table.time_base,
        offset=offset,
        remarks=remarks,
    )
    _remark_on_streams(source, remarks)
    return tracks


def _video_packets(
    work: Assembly, target: VideoStream, extradata: bytes | None, offset: Fraction
) -> Iterator[tuple[Fraction, AnyPacket]]:
    """The segments' packets in decoding order, each with its frame's own time."""
    table = work.table
    order = DecodeOrder(table, work.settings.delay)
    done = 0
    for path in work.segments:
        with av.open(str(path)) as segment:
            stream = segment.streams.video[0]
            if stream.codec_context.extradata != extradata:
                raise _refused(f"{path.name} was encoded with other headers than the first segment")
            packets = [packet for packet in segment.demux(stream) if packet.size]
        # Inside a segment times are only an order: the rank of a packet's is the number of its frame.
        rank = {pts: number for number, pts in enumerate(sorted(_times(packets)))}
        if len(rank) != len(packets) or not packets or not packets[0].is_keyframe:
            raise _refused(f"{path.name} does not hold one packet a frame, the first of them a key frame")
        if done + len(packets) > table.frames:
            raise _refused(f"the segments hold more than the {table.frames} frames that are kept")
        for number, packet in enumerate(packets, done):
            frame = done + rank[packet.pts or 0]
            packet.time_base = table.time_base
            packet.pts, packet.dts = int(table.pts[frame]), order.dts(number)
            packet.duration = order.duration(number, frame)
            if packet.dts > packet.pts:
                raise _refused(f"frame {frame} would be shown before it is decoded")
            sound.shift(packet, offset)
            packet.stream = target
            yield (packet.dts or 0) * table.time_base, packet
        done += len(packets)
    if done != table.frames:
        raise _refused(f"the segments hold {done} frames, {table.frames} are kept")


def _refused(problem: str) -> InvalidSpec:
    return InvalidSpec(field="segments", problem=problem)


def _times(packets: Sequence[AnyPacket]) -> list[int]:
    return [packet.pts for packet in packets if packet.pts is not None]


def _other_packets(source: InputContainer, tracks: Mapping[int, sound.Track]) -> Iterator[tuple[Fraction, AnyPacket]]:
    """Sound and subtitles, in the order in which the source holds them."""
    streams: list[Stream] = [stream for stream in source.streams if stream.index in tracks]
    if not streams:
        return
    reached = Fraction(-(10**9))
    made: Iterator[AnyPacket] = _taken(source, streams, tracks)
    for packet in made:
        # Streams lie side by side in the source and may be a little out of order; merging needs one that ascends.
        reached = max(reached, (packet.dts or 0) * Fraction(packet.time_base))
        yield reached, packet


def _taken(source: InputContainer, streams: Sequence[Stream], tracks: Mapping[int, sound.Track]) -> Iterator[AnyPacket]:
    for packet in source.demux(*streams):
        # A draining packet knows its stream, but its stream_index is 0.
        yield from tracks[packet.stream.index].take(packet)
    for track in tracks.values():
        yield from track.finish()


def _remark_on_streams(source: InputContainer, remarks: Remarks) -> None:
    heard = carriage.audible(source)
    for stream in source.streams:
        if stream.type == "video" and "attached_pic" in str(stream.disposition):
            remarks.add(f"the cover picture in stream {stream.index} is left out")
        elif stream.type == "audio" and stream not in heard:
            remarks.add(f"audio stream {stream.index} cannot be decoded by anybody and is left out")
        elif stream.type == "data" and not (stream.name == "bin_data" and source.chapters()):
            # A text track that MP4 keeps for chapters is made anew with them.
            remarks.add(f"the data in stream {stream.index} ({stream.name or 'unknown'}) is left out")


def _remark_on_time(work: Assembly, remarks: Remarks) -> None:
    tick = work.table.time_base
    if not work.container.is_mp4 and (tick / Fraction(1, 1000)).denominator != 1:
        remarks.add(f"{work.container.suffix} holds times in milliseconds: the source's ticks of {tick} s are rounded")
