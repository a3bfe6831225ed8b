"""What a file is by its first bytes: one of our containers, something that names other files, or something else."""

from __future__ import annotations

from typing import IO, Final

from services.common.errors import FormatRefused, NotAVideo

CONTAINERS: Final = frozenset({"mp4", "matroska", "mpeg", "mpegts", "gif", "avi", "flv"})
"""The names that `kind_of` gives to what we read."""

_HEAD_BYTES: Final = 4096

_MAGIC: Final = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpeg"),
    (b"GIF8", "gif"),
    (b"FLV\x01", "flv"),
    (b"\x89PNG", "PNG picture"),
    (b"\xff\xd8\xff", "JPEG picture"),
    (b"ID3", "MP3 sound"),
    (b"fLaC", "FLAC sound"),
    (b"OggS", "Ogg"),
    (b"%PDF", "PDF document"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x30\x26\xb2\x75", "Windows Media"),
)
MP4_TOP_LEVEL: Final = frozenset(
    b"ftyp moov mdat moof mfra free skip wide uuid pdin meta styp sidx ssix emsg prft pnot".split()
)
"""Boxes that stand at the top level of MP4 and QuickTime files."""

_NAMING_OTHERS: Final = (
    ("#extm3u", "HLS playlist"),
    ("ffconcat", "concat script"),
    ("file ", "concat script"),
    ("[playlist]", "playlist"),
    ("[reference]", "playlist"),
    ("v=0", "SDP session"),
    ("<mpd", "DASH manifest"),
    ("<smoothstreamingmedia", "streaming manifest"),
    ("<asx", "playlist"),
    ("<smil", "playlist"),
)


def kind_of(file: IO[bytes], *, shown: str) -> str:
    """Name what the file begins as; reads its first 4 KiB.

    Raises:
        FormatRefused: a text whose purpose is to name other files or addresses.
        NotAVideo: an empty file.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if not head:
        raise NotAVideo(path=shown, found="an empty file")
    if head[4:8] in MP4_TOP_LEVEL:
        return "mp4"
    if head[:4] == b"RIFF":
        return {b"AVI ": "avi", b"WEBP": "WebP picture", b"WAVE": "WAV sound"}.get(head[8:12], "RIFF file")
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    for packet in (188, 192, 204):
        start = 4 if packet == 192 else 0
        if len(head) > start + 3 * packet and all(head[start + n * packet] == 0x47 for n in range(3)):
            return "mpegts"
    return _kind_of_text(head, shown) or "unknown bytes"


def _kind_of_text(head: bytes, shown: str) -> str | None:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace").strip().lower()
    printable = sum(c.isprintable() or c.isspace() for c in text) / max(1, len(text))
    if printable < 0.95 or "\ufffd" in text[:-1]:
        return None
    for mark, name in _NAMING_OTHERS:
        if text.startswith(mark) or (mark.startswith("<") and mark in text):
            raise FormatRefused(path=shown, format=name)
    return "text"
