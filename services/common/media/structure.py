"""Whether a file is as long as its own headers say.

A demuxer reads what is there and stops: half a file becomes half a video, without a word. Containers that state their
length are therefore asked before anything is decoded. MPEG streams state none; for them a broken last packet counts.
"""

from __future__ import annotations

from typing import IO, Final

from services.common.errors import CorruptMedia, TruncatedMedia
from services.common.media.signatures import MP4_TOP_LEVEL

EBML_UNKNOWN: Final = -1
_SEGMENT_ID: Final = 0x18538067


def check_whole(file: IO[bytes], kind: str, *, size_bytes: int, shown: str) -> None:
    """Compare the stated length with the real one.

    Args:
        kind: a name out of `signatures.CONTAINERS`.
        size_bytes: the file's length.

    Raises:
        TruncatedMedia: the file is shorter than it says.
    """
    if kind == "mp4":
        _check_boxes(file, size_bytes, shown)
    elif kind == "matroska":
        _check_segment(file, size_bytes, shown)
    elif kind == "avi":
        file.seek(4)
        _expect(8 + int.from_bytes(file.read(4), "little"), size_bytes, "RIFF", shown)
    elif kind == "mpegts":
        _check_packets(file, size_bytes, shown)
    elif kind == "gif":
        _check_gif(file, size_bytes, shown)
    elif kind == "flv":
        _check_tags(file, size_bytes, shown)


def _expect(end: int, size_bytes: int, part: str, shown: str) -> None:
    if end > size_bytes:
        raise TruncatedMedia(path=shown, detail=f"{part} reaches to byte {end}, the file has {size_bytes}")


def _check_boxes(file: IO[bytes], size_bytes: int, shown: str) -> None:
    """Walk the top level of ISO 14496-12; what follows the last known box is not ours to judge."""
    at, has_index = 0, False
    while at + 8 <= size_bytes:
        file.seek(at)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if kind not in MP4_TOP_LEVEL:
            break
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:  # reaches to the end by definition
            length = size_bytes - at
        if length < 8:
            raise CorruptMedia(path=shown, at=f"byte {at}", detail="a box shorter than its header")
        _expect(at + length, size_bytes, f"box {kind.decode()}", shown)
        has_index = has_index or kind in (b"moov", b"moof")
        at += length
    if not has_index:
        raise TruncatedMedia(path=shown, detail="the index (box moov) is missing")


def _check_segment(file: IO[bytes], size_bytes: int, shown: str) -> None:
    """EBML header, then the Segment: both say how long they are, unless the file was streamed as it was made."""
    file.seek(4)
    length, used = read_vint(file)
    file.seek(4 + used + max(0, length))
    if int.from_bytes(file.read(4), "big") != _SEGMENT_ID:
        return
    length, used = read_vint(file)
    if length != EBML_UNKNOWN:
        _expect(file.tell() + length, size_bytes, "Segment", shown)


def read_vint(file: IO[bytes]) -> tuple[int, int]:
    """An EBML length (RFC 8794, section 4) and the bytes it took; -1 where all bits are one: unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return EBML_UNKNOWN, 1
    width = 9 - first[0].bit_length()
    value = first[0] & (0xFF >> width)
    for byte in file.read(width - 1):
        value = value << 8 | byte
    return (EBML_UNKNOWN if value == (1 << 7 * width) - 1 else value), width


def _check_packets(file: IO[bytes], size_bytes: int, shown: str) -> None:
    file.seek(0)
    head = file.read(4 * 204 + 4)
    for packet, start in ((188, 0), (192, 4), (204, 0)):
        if all(head[start + n * packet] == 0x47 for n in range(3)):
            if size_bytes % packet:
                raise TruncatedMedia(path=shown, detail=f"the last packet has {size_bytes % packet} of {packet} bytes")
            return


def _check_gif(file: IO[bytes], size_bytes: int, shown: str) -> None:
    # The trailer may be followed by padding or by what somebody appended; a GIF cut in the middle has none at its end.
    file.seek(max(0, size_bytes - 4096))
    if b"\x00\x3b" not in file.read():
        raise TruncatedMedia(path=shown, detail="the GIF trailer is missing")


def _check_tags(file: IO[bytes], size_bytes: int, shown: str) -> None:
    """Walk the tags of FLV (11 bytes of header, data, 4 bytes of back pointer) to the last one."""
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    while at < size_bytes:
        file.seek(at)
        header = file.read(11)
        if len(header) < 11 or header[0] & 0x1F not in (8, 9, 18):
            break
        at += 11 + int.from_bytes(header[1:4], "big") + 4
        _expect(at, size_bytes, "an FLV tag", shown)
    else:
        return
    if len(header) < 11:
        raise TruncatedMedia(path=shown, detail="an FLV tag is cut off")
