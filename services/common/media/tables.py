"""Whether a container's own tables agree with each other.

Demuxers mend what they can: a sample table that contradicts itself is cut to its shortest part, a damaged cluster is
skipped to the next. Either loses frames without a word, so the tables are held against each other before they are
believed. Read once for each video, by indexing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final, TypeAlias

from services.common.errors import CorruptMedia, TruncatedMedia
from services.common.media.structure import EBML_UNKNOWN, read_vint

_PATH_TO_TRACKS: Final = (b"moov", b"trak", b"mdia")
_PATH_TO_TABLES: Final = (b"minf", b"stbl")
_MOST_ENTRIES: Final = 1 << 26

_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_BLOCKS: Final = frozenset({0xA3, 0xA0})
"""SimpleBlock and BlockGroup."""
_KNOWN: Final = {
    # SeekHead, Info, Tracks, Cues, Chapters, Tags, Attachments, Void, CRC-32: RFC 9559, section 5.1.
    _SEGMENT: frozenset(
        {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1043A770, 0x1254C367, 0x1941A469, 0xEC, 0xBF}
    ),
    # Timestamp, SilentTracks, Position, PrevSize, EncryptedBlock, Void, CRC-32: section 5.1.3.
    _CLUSTER: frozenset({0xE7, 0x5854, 0xA7, 0xAB, 0xAF, 0xEC, 0xBF}),
}


def check_tables(file: IO[bytes], kind: str, *, shown: str) -> None:
    """Compare what the tables of MP4 and Matroska say.

    Args:
        file: seekable; its position is lost.
        kind: a name out of `signatures.CONTAINERS`; others are not looked at.
        shown: the file's name for errors.

    Raises:
        CorruptMedia, TruncatedMedia.
    """
    if kind == "mp4":
        size_bytes = file.seek(0, io.SEEK_END)
        for table in _sample_tables(file, shown):
            table.check(size_bytes, shown)
    elif kind == "matroska":
        _check_clusters(file, shown)


Span: TypeAlias = tuple[int, int]
"""Where something begins and ends in the file."""


@dataclass(slots=True)
class _SampleTable:
    """How many samples a track has, by three tables that must agree (ISO 14496-12, 8.6.1.2, 8.7.3 and 8.7.4).

    Attributes:
        nbytes: length of all samples.
        furthest: where the last chunk begins in the file.
    """

    by_size: int = 0
    by_time: int = 0
    by_chunk: int | None = None
    nbytes: int = 0
    furthest: int = 0

    def check(self, size_bytes: int, shown: str) -> None:
        # Times may be one too few or too many: cameras that are switched off do that, and no frame is lost by it.
        if abs(self.by_time - self.by_size) > 1 or self.by_chunk not in (None, self.by_size):
            said = f"{self.by_size} sizes, {self.by_time} times, {self.by_chunk} places of samples"
            raise CorruptMedia(path=shown, at="its index", detail=said)
        if self.nbytes > size_bytes or self.furthest > size_bytes:
            raise CorruptMedia(path=shown, at="its index", detail=f"frames beyond the {size_bytes} bytes of the file")


def _sample_tables(file: IO[bytes], shown: str) -> Iterator[_SampleTable]:
    file.seek(0, io.SEEK_END)
    for media in _descend(file, [(0, file.tell())], _PATH_TO_TRACKS, shown):
        if not _is_video(file, media, shown):
            continue  # sound's tables have quirks of old QuickTime that mean nothing to us
        for start, stop in _descend(file, [media], _PATH_TO_TABLES, shown):
            boxes = {name: (at, end) for name, at, end in _boxes(file, start, stop, shown)}
            yield _sample_table(file, boxes)


def _descend(file: IO[bytes], spans: list[Span], path: tuple[bytes, ...], shown: str) -> list[Span]:
    """The insides of all boxes at the end of a path."""
    for kind in path:
        spans = [
            (at, end) for start, stop in spans for name, at, end in _boxes(file, start, stop, shown) if name == kind
        ]
    return spans


def _is_video(file: IO[bytes], media: Span, shown: str) -> bool:
    for name, at, _ in _boxes(file, *media, shown):
        if name == b"hdlr":
            file.seek(at + 8)
            return file.read(4) == b"vide"
    return False


def _sample_table(file: IO[bytes], boxes: dict[bytes, Span]) -> _SampleTable:
    table = _SampleTable()
    if b"stsz" in boxes:
        file.seek(boxes[b"stsz"][0] + 4)
        each = _u32(file)
        table.by_size = _u32(file)
        start, end = boxes[b"stsz"]
        table.nbytes = each * table.by_size or sum(size for (size,) in _entries(file, (start + 4, end), 1))
    elif b"stz2" in boxes:
        file.seek(boxes[b"stz2"][0] + 8)
        table.by_size = _u32(file)
    if b"stts" in boxes:
        table.by_time = sum(count for count, _ in _entries(file, boxes[b"stts"], 2))
    chunks = boxes.get(b"stco", boxes.get(b"co64"))
    if b"stsc" in boxes and chunks is not None:
        wide = b"stco" not in boxes
        places = [row[-1] + (row[0] << 32 if wide else 0) for row in _entries(file, chunks, 2 if wide else 1)]
        count, table.furthest = len(places), max(places, default=0)
        runs = [(first, samples) for first, samples, _ in _entries(file, boxes[b"stsc"], 3)]
        ends = [*(first for first, _ in runs[1:]), *([count + 1] if runs else [])]
        table.by_chunk = sum((end - first) * samples for (first, samples), end in zip(runs, ends, strict=True))
    return table


def _boxes(file: IO[bytes], start: int, stop: int, shown: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, beginning of the content and end of each box between two places."""
    at = start
    while at + 8 <= stop:
        file.seek(at)
        header = file.read(16)
        length, name, content = int.from_bytes(header[:4], "big"), header[4:8], at + 8
        if length == 1:
            length, content = int.from_bytes(header[8:16], "big"), at + 16
        end = stop if length == 0 else at + length
        if end < content or end > stop:
            if start == 0:
                return  # what follows the last box of a file is not ours to judge
            raise CorruptMedia(path=shown, at=f"byte {at}", detail="a box reaches beyond the one around it")
        yield name, content, end
        at = end


