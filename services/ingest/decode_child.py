"""What runs in the child processes: everything that touches a stranger's bytes.

These functions are named to `services.common.child` and called there, with limits. They take and give JSON with bytes;
the media file and the memory for pixels come as descriptors.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import IO, Any

from services.common.child_wire import Channel
from services.common.colour import ColourTags
from services.common.errors import MasqueradeError
from services.common.lanes.views import CoverWanted, CropsWanted, PlanesWanted, RgbWanted, Span, ViewWanted
from services.common.media.container import open_media
from services.common.media.index import read_index, write_index
from services.ingest.decoding import decode_range
from services.ingest.indexing import index_video, provisional_index
from services.ingest.limits import MediaLimits
from services.ingest.probing import probe
from services.ingest.views import ViewWriter


def probe_file(limits: Mapping[str, int], name: str, *, fds: Sequence[int]) -> bytes:
    """What the file in the first descriptor says of itself, as an index whose frames are counted, not looked at."""
    with _file(fds[0]) as file, open_media(file, name=name) as container:
        return write_index(provisional_index(probe(container, MediaLimits.of(limits), name=name)))


def index_file(limits: Mapping[str, int], name: str, *, fds: Sequence[int]) -> bytes:
    """The index of the file in the first descriptor, as its bytes."""
    with _file(fds[0]) as file:
        return write_index(index_video(file, MediaLimits.of(limits), name=name))


def decode_views(
    channel: Channel, index: bytes, first: int, last: int, views: Sequence[Mapping[str, Any]], name: str
) -> None:
    """Decode a range; hear slots as `[[offset, nbytes], ...]`, say `[number, ...]` when all heard are written.

    The first descriptor is the media file, the second the memory. A frame is decoded before its slot is waited for, so
    that decoding and consuming overlap by one frame.
    """
    media, region = channel.fds
    known = read_index(index)
    writer = ViewWriter(known.picture, [unpacked_view(view) for view in views], name=name)
    # Mapped at once: each page by itself would be a fault, 16,000 of them in a ring of 64 MiB. Unmapped by the end of
    # the process.
    whole = mmap.MAP_SHARED | mmap.MAP_POPULATE
    memory = memoryview(mmap.mmap(region, os.fstat(region).st_size, flags=whole))
    slots: deque[tuple[int, int]] = deque()
    written: list[int] = []
    with _file(media) as file:
        try:
            for number, frame in decode_range(file, known, first, last, name=name):
                if not slots:
                    slots.extend(channel.receive())
                offset, nbytes = slots.popleft()
                writer.write(number, frame, memory[offset : offset + nbytes])
                written.append(number)
                if not slots:
                    channel.send(written)
                    written = []
        except MasqueradeError:
            # What is whole is given, the error comes behind it.
            if written:
                channel.send(written)
            raise


def _file(fd: int) -> IO[bytes]:
    return os.fdopen(fd, "rb", buffering=0, closefd=False)


def packed_view(view: ViewWanted) -> dict[str, Any]:
    """A view as JSON."""
    if isinstance(view, CropsWanted):
        boxes = {str(number): [list(box) for box in boxes] for number, boxes in view.boxes.items()}
        return {"kind": "crops", "frames": view.frames, "boxes": boxes}
    packed: dict[str, Any] = {"frames": view.frames, "width": view.width, "height": view.height}
    if isinstance(view, CoverWanted):
        return {**packed, "kind": "cover", "colour": asdict(view.colour)}
    return {**packed, "kind": "planes" if isinstance(view, PlanesWanted) else "rgb"}


def unpacked_view(packed: Mapping[str, Any]) -> ViewWanted:
    """The view that `packed_view` made JSON of."""
    frames: Span | None = None if packed["frames"] is None else (packed["frames"][0], packed["frames"][1])
    match packed["kind"]:
        case "crops":
            boxes = {int(n): [(b[0], b[1], b[2], b[3]) for b in group] for n, group in packed["boxes"].items()}
            return CropsWanted(boxes=boxes, frames=frames)
        case "cover":
            return CoverWanted(packed["width"], packed["height"], ColourTags(**packed["colour"]), frames)
        case "planes":
            return PlanesWanted(packed["width"], packed["height"], frames)
        case _:
            return RgbWanted(packed["width"], packed["height"], frames)
