"""Opening a video that a stranger sent: one door, for every process that reads media.

FFmpeg reads far more than videos: playlists, concat scripts and session descriptions name other files and addresses,
and it follows them. Three things stand against that here, each enough alone: the file is an open descriptor and never
a name, only the formats on our list are tried, and no protocol may be opened from inside. The list is closed: a format
is added by adding it here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NoReturn

import av
import av.error
import av.logging

# PyAV loads it with its first container, which may be in a child that has no memory for it.
import av.subtitles.stream
from av.stream import Disposition

from services.common.errors import CorruptMedia, InputMissing, NotAVideo, NoVideoFrames, NoVideoStream
from services.common.media import signatures, structure
from services.common.media.reading import WatchedFile, watched

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

FORMATS: Final = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "mpeg", "mpegts", "gif", "avi", "flv")
"""FFmpeg's names of the demuxers that may be tried."""

_OPEN_OPTIONS: Final = {
    "format_whitelist": ",".join(FORMATS),
    # An empty list would mean "all"; there is no protocol of this name.
    "protocol_whitelist": "none",
}
_BUFFER_BYTES: Final = 256 * 1024

# Any other level deadlocks with frame threads: a codec's thread logs and waits for the GIL that close() holds.
av.logging.set_level(None)


@contextmanager
def open_media(source: Path | IO[bytes], *, name: str | None = None) -> Iterator[InputContainer]:
    """Open a video for reading; the file and the container are closed on the way out.

    Args:
        source: a path of ours, or a binary file that can seek; left open if it was given open.
        name: what people call the file, for errors; the path's own name by default.

    Raises:
        FormatRefused, NotAVideo, TruncatedMedia, CorruptMedia: told apart by what the bytes say.
        MemoryError: there was not enough of it to open or to read the file.
    """
    with (
        open_file(source, name=name) as (file, shown),
        watched(file) as reading,
        _opened(file, reading, shown) as container,
    ):
        yield container


@contextmanager
def open_file(source: Path | IO[bytes], *, name: str | None = None) -> Iterator[tuple[IO[bytes], str]]:
    """A file to read and what people call it; closed on the way out if it was opened here.

    Raises:
        InputMissing: it is not there or may not be read.
    """
    if not isinstance(source, Path):
        yield source, name or "the video"
        return
    shown = name or source.name
    try:
        opened = source.open("rb")
    except OSError as error:
        raise InputMissing(path=shown, detail=error.strerror) from error
    with opened:
        yield opened, shown


@contextmanager
def _opened(file: IO[bytes], reading: WatchedFile, shown: str) -> Iterator[InputContainer]:
    size = os.fstat(file.fileno()).st_size
    kind = signatures.kind_of(file, shown=shown)
    if kind in signatures.CONTAINERS:
        structure.check_whole(file, kind, size_bytes=size, shown=shown)
    file.seek(0)
    try:
        # Every nested file that a demuxer asks for goes through io_open, and there is none.
        container = av.open(
            reading,
            "r",
            container_options=dict(_OPEN_OPTIONS),
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
            io_open=_refuse_nested,
        )
    except (av.error.FFmpegError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise MemoryError("opening the container") from error
        if isinstance(error, av.error.EOFError):
            # A whole file, as far as it says, that ends where its first frame would be.
            raise NoVideoFrames(path=shown) from error
        if kind in signatures.CONTAINERS:
            raise CorruptMedia(path=shown, detail=_said(error)) from error
        raise NotAVideo(path=shown, found=kind) from error
    with container:
        yield container


def _refuse_nested(url: str, *_: object) -> NoReturn:
    raise PermissionError(f"a media file may not open another one: {url!r}")


def _said(error: Exception) -> str:
    return error.strerror if isinstance(error, av.error.FFmpegError) and error.strerror else type(error).__name__


def video_of(container: InputContainer, *, name: str = "the video") -> VideoStream:
    """The stream that is watched: the first video stream that is no cover picture.

    Raises:
        NoVideoStream: there is none; says what there is instead.
    """
    for stream in container.streams.video:
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails):
            return stream
    kinds = sorted({"cover picture" if s.type == "video" else s.type for s in container.streams})
    raise NoVideoStream(path=name, found=", ".join(kinds) or "nothing")