def _entries(file: IO[bytes], box: Span, width: int) -> Iterator[tuple[int, ...]]:
    """Rows of `width` 32-bit numbers of a full box, at most as many as fit into it."""
    file.seek(box[0] + 4)
    count = min(_u32(file), (box[1] - box[0] - 8) // (4 * width), _MOST_ENTRIES)
    rows = file.read(4 * width * count)
    for row in range(len(rows) // (4 * width)):
        at = 4 * width * row
        yield tuple(int.from_bytes(rows[at + 4 * n : at + 4 * n + 4], "big") for n in range(width))


def _u32(file: IO[bytes]) -> int:
    return int.from_bytes(file.read(4), "big")


def _check_clusters(file: IO[bytes], shown: str) -> None:
    """Walk the Segment and its clusters; where something unknown stands, something known was overwritten."""
    size = file.seek(0, io.SEEK_END)
    # Element headers are a few bytes each, so read through a buffer; it must not close what it did not open.
    buffered = io.BufferedReader(_Borrowed(file), 64 * 1024)  # type: ignore[type-var]
    buffered.seek(4)
    length, _ = read_vint(buffered)
    at = buffered.tell() + max(0, length)
    parent, end = 0, size
    while at < end:
        buffered.seek(at)
        identity = _identity(buffered)
        length, _ = read_vint(buffered)
        content = buffered.tell()
        if identity in (_SEGMENT, _CLUSTER):
            if identity == _SEGMENT and length != EBML_UNKNOWN:
                end = min(size, content + length)  # what is appended to a file is not ours to judge
            parent, at = identity, content  # walk on inside
            continue
        if parent == _CLUSTER and identity in _KNOWN[_SEGMENT] - _KNOWN[_CLUSTER]:
            parent = _SEGMENT  # a cluster ends where an element of the Segment begins
        is_known = identity in _KNOWN.get(parent, frozenset()) or (parent == _CLUSTER and identity in _BLOCKS)
        if not is_known or length == EBML_UNKNOWN:
            raise CorruptMedia(path=shown, at=f"byte {at}", detail=f"element {identity:X} does not belong there")
        at = content + length
    if at > size:
        raise TruncatedMedia(path=shown, detail=f"an element reaches to byte {at}, the file has {size}")


def _identity(file: IO[bytes]) -> int:
    """An element's id with its length marker, as the standard writes it."""
    first = file.read(1)
    if not first:
        return 0
    return int.from_bytes(first + file.read(8 - first[0].bit_length()), "big") if first[0] >= 0x10 else 0


class _Borrowed(io.RawIOBase):
    """A binary file to be read through a buffer and left open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        read = self._file.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)
