"""What runs in a child process: everything that reads the source's container or decodes its streams.

Named to `services.common.child` and called there, with limits. They take and give JSON; files are named by paths of
ours, never by anything that a stranger said.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error

from services.common.errors import CorruptMedia, NoSpace
from services.common.media.index import read_index
from services.compositor.assembling import Assembly, assemble
from services.compositor.carriage import Container
from services.compositor.encoding import EncodeSettings
from services.compositor.timetable import Range, Timetable, timetable
from services.compositor.verifying import Promise, verify


def assemble_files(
    paths: Mapping[str, Any], index: bytes, keep: Sequence[Sequence[int]], how: Mapping[str, Any]
) -> Any:
    """Put a file together; `paths` names source, segments and output."""
    work = Assembly(
        source=Path(paths["source"]),
        segments=[Path(segment) for segment in paths["segments"]],
        table=_table(index, keep),
        container=Container(how["container"]),
        settings=EncodeSettings(**how["settings"]),
        output=Path(paths["output"]),
        tags=how["tags"],
    )
    try:
        done = assemble(work)
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(path=str(work.output.parent)) from error
        # Segments were counted when they were stored: what is left to break is the source.
        raise CorruptMedia(detail=str(error.strerror)) from error
    return {
        "frames": done.frames,
        "offset": [done.offset.numerator, done.offset.denominator],
        "remarks": list(done.remarks),
    }


def verify_file(paths: Mapping[str, str], index: bytes, keep: Sequence[Sequence[int]], offset: Sequence[int]) -> Any:
    """Hold a file against its promise; `paths` names source and file."""
    verdict = verify(
        Promise(Path(paths["file"]), Path(paths["source"]), _table(index, keep), Fraction(offset[0], offset[1]))
    )
    worst = verdict.max_pts_error
    return {
        "frames": verdict.frames,
        "max_pts_error": [worst.numerator, worst.denominator],
        "gates": list(verdict.gates),
    }


def packed_settings(settings: EncodeSettings) -> dict[str, Any]:
    """Settings as JSON can hold them."""
    return asdict(settings)


def _table(index: bytes, keep: Sequence[Sequence[int]]) -> Timetable:
    known = read_index(index)
    ranges = [Range(first, last) for first, last in keep]
    return timetable(pts=known.pts, end=known.end, time_base=known.time_base, keep=ranges)
