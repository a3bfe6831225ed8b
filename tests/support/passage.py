"""A video through segments and back into a file, with nothing changed on the way: what timing is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.common.colour import ColourTags
from services.common.media.container import open_media, video_of
from services.common.media.index import MediaIndex
from services.common.planes import Planes, digest, planes_nbytes
from services.compositor.assembling import Assembled, Assembly, assemble
from services.compositor.carriage import Container
from services.compositor.encoding import EncodeSettings, SegmentEncoder, settings_for, shape_of
from services.compositor.soundcut import samples_of
from services.compositor.timetable import Range, Timetable, timetable
from services.compositor.verifying import Promise, Verdict, verify
from services.ingest.decoding import decode_range
from services.ingest.indexing import index_video
from services.ingest.limits import MediaLimits
from services.ingest.upright import Uprighter

LOSSLESS = EncodeSettings(preset="ultrafast", crf=0)


@dataclass(frozen=True, slots=True)
class Passage:
    """What went in and what came out."""

    source: Path
    output: Path
    index: MediaIndex
    table: Timetable
    assembled: Assembled
    sent: Sequence[bytes]
    """Digest of the planes of each frame that was encoded, in order."""

    def verdict(self) -> Verdict:
        """The structural gates."""
        return verify(Promise(self.output, self.source, self.table, self.assembled.offset))


def planes_of(source: Path, index: MediaIndex, first: int, last: int) -> Iterator[Planes]:
    """Upright planes of a range, as Decode gives them."""
    uprighter = Uprighter(index.picture)
    for number, frame in decode_range(source, index, first, last):
        buffer = bytearray(planes_nbytes(index.width, index.height))
        planes = Planes.view(buffer, index.width, index.height, index.colour)
        uprighter.write(uprighter.stored(frame, number=number), planes)
        yield planes


def pass_through(
    source: Path,
    folder: Path,
    *,
    segments: int = 3,
    container: Container = Container.MP4,
    keep: Sequence[Range] = (),
    settings: EncodeSettings = LOSSLESS,
) -> Passage:
    """Cut, encode without loss, put together again."""
    index = index_video(source, MediaLimits())
    chosen = settings_for(container.suffix, settings)
    paths: list[Path] = []
    sent: list[bytes] = []
    bounds = [round(index.frames * n / segments) for n in range(segments + 1)]
    for first, last in pairwise(bounds):
        whole = [Range(first, last)] if first < last else []
        runs = [run for part in keep if (run := part.clipped(first, last))] if keep else whole
        if not runs:
            continue
        paths.append(folder / f"segment{first}.mp4")
        encoder = SegmentEncoder(paths[-1], shape_of(index), chosen)
        for run in runs:
            for planes in planes_of(source, index, run.first, run.last):
                encoder.add(planes)
                sent.append(digest(planes))
        encoder.finish()
    table = timetable(pts=index.pts, end=index.end, time_base=index.time_base, keep=keep)
    output = folder / f"output{container.suffix}"
    work = Assembly(source, paths, table, container, chosen, output, tags={"comment": "made by Masquerade"})
    return Passage(source, output, index, table, assemble(work), sent)


def decoded_digests(path: Path) -> list[bytes]:
    """Digest of every frame of a finished file, as any player decodes it."""
    found = []
    with open_media(path) as container:
        stream = video_of(container)
        for frame in container.decode(stream):
            planes = [
                np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
                for plane in frame.planes
            ]
            found.append(digest(Planes(planes[0], planes[1], planes[2], ColourTags(6, 1))))
    return found


def packets(path: Path) -> list[tuple[int, int]]:
    """PTS and DTS of the video's packets, in the file's order."""
    with open_media(path) as container:
        stream = video_of(container)
        return [(packet.pts or 0, packet.dts or 0) for packet in container.demux(stream) if packet.size]


def heard(path: Path, stream: int = 0) -> tuple[Fraction, NDArray[np.float32]]:
    """Time of the first sample and (channels, n) samples of a sound track."""
    with open_media(path) as container:
        track = container.streams.audio[stream]
        frames = list(container.decode(track))
        start = Fraction(frames[0].pts or 0) * Fraction(frames[0].time_base or 1)
        return start, np.concatenate([samples_of(frame) for frame in frames], axis=1)


def track_seconds(path: Path) -> Fraction:
    """Length of the video track as the container states it."""
    with open_media(path) as container:
        stream = video_of(container)
        return Fraction(stream.duration or 0) * Fraction(stream.time_base or 1)
